"""Tests of the tables' notes and of the cells that depend on the metric."""

import pytest

from maxgate.loadtest.level_table import build_cells
from maxgate.report.result_tables import latency_table, results_table
from maxgate.report.runs import Run
from maxgate.report.tables import drift_table, reported_changes_table
from maxgate.results.changes import judge_change
from maxgate.results.distribution import ClientError, Interval
from maxgate.results.report import Drift, Requests
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
        ("E2E latency, ms", "2.0 ms"),
        ("TTFT, ms", "2.0 ms (P99.9 9.0 ms)"),
    ]


def test_results_have_one_unit() -> None:
    """All latencies are in milliseconds, or all in seconds if any is at least 10 s."""
    fast = results_table([Run("a", report(level(1), level(8, failed=20)))])
    assert fast.title == "Results, latencies in ms"
    assert list(fast.columns) == [
        "concurrency", "output tok/s", "req/s", "TTFT P50", "TTFT P95", "ITL P50", "ITL P95",
        "E2E P50", "E2E P95", "E2E P99", "responses", "failed",
    ]  # fmt: skip
    assert fast.rows[1] == [
        "8", "533", "26.7", "50.0", "76.8", "12.8", "19.4", "296", "425", "509", "400",
        "4.76 % [3.1, 7.2]",
    ]  # fmt: skip
    slow = results_table([Run("a", report(level(1), level(8, latency=12)))])
    assert slow.title == "Results, latencies in s"
    assert [row[7] for row in slow.rows] == ["0.296", "11.8"]


def test_same_numbers_as_the_load_test() -> None:
    """Report and load test show the same TTFT, ITL and E2E, from the schedule in an open loop."""
    closed = level(8)
    late = {
        f"response_{name}": closed.metrics[name].model_copy(
            update={"percentiles": {"50": 1, "95": 2}}
        )
        for name in ("ttft", "latency")
    }
    opened = closed.model_copy(update={"metrics": closed.metrics | late})
    for shown in (closed, opened):
        table = results_table([Run("a", report(shown))])
        values = dict(zip(table.columns, table.rows[0], strict=True))
        names = ("TTFT P50", "TTFT P95", "ITL P50", "E2E P50", "E2E P95")
        expected = [float(cell.value) for cell in [*build_cells(shown).values()][3:]]
        assert [float(values[name].replace(",", "")) for name in names] == pytest.approx(
            expected, rel=0.005
        )
        assert table.note.startswith("In an open loop, TTFT and E2E") == (shown is opened)
    assert (values["TTFT P50"], values["E2E P95"]) == ("1,000", "2,000")


def test_error_rate_without_failures() -> None:
    """Without failures, the error rate is 0 % with the upper end of its Wilson interval."""
    rows = [results_table([Run("a", report(level(8, count=n)))]).rows[0] for n in (27, 400)]
    assert [row[-1] for row in rows] == ["0 % (< 12 %)", "0 % (< 0.95 %)"]


def test_error_rate_of_failures_only() -> None:
    """If all requests failed, the error rate is 100 % with the lower end of its interval."""
    counts = Requests(attempted=5, succeeded=0, failed=5)
    (row,) = results_table([Run("a", report(level(8, requests=counts, metrics={})))]).rows
    assert row[-1] == "100 % (> 57 %)"


def test_error_rate_near_all() -> None:
    """The ends of an interval are whole percentages, without an exponent."""
    counts = Requests(attempted=400, succeeded=1, failed=399)
    (row,) = results_table([Run("a", report(level(8, requests=counts, metrics={})))]).rows
    assert row[-1] == "99.8 % [99, 100]"


def test_levels_of_several_runs_are_named() -> None:
    """Levels of several runs start with the name of the run."""
    table = results_table([Run(name, report(level(8))) for name in "ab"])
    assert [row[0] for row in table.rows] == ["a: concurrency 8", "b: concurrency 8"]


def test_unmeasured_level_has_no_rates() -> None:
    """A level without a measured request has unknown rates instead of 0."""
    empty = level(8, requests=Requests(attempted=0, succeeded=0, failed=0), metrics={})
    (row,) = results_table([Run("a", report(empty))]).rows
    assert row == ["8", "-", "-", "0", "-"]
