"""Tests of the terminal output."""

from io import BytesIO, StringIO, TextIOWrapper

import pytest
from rich.console import Console

from maxgate.report.grades import add_design_grades
from maxgate.report.runs import Run
from maxgate.report.terminal import print_runs
from tests.unit.report.examples import EMPTY_RUN, TWO_RUNS, level, report


def print_to_text(*runs: Run, width: int = 160) -> str:
    """Return the terminal output for these runs."""
    file = StringIO()
    print_runs(Console(file=file, width=width), runs)
    return file.getvalue()


def test_all_parts_are_printed() -> None:
    """The output has plots, grades, changes, warnings and advice, without colors in a file."""
    text = print_to_text(*map(add_design_grades, TWO_RUNS))
    parts = [
        "Load test of small, 2 runs",
        "Grades",
        "Results, latencies in ms",
        "Distribution of E2E latency, ms, log scale",
        "Output tokens/s over time",
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


@pytest.mark.parametrize("width", [40, 80, 160])
def test_every_line_fits(width: int) -> None:
    """No line is wider than the terminal, for 1, 5 and 15 levels and for 12 runs."""
    levels = [
        Run("a", report(*(level(k + 1, seed=k) for k in range(count)))) for count in (1, 5, 15)
    ]
    many = [Run(f"a run with a long name, number {k}", report(level(8))) for k in range(12)]
    texts = [print_to_text(*runs, width=width) for runs in ([one] for one in levels)]
    texts.append(print_to_text(*many, width=width))
    assert [max(map(len, text.splitlines())) <= width for text in texts] == [True] * 4


def test_narrow_terminal_shows_main_results() -> None:
    """At 80 columns, each level is one line, and a note names the columns left out."""
    lines = print_to_text(Run("a", report(level(1), level(8))), width=80).splitlines()
    start = lines.index("Results, latencies in ms")
    headings = lines[start + 1].split("  ")
    assert [one.strip() for one in headings if one] == [
        "concurrency", "output tok/s", "TTFT P50", "TTFT P95", "ITL P50", "E2E P95", "failed",
    ]  # fmt: skip
    assert [line.split()[0] for line in lines[start + 2 : start + 4]] == ["1", "8"]
    assert "Not shown at 80 columns: E2E P99" in " ".join(lines)


def test_long_tables_show_what_changed() -> None:
    """A table of more than 60 rows shows the rows that are better or worse."""
    runs = [Run(f"run {k}", report(level(8, seed=k))) for k in range(12)]
    slow = Run("slow", report(level(8, latency=0.9, seed=99)))
    text = print_to_text(*runs, slow)
    assert "96 rows; --html and --markdown write all of them" in text
    section = text.partition("Changes against run 0")[2].partition("Runs\n")[0]
    assert "slow" in section
    assert "same" not in section.partition("A value is")[0]


def test_output_in_ascii() -> None:
    """A terminal without UTF-8 gets plots and bars of ASCII characters."""
    stream = TextIOWrapper(BytesIO(), encoding="ascii", errors="backslashreplace")
    print_runs(Console(file=stream, width=160), TWO_RUNS)
    stream.seek(0)
    text = stream.read()
    assert "####" in text
    assert "\\u2588" not in text
