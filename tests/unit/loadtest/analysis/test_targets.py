"""Goodput objectives and grades."""

from maxgate.loadtest.analysis.targets import grade, meets_objectives
from tests.fakes.load_records import records, request_record, steady
from tests.unit.loadtest.analysis.test_level_report import report


def test_objectives() -> None:
    """A request meets all objectives or is not good; an undefined value misses none."""
    requests = records(
        request_record(0, outputs=(1.2, 1.3)),
        request_record(1, outputs=(1.6, 1.7)),
        request_record(2, outputs=(1.2, 1.9)),
        request_record(3, outputs=(1.2,)),
        request_record(4, outputs=(1.2, 1.3), error="http_503"),
    )
    met = meets_objectives(requests, {"ttft": 0.5, "tpot": 0.2}, scheduled=False)
    assert met.tolist() == [True, False, False, True, False]
    gaps = meets_objectives(requests, {"chunk_gap": 0.5}, scheduled=False)
    assert gaps.tolist() == [True, True, False, True, False]


def test_objectives_count_from_the_schedule() -> None:
    """With a schedule, a late departure counts as latency."""
    late = records(request_record(outputs=(1.4,), late=0.3))
    assert meets_objectives(late, {"ttft": 0.5}, scheduled=False).tolist() == [True]
    assert meets_objectives(late, {"ttft": 0.5}, scheduled=True).tolist() == [False]


def test_grades() -> None:
    """Every target gets a verdict with a reason."""
    level = report(steady([0.1] * 40))
    targets = {"p50": 0.2, "p95": 0.05, "p99": 1.0, "throughput": 5.0, "error_rate": 0.01}
    assert [(one.target, one.verdict, one.reason) for one in grade(level, targets)] == [
        ("p50", "pass", "100 ms (limit 200 ms), 40 requests"),
        ("p95", "fail", "100 ms (limit 50 ms), 40 requests"),
        ("p99", "unclear", "too few requests (40)"),
        ("throughput", "pass", "10.0 requests/s (limit 5.0 requests/s), 40 requests"),
        ("error_rate", "pass", "0.00% (limit 1.00%), 40 requests"),
    ]


def test_no_grade_if_client_was_limited() -> None:
    """If the load generator was the bottleneck, every verdict is unclear."""
    (verdict,) = grade(report(steady([0.1] * 40), cpu=0.95), {"p50": 0.2})
    reason = "the load generator was the bottleneck: a worker process used 95% of its core"
    assert (verdict.verdict, verdict.reason) == ("unclear", f"{reason}; raise --processes")
