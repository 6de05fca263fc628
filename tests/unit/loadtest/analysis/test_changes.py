"""Changes are found when they are there, and not when they are not."""

import numpy as np
import pytest

from maxgate.loadtest.analysis.comparison import latency_change, paired_change
from maxgate.results.changes import bonferroni_confidence
from maxgate.results.report import Change
from tests.unit.results.test_statistics import autoregressive

CONFIDENCE = bonferroni_confidence(5)


def compare(before: np.ndarray, after: np.ndarray, rng: np.random.Generator) -> list[Change]:
    """P50, P95 and P99."""
    return [
        latency_change(
            before,
            after,
            metric="latency",
            statistic=statistic,
            level="x",
            confidence=CONFIDENCE,
            rng=rng,
        )
        for statistic in ("p50", "p95", "p99")
    ]


def test_two_runs_of_the_same_are_the_same() -> None:
    """A whole comparison counts as wrong when any one of its numbers is."""
    rng = np.random.default_rng(11)
    runs, flagged = 8, 0
    for _ in range(runs):
        before, after = (np.exp(0.4 * autoregressive(0.6, 1200, rng)) for _ in range(2))
        flagged += any(change.verdict != "same" for change in compare(before, after, rng))
    assert flagged <= 1  # benchmarks/loadtest/false_alarms.py does 300


def test_a_tenth_slower_is_found() -> None:
    rng = np.random.default_rng(3)
    before, after = rng.gamma(40, 0.01, 2000), rng.gamma(40, 0.011, 2000)
    assert [change.verdict for change in compare(before, after, rng)] == ["worse"] * 3
    assert [change.verdict for change in compare(after, before, rng)] == ["better"] * 3


def test_few_values_give_no_verdict() -> None:
    rng = np.random.default_rng(3)
    change = compare(rng.random(50), rng.random(50), rng)[2]
    assert (change.verdict, change.reason) == ("unclear", "needs 1000 values on each side, has 50")


def test_pairs_show_a_cost_far_below_the_noise() -> None:
    """0.3 ms on requests that vary by 20 ms: hopeless with two samples, plain in pairs."""
    rng = np.random.default_rng(5)
    alone = rng.normal(0.1, 0.02, 500)
    through = alone + 0.0003 + rng.normal(0, 0.0005, 500)
    change = paired_change(
        alone,
        through,
        after_first=np.arange(500) % 2 == 0,
        metric="latency",
        statistic="p50",
        level="x",
        confidence=0.95,
        rng=rng,
    )
    assert change.interval is not None
    assert (change.verdict, change.difference) == ("worse", pytest.approx(0.0003, abs=1e-4))
    assert change.interval.low > 0.0002
