"""Format values for every output."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from maxgate.results.distribution import Interval

UNKNOWN = "-"


@dataclass(frozen=True, slots=True)
class DurationUnit:
    """Unit of all durations in a chart or column."""

    name: str
    factor: float
    """Multiplier from seconds."""

    def format(self, seconds: float | None) -> str:
        """Format with three significant digits and without the unit; `-` if unknown."""
        return UNKNOWN if seconds is None else format_number(seconds * self.factor)


_MILLISECONDS: Final = DurationUnit("ms", 1000.0)
_SECONDS: Final = DurationUnit("s", 1.0)


def choose_duration_unit(seconds: Iterable[float]) -> DurationUnit:
    """Milliseconds, or seconds if any value is at least 10 s."""
    return _SECONDS if max(seconds, default=0.0) >= 10 else _MILLISECONDS


def cut_middle(text: str, limit: int) -> str:
    """The text with at most `limit` characters; both ends stay, because names differ there."""
    if len(text) <= limit:
        return text
    end = max(limit - 1, 0) // 2
    return f"{text[: max(limit - 1 - end, 0)]}…{text[len(text) - end :]}"


def format_number(value: float) -> str:
    """Format with three significant digits: `0.123`, `12.3`, `1,230`."""
    size = abs(value)
    if size == 0 or size >= 99.95:
        return f"{value:,.0f}"
    digits = max(0, 2 - math.floor(math.log10(size) + 1e-9))
    return f"{value:.{min(digits, 3)}f}"


def format_value(value: float | None, unit: str) -> str:
    """Format as `412 ms`, `1.23 s`, `0.12 %` or `31.2/s`; `-` if unknown."""
    if value is None:
        return UNKNOWN
    match unit:
        case "s":
            return _format_seconds(value)
        case "share":
            return f"{value * 100:.3g} %"
        case "requests/s" | "1/s" | "/s":
            return f"{value:.3g}/s" if abs(value) < 999.5 else f"{value:,.0f}/s"
        case _:
            number = f"{value:.4g}" if abs(value) < 9999.5 else f"{value:,.0f}"
            return f"{number} {unit}".strip()


def _format_seconds(value: float) -> str:
    size = abs(value)
    if size >= 100:
        return f"{value:.0f} s"
    if size >= 1:
        return f"{value:.2f} s"
    return f"{value * 1000:.{0 if size >= 0.1 else 1 if size >= 0.001 else 3}f} ms"


def format_interval(interval: Interval | None, unit: str) -> str:
    """Format as `[390 ms, 420 ms]`; empty if there is no interval."""
    if interval is None:
        return ""
    return f"[{format_value(interval.low, unit)}, {format_value(interval.high, unit)}]"


def format_relative_change(share: float | None) -> str:
    """Format as `+12.3 %`, always signed; `-` if unknown."""
    return UNKNOWN if share is None else f"{share * 100:+.1f} %"


def count_nines(percent: float) -> float:
    """Position of a percentile on an axis of nines: 0 for 0 %, 1 for 90 %, 2 for 99 %."""
    return -math.log10(max(1 - percent / 100, 1e-9))


def list_log_ticks(low: float, high: float) -> list[float]:
    """Ticks of a logarithmic axis: 1, 2 and 5 times powers of ten, fewer over many decades."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps: tuple[float, ...] = (1, 2, 5) if high < 300 * low else (1,)
    if high < 8 * low:
        steps = (1, 1.5, 2, 3, 4, 5, 6, 8)
    return [step * 10.0**k for k in exponents for step in steps if low <= step * 10.0**k <= high]
