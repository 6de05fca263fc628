"""Letters follow from target and value, and none is given where it would be a guess."""

from typing import Any

import pytest

from maxgate.report.grades import letter, marks
from maxgate.report.runs import Run
from maxgate.report.units import show_interval
from maxgate.results.report import Client, Grade, Level
from tests.unit.report.examples import level, report


def grade(value: float | None, verdict: Any, limit: float = 100, better: Any = "lower") -> Grade:
    """A grade of P50."""
    return Grade(
        target="p50", level="x", limit=limit, better=better, value=value, unit="s", count=9,
        verdict=verdict, reason="",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "wanted"),
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
def test_letters(given: Grade, wanted: str) -> None:
    assert letter(given) == wanted


def given(*levels: Level) -> dict[str, tuple[str, str]]:
    """By target, the letter and the reason."""
    return {m.grade.target: (m.letter, m.grade.reason) for m in marks(Run("a", report(*levels)))}


def test_the_designs_targets_grade_a_report_without_its_own() -> None:
    one = level(8)
    within = {
        percent: show_interval(one.metrics["latency"].intervals[percent], "s")
        for percent in ("50", "95", "99")
    }
    assert given(one) == {
        "p50": ("B", f"296 ms {within['50']} of 400 requests, at most 400 ms wanted"),
        "p95": ("B", f"425 ms {within['95']} of 400 requests, at most 800 ms wanted"),
        "p99": ("A", f"509 ms {within['99']} of 400 requests, at most 1.20 s wanted"),
        "throughput": ("B", "26.7/s [25.9/s, 27.5/s] of 400 requests, at least 25/s wanted"),
        "error_rate": ("A", "0 % of 400 requests, at most 0.1 % wanted"),
    }


def test_failures_are_slow_and_not_left_out() -> None:
    found = given(level(8, failed=100))
    assert found["p99"] == ("F", "100 of 500 requests failed: P99 is one of them")
    assert found["p50"][0] == "B"
    assert found["error_rate"] == ("F", "20 % of 500 requests, at most 0.1 % wanted")


def test_there_is_no_grade_where_it_would_be_a_guess() -> None:
    near = given(level(8, latency=0.41))
    assert near["p50"] == ("?", "the interval holds the target: more requests would tell")
    few = given(level(8, count=30))
    assert few["p99"] == ("?", "too few to tell: 30 requests")
    client = Client(cpu=1.0, late_p99=0.2, limited=True, reason="its core was full")
    assert set(given(level(8, client=client)).values()) == {
        ("?", "the client was the limit: its core was full")
    }


def test_a_reports_own_grades_are_kept_and_baselines_are_not_graded() -> None:
    own = grade(120, "fail")
    assert [m.grade for m in marks(Run("a", report(grades=[own])))] == [own]
    assert marks(Run("a", report(level(8, side="baseline")))) == []
