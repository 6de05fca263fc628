"""Tests of letters, of the design's targets and of unclear grades."""

from typing import Any

import pytest

from maxgate.report.formatting import format_interval
from maxgate.report.grades import add_design_grades, choose_letter, grade_run
from maxgate.report.runs import Run
from maxgate.results.report import Client, Grade, Level
from tests.unit.report.examples import level, report


def grade(value: float | None, verdict: Any, limit: float = 100, better: Any = "lower") -> Grade:
    """Build a grade of P50."""
    return Grade(
        target="p50", level="x", limit=limit, better=better, value=value, unit="s", count=9,
        verdict=verdict, reason="",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("one", "letter"),
    [
        (grade(50, "pass"), "A"),
        (grade(51, "pass"), "B"),
        (grade(125, "fail"), "C"),
        (grade(200, "fail"), "D"),
        (grade(201, "fail"), "F"),
        (grade(200, "pass", better="higher"), "A"),
        (grade(150, "pass", better="higher"), "B"),
        (grade(80, "fail", better="higher"), "C"),
        (grade(10, "fail", better="higher"), "F"),
        (grade(0, "fail", better="higher"), "F"),
        (grade(0, "pass", limit=0), "A"),
        (grade(1, "fail", limit=0), "F"),
        (grade(None, "fail"), "F"),
        (grade(99, "unclear"), "?"),
        (grade(None, "unclear"), "?"),
    ],
)
def test_letters(one: Grade, letter: str) -> None:
    """The letter follows from verdict and ratio of value and limit."""
    assert choose_letter(one) == letter


def grade_levels(*levels: Level) -> dict[str, tuple[str, str]]:
    """Return letter and reason for each of the design's targets."""
    return {
        one.grade.target: (one.letter, one.grade.reason)
        for one in grade_run(add_design_grades(Run("a", report(*levels))))
    }


def test_no_grades_by_default() -> None:
    """A report without grades gets none against targets that nobody set."""
    assert grade_run(Run("a", report(level(8)))) == []


def test_design_targets() -> None:
    """A report without grades is graded against the design's targets on request."""
    one = level(8)
    within = {
        percent: format_interval(one.metrics["latency"].intervals[percent], "s")
        for percent in ("50", "95", "99")
    }
    assert grade_levels(one) == {
        "p50": ("B", f"296 ms {within['50']} over 400 requests, target at most 400 ms"),
        "p95": ("B", f"425 ms {within['95']} over 400 requests, target at most 800 ms"),
        "p99": ("A", f"509 ms {within['99']} over 400 requests, target at most 1.20 s"),
        "throughput": ("B", "26.7/s [25.9/s, 27.5/s] over 400 requests, target at least 25/s"),
        "error_rate": ("A", "0 % over 400 requests, target at most 0.1 %"),
    }


def test_failures_count_as_slowest() -> None:
    """Failed requests count towards percentiles as slower than all others."""
    found = grade_levels(level(8, failed=100))
    assert found["p99"] == ("F", "100 of 500 requests failed, so P99 is a failed request")
    assert found["p50"][0] == "B"
    assert found["error_rate"] == ("F", "20 % over 500 requests, target at most 0.1 %")


def test_unclear_grades() -> None:
    """There is no grade near the target, for few requests, or if the client was the limit."""
    near = grade_levels(level(8, latency=0.41))
    assert near["p50"] == ("?", "the interval includes the target: measure more requests")
    few = grade_levels(level(8, count=30))
    assert few["p99"] == ("?", "too few requests: 30")
    client = Client(cpu=1.0, late_p99=0.2, limited=True, reason="its core was full")
    assert set(grade_levels(level(8, client=client)).values()) == {
        ("?", "limited by the client: its core was full")
    }


def test_reported_grades_are_kept() -> None:
    """Grades in the report replace the design's targets, and baselines are not graded."""
    own = grade(120, "fail")
    graded, baseline = Run("a", report(grades=[own])), Run("a", report(level(8, side="baseline")))
    assert [one.grade for one in grade_run(add_design_grades(graded))] == [own]
    assert grade_run(add_design_grades(baseline)) == []
