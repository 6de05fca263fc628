"""Tests of curves over the load and of timelines."""

from datetime import timedelta

import pytest

from maxgate.report.curves import (
    build_curves,
    choose_load_axis,
    list_level_starts,
    list_moments,
    varies_by_load,
)
from maxgate.report.runs import Run
from maxgate.results.report import Level, Second
from tests.unit.report.examples import STARTED, level, report


def build_seconds(count: int) -> list[Second]:
    """Build this many seconds, each with as many tokens as its number."""
    return [
        Second(
            offset=k, started=1, succeeded=1, failed=0, output_tokens=k, in_flight=1, latency_p95=k
        )
        for k in range(count)
    ]


def test_curves() -> None:
    """There is a curve per run and side, with its levels in order."""
    runs = [
        Run("a", report(level(1), level(8))),
        Run("b", report(level(8), level(8, side="baseline"))),
    ]
    found = [(one.name, [level.concurrency for level in one.levels]) for one in build_curves(runs)]
    assert found == [("a", [1, 8]), ("b", [8]), ("b baseline", [8])]


@pytest.mark.parametrize(
    ("levels", "title", "loads"),
    [
        ([level(1), level(8)], "concurrency", [1, 8]),
        ([level(2, rate=5.0), level(3, rate=9.0)], "scheduled requests/s", [5, 9]),
        ([level(2), level(3, rate=9.0)], "mean requests in flight", [1.98, 2.97]),
    ],
)
def test_load_axis(levels: list[Level], title: str, loads: list[float]) -> None:
    """The load is the one that was set, or the one measured if levels set different ones."""
    curves = build_curves([Run("a", report(*levels))])
    axis = choose_load_axis(curves)
    assert (axis.title, [axis.read(one) for one in levels]) == (title, pytest.approx(loads))
    assert varies_by_load(curves, axis)


def test_timeline_counts_from_start_of_run() -> None:
    """Seconds count from the start of the run, and the last, partial second is left out."""
    later = STARTED + timedelta(seconds=10)
    levels = [
        level(1, timeline=build_seconds(3)),
        level(8, timeline=build_seconds(3), started_at=later),
    ]
    (curve,) = build_curves([Run("a", report(*levels))])
    found = [(one.part, one.second, one.output_tokens) for one in list_moments(curve)]
    assert found == [("0", 0, 0.0), ("0", 1, 1.0), ("1", 10, 0.0), ("1", 11, 1.0)]
    assert [second for second, _ in list_level_starts(curve)] == [0, 10]


def test_long_timelines_are_binned() -> None:
    """A long run has bins of several seconds, with their mean rate and highest latency."""
    (curve,) = build_curves([Run("a", report(level(8, timeline=build_seconds(601))))])
    moments = list(list_moments(curve))
    assert len(moments) == 120
    first = moments[0]
    assert (first.width, first.output_tokens, first.latency_p95) == (5, 2.0, 4)
