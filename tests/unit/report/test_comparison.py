"""A change is called one only where chance would not make it, and only between like workloads."""

import pytest

from maxgate.report.comparison import changes, incomparable
from maxgate.report.runs import Run
from tests.unit.report.examples import level, report


def verdicts(before: Run, after: Run) -> dict[str, str]:
    """The verdict on each metric."""
    return {f"{c.metric} {c.statistic}": c.verdict for _, c in changes([before, after])}


def test_slower_and_failing_is_worse_and_noise_is_the_same() -> None:
    before = Run("before", report(level(8)))
    slower = Run("after", report(level(8, latency=0.4, seed=2, failed=40)))
    assert verdicts(before, slower) == {
        "latency p50": "worse",
        "latency p95": "worse",
        "latency p99": "worse",
        "ttft p50": "same",
        "ttft p95": "same",
        "tpot p50": "worse",
        "throughput rate": "worse",
        "error_rate rate": "worse",
    }
    faster = Run("after", report(level(8, latency=0.2, seed=2)))
    assert verdicts(before, faster)["latency p95"] == "better"
    assert verdicts(before, faster)["throughput rate"] == "better"


def test_a_change_is_given_with_its_interval() -> None:
    pair = [Run("a", report(level(8))), Run("b", report(level(8, latency=0.4, seed=2)))]
    name, change = changes(pair)[0]
    assert (name, change.metric, change.statistic, change.level) == (
        "b", "latency", "p50", "concurrency 8",
    )  # fmt: skip
    assert change.difference == pytest.approx(0.1, rel=0.15)
    assert change.interval is not None
    assert change.interval.low < change.difference < change.interval.high  # type: ignore[operator]


def test_with_few_values_nothing_is_claimed() -> None:
    few = Run("b", report(level(8, count=5, latency=0.9)))
    assert verdicts(Run("a", report(level(8))), few)["latency p50"] == "unclear"


def test_different_workloads_are_not_compared() -> None:
    pair = [Run("a", report(level(8))), Run("b", report(level(8), fingerprint="0" * 64))]
    assert changes(pair) == []
    assert incomparable(pair) == [
        "b and a have different workloads: their numbers stand side by side, a change between "
        "them would mean nothing"
    ]
    assert (changes([]), incomparable([])) == ([], [])


def test_levels_that_only_one_has_are_passed_over() -> None:
    pair = [Run("a", report(level(1))), Run("b", report(level(8)))]
    assert (changes(pair), incomparable(pair)) == ([], [])


def test_runs_of_the_same_server_rarely_seem_to_differ() -> None:
    first = Run("a", report(level(8, count=120, seed=100)))
    others = [Run("b", report(level(8, count=120, seed=seed))) for seed in range(20)]
    seen = [verdicts(first, other)["latency p50"] for other in others]
    # 5 % of 20 is 1; the first run's own luck is in all of them.
    assert sum(verdict != "same" for verdict in seen) < 6
