"""Targets, and whether they were met."""

import re
from collections.abc import Mapping
from typing import Final, Literal

import numpy as np

from maxgate.errors import ConfigurationError
from maxgate.loadtest.analysis.metrics import (
    PER_REQUEST,
    Mask,
    chunk_gaps,
    succeeded,
)
from maxgate.results.distribution import Distribution
from maxgate.results.records import Records
from maxgate.results.report import Grade, Level
from maxgate.results.statistics import min_sample_size

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "": 1.0}
_ALIASES = {"e2e": "latency", "e2el": "latency", "itl": "chunk_gap"}
_ALLOWED = ("ttft", "tpot", "latency", "response_ttft", "response_latency", "chunk_gap")


def seconds(text: str, flag: str) -> float:
    """`500ms`, `1.5s`, `2m`, `30` in seconds. Raises ConfigurationError for anything else."""
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([a-z]*)\s*", text.lower())
    if match is None or match[2] not in _UNITS:
        given = flag + text if flag.endswith("=") else f"{flag} {text}"
        raise ConfigurationError(f"{given}: expected a time such as 500ms, 1.5s or 2m")
    return float(match[1]) * _UNITS[match[2]]


def parse_objectives(text: str) -> dict[str, float]:
    """Seconds by metric. Raises ConfigurationError for what is no objective."""
    found = {}
    for part in filter(None, text.split(",")):
        name, separator, limit = part.partition("=")
        metric = _ALIASES.get(name.strip(), name.strip())
        if not separator or metric not in _ALLOWED:
            raise ConfigurationError(
                f"--slo {part}: expected METRIC=TIME with one of {', '.join(_ALLOWED)}"
            )
        found[metric] = seconds(limit, f"--slo {name.strip()}=")
    return found


def good(records: Records, objectives: Mapping[str, float], *, scheduled: bool) -> Mask:
    """Who succeeded within every objective.

    Where there is a schedule, `ttft` and `latency` are taken from it: a user does not care that the
    client was late. A chunk gap objective is met when no gap is longer.
    """
    met = succeeded(records)
    for metric, limit in objectives.items():
        if metric == "chunk_gap":
            met &= _longest_gap(records) <= limit
            continue
        base = metric.removeprefix("response_")
        name = f"response_{base}" if scheduled and base in {"ttft", "latency"} else base
        value = PER_REQUEST[name](records)
        # What is undefined (one token has no time per token) cannot miss its objective.
        met &= np.isnan(value) | (value <= limit)
    return met


def _longest_gap(records: Records) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    longest = np.zeros(len(records))
    counts = np.maximum(records["chunks"] - 1, 0)
    np.maximum.at(longest, np.repeat(np.arange(len(records)), counts), chunk_gaps(records))
    return longest


DEFAULT_TARGETS: Final[dict[str, float]] = {
    "p50": 0.4,
    "p95": 0.8,
    "p99": 1.2,
    "throughput": 25.0,
    "error_rate": 0.001,
}
"""Those of the original design: seconds, requests per second, a share."""

_OF_METRICS: Final = ("ttft", "tpot", "latency")


def parse_targets(texts: list[str]) -> dict[str, float]:
    """`p95=800ms`, `throughput=25`, `error_rate=0.1%`, `ttft_p95=300ms`; `none` for no targets.

    What is given replaces its default. Raises ConfigurationError for anything else.
    """
    parts = [part for text in texts for part in text.split(",") if part]
    if parts == ["none"]:
        return {}
    found = dict(DEFAULT_TARGETS)
    for part in parts:
        name, _, limit = part.partition("=")
        name = name.strip()
        flag = f"--target {name}="
        if name == "throughput":
            found[name] = _number(limit, flag)
        elif name == "error_rate":
            found[name] = _number(limit.rstrip("% "), flag) / (100 if "%" in limit else 1)
        elif _split(name) is not None:
            found[name] = seconds(limit, flag)
        else:
            raise ConfigurationError(
                f"--target {part}: expected p50, p95, p99 (or ttft_p95, tpot_p50, ...), "
                "throughput or error_rate, as in p95=800ms"
            )
    return found


def grade(level: Level, targets: Mapping[str, float]) -> list[Grade]:
    """One grade per target. Failed requests count as slower than any limit."""
    return [_one(level, target, limit) for target, limit in targets.items()]


def _one(level: Level, target: str, limit: float) -> Grade:
    value, count, unit = _value(level, target)
    better: Literal["lower", "higher"] = "higher" if target == "throughput" else "lower"
    named = f"{level.scenario}, {level.name}"
    missing = value is None and count is not None and _split(target) is not None
    verdict: Literal["pass", "fail", "unclear"]
    if level.client.limited:
        verdict, reason = "unclear", f"the client was the limit: {level.client.reason}"
    elif count is None:
        verdict, reason = "unclear", f"too few requests for it ({level.requests.attempted})"
    elif missing:
        share = level.requests.failed / max(1, level.requests.attempted)
        verdict, reason = "fail", f"{share:.1%} of the requests failed: it was never reached"
    else:
        shown = value if value is not None else 0.0
        met = shown >= limit if better == "higher" else shown <= limit
        verdict = "pass" if met else "fail"
        reason = f"{_show(shown, unit)} against {_show(limit, unit)}, {count} requests"
    return Grade(
        target=target,
        level=named,
        limit=limit,
        better=better,
        value=value,
        unit=unit,
        count=count or level.requests.attempted,
        verdict=verdict,
        reason=reason,
    )


def _value(level: Level, target: str) -> tuple[float | None, int | None, str]:
    """Value, sample size and unit; the size is None where it is too small for a verdict."""
    attempted = level.requests.attempted
    if target == "throughput":
        return level.throughput.requests, attempted or None, "requests/s"
    if target == "error_rate":
        rate = level.requests.failed / attempted if attempted else None
        return rate, attempted or None, "share"
    metric, key = _split(target) or ("latency", "50")
    found = _distribution(level, metric)
    enough = attempted >= min_sample_size(float(key))
    if found is None or not enough:
        return None, None, "s"
    return found.including_failures.get(key), attempted, "s"


def _distribution(level: Level, metric: str) -> Distribution | None:
    return level.metrics.get(f"response_{metric}") or level.metrics.get(metric)


def _split(target: str) -> tuple[str, str] | None:
    metric, _, key = target.rpartition("_p") if "_p" in target else ("latency", "", target[1:])
    known = metric in _OF_METRICS and key in {"50", "90", "95", "99", "99.9"}
    return (metric, key) if known and ("_p" in target or target.startswith("p")) else None


def _number(text: str, flag: str) -> float:
    if not re.fullmatch(r"[0-9]*\.?[0-9]+", text.strip()):
        raise ConfigurationError(f"{flag}{text}: expected a number")
    return float(text)


def _show(value: float, unit: str) -> str:
    if unit == "s":
        return f"{value * 1000:.0f} ms"
    return f"{value:.2%}" if unit == "share" else f"{value:.1f} {unit}"
