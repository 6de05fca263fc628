"""Windows begin and end as the calendar of their time zone says."""

from datetime import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxgate.limits.limit import Window
from maxgate.limits.windows import ALWAYS, find_span

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/Havana",
    "America/Sao_Paulo",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Pacific/Apia",
]
WINDOWS: list[Window] = ["minute", "hour", "day", "week", "month"]


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("window", "zone", "at", "start", "end"),
    [
        ("minute", "UTC", "2026-11-28T10:15:30Z", "2026-11-28T10:15:00Z", "2026-11-28T10:16:00Z"),
        (
            "hour",
            "Asia/Kolkata",
            "2026-11-28T10:15:30Z",
            "2026-11-28T09:30:00Z",
            "2026-11-28T10:30:00Z",
        ),
        (  # clocks are set forward: 23 hours
            "day",
            "Europe/Berlin",
            "2026-03-29T12:00:00+02:00",
            "2026-03-29T00:00:00+01:00",
            "2026-03-30T00:00:00+02:00",
        ),
        (  # clocks are set back: 25 hours
            "day",
            "Europe/Berlin",
            "2026-10-25T02:30:00+01:00",
            "2026-10-25T00:00:00+02:00",
            "2026-10-26T00:00:00+01:00",
        ),
        (  # the second of two hours between 2 and 3
            "hour",
            "Europe/Berlin",
            "2026-10-25T02:30:00+01:00",
            "2026-10-25T02:00:00+01:00",
            "2026-10-25T03:00:00+01:00",
        ),
        (  # there is no midnight: clocks are set from 0 to 1
            "day",
            "America/Havana",
            "2026-03-08T12:00:00-04:00",
            "2026-03-08T01:00:00-04:00",
            "2026-03-09T00:00:00-04:00",
        ),
        (  # there are two midnights; the day begins with the first
            "day",
            "America/Havana",
            "2026-11-01T00:30:00-05:00",
            "2026-11-01T00:00:00-04:00",
            "2026-11-02T00:00:00-05:00",
        ),
        (  # 30 December 2011 did not exist
            "day",
            "Pacific/Apia",
            "2011-12-31T00:00:00+14:00",
            "2011-12-31T00:00:00+14:00",
            "2012-01-01T00:00:00+14:00",
        ),
        ("week", "UTC", "2026-03-01T10:00:00Z", "2026-02-23T00:00:00Z", "2026-03-02T00:00:00Z"),
        ("month", "UTC", "2028-02-29T23:59:59Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
        ("month", "UTC", "2026-12-31T23:59:59Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        (
            "month",
            "Europe/Berlin",
            "2026-03-31T23:59:59+02:00",
            "2026-03-01T00:00:00+01:00",
            "2026-04-01T00:00:00+02:00",
        ),
    ],
)
def test_span(window: Window, zone: str, at: str, start: str, end: str) -> None:
    """A window contains the time, and begins and ends by the calendar."""
    assert find_span(window, zone, seconds(at)) == (seconds(start), seconds(end))


def test_always() -> None:
    """Totals and concurrent requests have one window."""
    assert find_span("total", "UTC", 1e9) == find_span("none", "UTC", 1e9) == ALWAYS


@given(at=st.floats(1e9, 2e9), zone=st.sampled_from(ZONES), window=st.sampled_from(WINDOWS))
def test_partition(at: float, zone: str, window: Window) -> None:
    """Windows cover all time without a gap or an overlap."""
    spans = [find_span(window, zone, at)]
    for _ in range(3):
        spans.append(find_span(window, zone, spans[-1].end))
    assert spans[0].start <= at < spans[0].end
    assert all(before.end == after.start for before, after in pairwise(spans))
    assert find_span(window, zone, spans[0].start) == spans[0]
    local = datetime.fromtimestamp(spans[1].start, ZoneInfo(zone))
    assert (local.second, local.microsecond) == (0, 0)
