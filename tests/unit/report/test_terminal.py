"""Tests of the terminal output."""

from io import StringIO

from rich.console import Console

from maxgate.report.grades import add_design_grades
from maxgate.report.runs import Run
from maxgate.report.terminal import print_runs
from tests.unit.report.examples import EMPTY_RUN, TWO_RUNS


def print_to_text(*runs: Run) -> str:
    """Return the terminal output for these runs."""
    file = StringIO()
    print_runs(Console(file=file, width=160), runs)
    return file.getvalue()


def test_all_parts_are_printed() -> None:
    """The output has plots, grades, changes, warnings and advice, without colors in a file."""
    text = print_to_text(*map(add_design_grades, TWO_RUNS))
    parts = [
        "Latency histogram, all levels",
        "Latency percentiles",
        "  a  before: concurrency 1",
        "Responses per second over time",
        "Failed requests by kind",
        "Grades",
        "Changes against before",
        "after: swapping",
        "Advice",
        "http_503: no engine had capacity",
    ]
    assert [part for part in parts if part not in text] == []
    assert "\x1b" not in text


def test_empty_run() -> None:
    """A run without measurements is shown as interrupted and without grades."""
    text = print_to_text(add_design_grades(EMPTY_RUN))
    assert "empty (interrupted)" in text
    assert "too few requests" in text
