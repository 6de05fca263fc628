"""Parse the values of flags. Every function raises ConfigurationError for an invalid value."""

import re
from datetime import UTC, datetime
from typing import Any, Final, Literal

import orjson

from maxgate.errors import ConfigurationError
from maxgate.loadtest.analysis.targets import OBJECTIVE_METRICS, split_percentile_target
from maxgate.loadtest.redaction import is_secret
from maxgate.results.report import DESIGN_TARGETS

_UNITS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "": 1.0}
_ALIASES: Final = {"e2e": "latency", "e2el": "latency", "itl": "chunk_gap"}
_MAX_SECONDS: Final = 1_000_000 * 3600.0
"""Limit of times: over a hundred years."""
_MAX_LOAD: Final = 1_000_000
"""Limit of rates and concurrency, far above what one machine can send."""
_HEADER_NAME: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110, section 5.6.2
_HEADER_VALUE: Final = r"[\t -~]*\Z"


def parse_duration(text: str, flag: str) -> float:
    """`500ms`, `1.5s`, `2m` or `30` in seconds."""
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([a-z]*)\s*", text.lower())
    flag_and_value = flag + text if flag.endswith("=") else f"{flag} {text}"
    if match is None or match[2] not in _UNITS:
        raise ConfigurationError(f"{flag_and_value}: expected a time such as 500ms, 1.5s or 2m")
    seconds = float(match[1]) * _UNITS[match[2]]
    if seconds > _MAX_SECONDS:
        raise ConfigurationError(
            f"{flag_and_value[:60]}: expected at most {_MAX_SECONDS / 3600:,.0f}h"
        )
    return seconds


def parse_start_time(text: str) -> float:
    """An ISO date, in UTC unless it has a time zone, or a number, in seconds since 1970."""
    try:
        date = _parse_date(text)
    except (ValueError, OverflowError, OSError):
        raise ConfigurationError(
            f"--start-at {text}: expected 2030-01-31T12:00:00Z or seconds since 1970"
        ) from None
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


def _parse_date(text: str) -> datetime:
    try:
        seconds = float(text)
    except ValueError:
        return datetime.fromisoformat(text)
    return datetime.fromtimestamp(seconds, UTC)


def parse_scenarios(text: str, *, sweep: bool) -> tuple[str, ...]:
    """The listed scenarios; by default the three built-in ones, or their mixture for a sweep."""
    named = tuple(part.strip() for part in text.split(",") if part.strip())
    return named or (("mixed",) if sweep else ("short", "medium", "long"))


def parse_trace_columns(text: str) -> dict[str, str]:
    """`time=t,input=prompt_tokens,output=reply_tokens` as column names by part."""
    columns = {}
    for part in filter(None, text.split(",")):
        name, _, column = part.partition("=")
        if name.strip() not in {"time", "input", "output"} or not column.strip():
            raise ConfigurationError(
                f"--trace-columns {part}: expected time=NAME, input=NAME or output=NAME"
            )
        columns[name.strip()] = column.strip()
    return columns


def parse_headers(lines: list[str]) -> dict[str, str]:
    """`NAME: VALUE` lines as values by lower-case name."""
    headers = {}
    for line in lines:
        name, separator, value = line.partition(":")
        valid_name = re.fullmatch(_HEADER_NAME, name.strip())
        if not separator or not valid_name or not re.match(_HEADER_VALUE, value):
            shown = "***" if is_secret(line) else line
            raise ConfigurationError(f"--header {shown!r}: expected NAME: VALUE")
        headers[name.strip().lower()] = value.strip()
    return headers


def parse_body(text: str) -> dict[str, Any]:
    """The JSON object of `--body`."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ConfigurationError(f"--body: invalid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ConfigurationError('--body: expected a JSON object such as {"ignore_eos": true}')
    return value


def parse_numbers(text: str, flag: str, *, whole: bool = False) -> list[float]:
    """Positive numbers of at most a million, separated by commas."""
    pattern = r"[1-9][0-9]*" if whole else r"[0-9]*\.?[0-9]+"
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if any(not re.fullmatch(pattern, part) or not 0 < float(part) <= _MAX_LOAD for part in parts):
        rule = "whole numbers from 1" if whole else "numbers above 0 and up"
        raise ConfigurationError(
            f"{flag} {text}: expected {rule} to {_MAX_LOAD:,}, in digits, such as 1,8,32"
        )
    return [float(part) for part in parts]


def parse_shard(text: str) -> tuple[int, int]:
    """The two numbers of `I/N`."""
    match = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
    if match is None or int(match[1]) >= int(match[2]):
        raise ConfigurationError(f"--shard {text}: expected I/N with I from 0 to N - 1")
    return int(match[1]), int(match[2])


def parse_objectives(text: str) -> dict[str, float]:
    """`ttft=500ms,tpot=50ms` as seconds by metric."""
    objectives = {}
    for part in filter(None, text.split(",")):
        name, separator, limit = part.partition("=")
        metric = _ALIASES.get(name.strip(), name.strip())
        if not separator or metric not in OBJECTIVE_METRICS:
            raise ConfigurationError(
                f"--slo {part}: expected METRIC=TIME, where METRIC is one of "
                f"{', '.join(OBJECTIVE_METRICS)}"
            )
        objectives[metric] = parse_duration(limit, f"--slo {name.strip()}=")
    return objectives


def parse_targets(texts: list[str], chosen: Literal["design"] | None) -> dict[str, float]:
    """Limits by target: `p95=800ms`, `throughput=25`, `error_rate=0.1%`, `ttft_p95=300ms`.

    They are added to the chosen set of targets and replace its limits. `none` alone means no
    targets.
    """
    parts = [part for text in texts for part in text.split(",") if part]
    if parts == ["none"]:
        return {}
    targets = dict(DESIGN_TARGETS) if chosen == "design" else {}
    for part in parts:
        name, _, limit = part.partition("=")
        name = name.strip()
        flag = f"--target {name}="
        if name == "throughput":
            targets[name] = _parse_number(limit, flag)
        elif name == "error_rate":
            targets[name] = _parse_number(limit.rstrip("% "), flag) / (100 if "%" in limit else 1)
        elif split_percentile_target(name) is not None:
            targets[name] = parse_duration(limit, flag)
        else:
            raise ConfigurationError(
                f"--target {part}: expected p50, p95, p99 (or ttft_p95, tpot_p50, ...), "
                "throughput or error_rate, for example p95=800ms"
            )
    return targets


def _parse_number(text: str, flag: str) -> float:
    if not re.fullmatch(r"[0-9]*\.?[0-9]+", text.strip()):
        raise ConfigurationError(f"{flag}{text}: expected a number")
    return float(text)
