"""Tests of the tables' notes and of the cells that depend on the metric."""

from maxgate.report.runs import Run
from maxgate.report.tables import drift_table, latency_table, reported_changes_table
from maxgate.results.changes import judge_change
from maxgate.results.distribution import ClientError, Interval
from maxgate.results.report import Drift
from tests.unit.report.examples import level, report


def test_note_states_confidence() -> None:
    """The note states the range of confidence levels of the intervals in the table."""
    changes = [
        judge_change("ttft", "p50", "x", "s", 1.0, 2.0, Interval(low=0.5, high=1.5, confidence=c))
        for c in (0.95, 0.996)
    ]
    notes = [
        reported_changes_table([Run("a", report(level(8), paired=paired))], "paired").note
        for paired in ([], changes[1:], changes)
    ]
    rule = "A value is better or worse only if its interval excludes 0."
    assert notes == [
        rule,
        f"Intervals of the difference have 99.6 % confidence. {rule}",
        f"Intervals of the difference have 95 to 99.6 % confidence. {rule}",
    ]


def test_drift_units() -> None:
    """Drift of latency is in seconds and drift of throughput in requests per second."""
    drifts = [
        Drift(
            metric=metric,
            level="x",
            per_hour=0.5,
            interval=Interval(low=0.25, high=0.75),
            relative_per_hour=None,
            verdict="growing",
        )
        for metric in ("latency", "throughput")
    ]
    rows = drift_table([Run("a", report(level(8), drift=drifts))]).rows
    assert [row[3:5] for row in rows] == [
        ["500 ms", "[250 ms, 750 ms]"],
        ["0.5/s", "[0.25/s, 0.75/s]"],
    ]


def test_client_error_column() -> None:
    """The column has the P99 error, and the P99.9 error if P99.9 is shown."""
    error = ClientError(bias=0, mean=0.0001, p99=0.002, p999=0.009, max=1, count=9)
    shown = level(8)
    metrics = {
        name: found.model_copy(
            update={"client_error": error, "percentiles": {"50": 1.0, "99.9": tail}}
        )
        for name, tail, found in (
            ("latency", None, shown.metrics["latency"]),
            ("ttft", 2.0, shown.metrics["ttft"]),
        )
    }
    one = shown.model_copy(update={"metrics": metrics})
    rows = latency_table([Run("a", report(one))]).rows
    assert [(row[1], row[-1]) for row in rows] == [
        ("latency", "2.0 ms"),
        ("ttft", "2.0 ms (P99.9 9.0 ms)"),
    ]
