"""Comparison of two runs: changes of samples, of pairs, and of whole reports."""

from datetime import UTC, datetime

import numpy as np
import pytest

from maxgate.errors import ConfigurationError
from maxgate.loadtest.analysis.comparison import (
    check_comparable,
    compare,
    latency_change,
    paired_change,
)
from maxgate.loadtest.analysis.level_report import build_level
from maxgate.loadtest.run import decide_exit_code
from maxgate.results.changes import bonferroni_confidence
from maxgate.results.report import Change, Grade, Report
from tests.fakes.load_records import steady
from tests.unit.loadtest.analysis.test_level_report import plan
from tests.unit.results.test_files import report
from tests.unit.results.test_statistics import autoregressive

CONFIDENCE = bonferroni_confidence(5)


def latency_changes(
    before: np.ndarray, after: np.ndarray, rng: np.random.Generator
) -> list[Change]:
    """The changes of P50, P95 and P99."""
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


def test_no_change_between_equal_runs() -> None:
    """At most one of eight comparisons of equal runs reports any change."""
    rng = np.random.default_rng(11)
    runs, flagged = 8, 0
    for _ in range(runs):
        before, after = (np.exp(0.4 * autoregressive(0.6, 1200, rng)) for _ in range(2))
        flagged += any(change.verdict != "same" for change in latency_changes(before, after, rng))
    assert flagged <= 1  # benchmarks/loadtest/false_alarms.py does 300


def test_ten_percent_slower() -> None:
    """A slowdown of 10% is worse, and the reverse is better."""
    rng = np.random.default_rng(3)
    before, after = rng.gamma(40, 0.01, 2000), rng.gamma(40, 0.011, 2000)
    assert [change.verdict for change in latency_changes(before, after, rng)] == ["worse"] * 3
    assert [change.verdict for change in latency_changes(after, before, rng)] == ["better"] * 3


def test_small_sample_is_unclear() -> None:
    """P99 needs 1,000 values in each run."""
    rng = np.random.default_rng(3)
    change = latency_changes(rng.random(50), rng.random(50), rng)[2]
    assert (change.verdict, change.reason) == ("unclear", "needs 1000 values in each run, has 50")


def test_pairs_remove_noise() -> None:
    """Pairs detect a difference of 0.3 ms between requests that vary by 20 ms."""
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


def measured(latency: float, name: str = "concurrency 1") -> Report:
    """A report of 600 requests with about this latency."""
    times = [latency * (1 + (k * 37 % 100) / 1000) for k in range(600)]
    level = build_level(plan(name=name), steady(times))
    return report().model_copy(update={"levels": [level], "created_at": datetime.now(UTC)})


def check(old: Report, new: Report) -> None:
    """Raises ConfigurationError unless the reports can be compared."""
    check_comparable(
        old,
        fingerprint=new.workload.fingerprint,
        stream=new.workload.stream,
        kind=new.load.kind,
        levels=[(level.scenario, level.name) for level in new.levels],
    )


def test_different_workload() -> None:
    """Reports with different fingerprints are not compared."""
    other = report().workload.model_copy(update={"fingerprint": "g"})
    with pytest.raises(ConfigurationError, match="the workloads differ: workload fingerprint"):
        check(measured(0.1), measured(0.1).model_copy(update={"workload": other}))


def test_no_common_level() -> None:
    """Reports without a common level are not compared."""
    with pytest.raises(ConfigurationError, match="no common level"):
        check(measured(0.1), measured(0.1, "concurrency 2"))


def test_compare_without_records() -> None:
    """Without raw records, the intervals in the reports are compared."""
    old, new = measured(0.1), measured(0.2)
    check(old, new)
    changes = {(c.metric, c.statistic): c.verdict for c in compare(old, new, None, None, 0)}
    assert changes == {
        ("latency", "p50"): "worse",
        ("latency", "p95"): "worse",
        ("latency", "p99"): "worse",
        ("throughput", "rate"): "same",
        ("error_rate", "rate"): "same",
    }


def test_exit_code() -> None:
    """The exit code is 1 for a failed level, a missed target or a regression."""
    fine = measured(0.1)
    nothing = fine.model_copy(update={"levels": [build_level(plan(), steady([]))]})
    refused = build_level(plan(), steady([0.1] * 30, failed=30))
    missed = Grade(
        target="p50",
        level="x",
        limit=1,
        better="lower",
        value=2,
        unit="s",
        count=1,
        verdict="fail",
        reason="",
    )
    worse = compare(fine, measured(0.2), None, None, 0)
    assert decide_exit_code(fine) == 0
    assert decide_exit_code(nothing) == 1
    assert decide_exit_code(fine.model_copy(update={"levels": [refused]})) == 1
    assert decide_exit_code(fine.model_copy(update={"grades": [missed]})) == 1
    assert decide_exit_code(fine.model_copy(update={"comparison": worse})) == 1
