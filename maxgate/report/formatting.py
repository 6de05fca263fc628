"""Format values for every output."""

import math

from maxgate.results.distribution import Interval

UNKNOWN = "-"


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
            return f"{value:.3g}/s" if abs(value) < 1000 else f"{value:,.0f}/s"
        case _:
            return f"{value:,.4g} {unit}".strip()


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
