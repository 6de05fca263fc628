"""The columns of request traces, and the values in them.

Formats: the Azure LLM inference traces of 2023 and 2024 (ISO times), BurstGPT (seconds), Mooncake
(milliseconds, blocks of 512 tokens), Bailian, also called Qwen traces (seconds, blocks of 16
tokens), and tables with other common names of the columns.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from maxgate.errors import ConfigurationError
from maxgate.loadtest.messages import TimeUnit, TraceOptions
from maxgate.loadtest.scenarios.synthetic import MAX_PROMPT_TOKENS
from maxgate.results.quoting import show_value

SECONDS_PER_UNIT: Final = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_MAX_SECONDS: Final = 1e15
"""Limit of times, beyond which a float cannot tell tenths of a second apart."""


@dataclass(frozen=True)
class Format:
    """A published format; the names are in lower case, letters and digits only."""

    title: str
    required: frozenset[str]
    """Columns that identify the format."""
    unit: TimeUnit | None = None
    block_tokens: int = 512
    """Tokens per element of `hash_ids`."""


FORMATS: Final = {
    "azure": Format(
        "Azure LLM inference trace", frozenset({"timestamp", "contexttokens", "generatedtokens"})
    ),
    "burstgpt": Format(
        "BurstGPT trace", frozenset({"timestamp", "requesttokens", "responsetokens"}), "s"
    ),
    "bailian": Format(
        "Bailian trace", frozenset({"timestamp", "inputlength", "outputlength", "chatid"}), "s", 16
    ),
    "mooncake": Format(
        "Mooncake trace", frozenset({"timestamp", "inputlength", "outputlength", "hashids"}), "ms"
    ),
    "generic": Format("trace", frozenset()),
}

_TIME_NAMES: Final = (
    "timestamp time ts arrivaltime arrivaltimestamp arrivedat arrival starttime requesttime "
    "sendtime datetime createdat"
)
_INPUT_NAMES: Final = (
    "contexttokens requesttokens inputlength inputtokens prompttokens numprompttokens promptlength "
    "promptlen inputlen numprefilltokens prefilltokens inputsize"
)
_OUTPUT_NAMES: Final = (
    "generatedtokens responsetokens outputlength outputtokens completiontokens decodetokens "
    "generationtokens outputlen numdecodetokens responselength outputsize"
)
_ISO_START: Final = re.compile(r"\s*[0-9]{4}-")
_UNIT_SUFFIX: Final = re.compile(
    r"(.+?)[ _.(\[-]+"
    r"(s|sec|secs|seconds|ms|millis|milliseconds|us|microseconds|ns|nanoseconds)[)\]]?"
)
_UNIT_NAMES: Final[dict[str, TimeUnit]] = {
    **dict.fromkeys(("s", "sec", "secs", "seconds"), "s"),
    **dict.fromkeys(("ms", "millis", "milliseconds"), "ms"),
    **dict.fromkeys(("us", "microseconds"), "us"),
    **dict.fromkeys(("ns", "nanoseconds"), "ns"),
}


@dataclass(frozen=True)
class Columns:
    """The names of the columns as they are in the file."""

    format: Format
    time: str
    input: str | None
    output: str | None
    unit: TimeUnit | None
    """Unit by flag, format or name of the column."""


def is_trace(names: Iterable[str], options: TraceOptions) -> bool:
    """Whether a record with these fields belongs to a trace, not to a dataset without times."""
    known = [_normalize(name) for name in names]
    timed = any(name.startswith(("timestamp", "arriv")) for name in known)
    return timed or options.format != "auto" or bool(options.columns)


def find_columns(names: list[str], options: TraceOptions, where: str) -> Columns:
    """The columns of a table or record with these names. Raises ConfigurationError."""
    known = {_normalize(name) for name in names}
    if options.format == "auto":
        key = next((key for key, one in FORMATS.items() if one.required <= known), "generic")
    else:
        key = options.format
    found = FORMATS[key]
    if missing := found.required - known - {"hashids", "chatid"}:
        raise ConfigurationError(
            f"{where}: not a {found.title}: no column {', '.join(sorted(missing))}; "
            f"found {_list_names(names)}"
        )
    named = {
        part: _find_named(names, part, column, where) for part, column in options.columns.items()
    }
    time, unit = _find_time(names) or ("", None)
    time = named.get("time", time)
    if not time:
        raise ConfigurationError(
            f"{where}: no column of times; expected a name such as timestamp, or "
            f"--trace-columns time=NAME; found {_list_names(names)}"
        )
    return Columns(
        format=found,
        time=time,
        input=named.get("input") or _find_alias(names, _INPUT_NAMES),
        output=named.get("output") or _find_alias(names, _OUTPUT_NAMES),
        unit=options.unit or found.unit or unit,
    )


def parse_tokens(value: object, column: str, where: str) -> int:
    """A number of tokens from 0 to the maximum. Raises ConfigurationError."""
    number: float = -1
    if isinstance(value, str):
        try:
            number = int(value)
        except ValueError:
            number = _to_float(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = value
    if 0 <= number <= MAX_PROMPT_TOKENS and number == int(number):
        return int(number)
    raise ConfigurationError(
        f"{where}: {column}: expected a whole number from 0 to {MAX_PROMPT_TOKENS:,}, "
        f"got {show_value(value)}"
    )


class TimeParser:
    """Parses the times of one column, which are all numbers or all ISO 8601."""

    def __init__(self, column: str) -> None:
        self._column = column
        self._kind = ""
        self.whole = True
        """Whether all times are whole numbers."""
        self._largest = (0.0, "")
        """The number farthest from 0 and the start of an error message about it."""

    @property
    def is_iso(self) -> bool:
        """Whether the times are ISO 8601, in seconds since 1970."""
        return self._kind.startswith("ISO")

    def parse(self, value: object, where: str) -> float:
        """A number as it is; an ISO time, in UTC unless it has a zone, as seconds since 1970."""
        if isinstance(value, str) and _ISO_START.match(value):
            return self._parse_iso(value.strip(), where)
        number = math.nan
        if isinstance(value, str):
            number = _to_float(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            number = float(value)
        if not math.isfinite(number):
            raise ConfigurationError(
                f"{where}: {self._column}: expected a finite number or an ISO 8601 time, "
                f"got {show_value(value)}"
            )
        self.whole &= number.is_integer() and not (isinstance(value, str) and "." in value)
        self._check_kind("number", where)
        if abs(number) > abs(self._largest[0]):
            self._largest = (number, f"{where}: {self._column}")
        return number

    def check_range(self, unit: TimeUnit) -> None:
        """Raises ConfigurationError if a number in this unit is too far from 0."""
        number, where = self._largest
        limit = _MAX_SECONDS / SECONDS_PER_UNIT[unit]
        if abs(number) > limit:
            raise ConfigurationError(
                f"{where}: expected a time from {-limit:g} to {limit:g} {unit}, got {number:g}; "
                "correct the row, or give another unit with --trace-unit"
            )

    def _parse_iso(self, text: str, where: str) -> float:
        try:
            time = datetime.fromisoformat(text)
            zoned = time if time.tzinfo else time.replace(tzinfo=UTC)
            seconds = zoned.timestamp()
        except (ValueError, OverflowError) as error:
            raise ConfigurationError(
                f"{where}: {self._column}: {show_value(text)} is not an ISO 8601 time "
                f"({str(error)[:60]})"
            ) from error
        self._check_kind(
            "ISO time with a zone" if time.tzinfo else "ISO time without a zone", where
        )
        return seconds

    def _check_kind(self, kind: str, where: str) -> None:
        if kind != self._kind:
            if self._kind:
                raise ConfigurationError(
                    f"{where}: {self._column}: {kind} after {self._kind}: all rows need the "
                    "same kind of time"
                )
            self._kind = kind


def choose_unit(lowest: float, highest: float, *, milliseconds_allowed: bool) -> TimeUnit:
    """Unit of numbers without one: by size for times since 1970, otherwise seconds.

    `milliseconds_allowed` is for whole numbers in JSON, which are milliseconds from 1000 on.
    """
    for limit, unit in ((1e17, "ns"), (1e14, "us"), (1e11, "ms"), (1e9, "s")):
        if lowest >= limit:
            return _UNIT_NAMES[unit]
    return "ms" if milliseconds_allowed and highest >= 1000 else "s"


def _to_float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _normalize(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _find_alias(names: list[str], aliases: str) -> str | None:
    """The column with the first alias that is present."""
    by_alias = {_normalize(name): name for name in reversed(names)}
    return next((by_alias[alias] for alias in aliases.split() if alias in by_alias), None)


def _find_time(names: list[str]) -> tuple[str, TimeUnit | None] | None:
    """The column of times and the unit in its name, such as `arrival_time_ms`."""
    if name := _find_alias(names, _TIME_NAMES):
        return name, None
    for name in names:
        match = _UNIT_SUFFIX.fullmatch(name.strip().lower()[:60])
        if match and _normalize(match[1]) in _TIME_NAMES.split():
            return name, _UNIT_NAMES[match[2]]
    return None


def _find_named(names: list[str], part: str, column: str, where: str) -> str:
    wanted = _normalize(column)
    found = next((name for name in names if name == column or _normalize(name) == wanted), None)
    if found is None:
        raise ConfigurationError(
            f"{where}: no column {column!r} (--trace-columns {part}={column}); "
            f"found {_list_names(names)}"
        )
    return found


def _list_names(names: list[str]) -> str:
    return ", ".join(repr(name[:40]) for name in names[:12]) or "no column"
