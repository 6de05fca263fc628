"""Calendar windows of limits, in the time zone of each limit.

Windows of a minute or an hour have that length, also where clocks are set back. A day begins at
midnight or, where clocks are set forward over midnight, at the end of the gap; a week begins on
Monday.
"""

import math
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from maxgate.limits.limit import Window

_SECONDS: Final = {"minute": 60, "hour": 3600}


class Span(NamedTuple):
    """An interval in seconds since 1970, without its end, which may be infinite."""

    start: float
    end: float


ALWAYS: Final = Span(0.0, math.inf)


def find_span(window: Window, time_zone: str, at: float) -> Span:
    """Return the window that contains a time in seconds since 1970."""
    if window in {"total", "none"}:
        return ALWAYS
    zone = _load_zone(time_zone)
    local = datetime.fromtimestamp(at, UTC).astimezone(zone)
    if window in _SECONDS:
        seconds, offset = _SECONDS[window], local.utcoffset() or timedelta()
        start = at - (at + offset.total_seconds()) % seconds
        return Span(float(round(start)), float(round(start) + seconds))
    first, last = _find_days(window, local.date())
    return Span(_find_midnight(first, zone), _find_midnight(last, zone))


@lru_cache(maxsize=64)
def _load_zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _find_days(window: Window, day: date) -> tuple[date, date]:
    """Return the first day of a window, and that of the next window."""
    if window == "day":
        return day, day + timedelta(days=1)
    if window == "week":
        monday = day - timedelta(days=day.weekday())
        return monday, monday + timedelta(days=7)
    month = day.replace(day=1)
    return month, (month + timedelta(days=31)).replace(day=1)


def _find_midnight(day: date, zone: ZoneInfo) -> float:
    # With fold 0, a midnight in a gap becomes the end of the gap, and of two it is the first.
    return datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()
