"""Tests of charts drawn as text."""

import pytest

from maxgate.report.plots import ASCII, UNICODE, Glyphs, draw_bar, draw_heights, draw_plots
from maxgate.report.runs import Run
from maxgate.results.report import Second
from tests.unit.report.examples import TWO_RUNS, level, report


@pytest.mark.parametrize(
    ("glyphs", "drawn"), [(UNICODE, " ▁ ▂▄█"), (ASCII, " . :=@")], ids=["unicode", "ascii"]
)
def test_heights(glyphs: Glyphs, drawn: str) -> None:
    """Values are scaled to the maximum; small ones are visible, 0 and unknown ones are blank."""
    assert draw_heights([0.0, 0.1, None, 2.0, 4.0, 8.0], glyphs) == drawn


def test_bars() -> None:
    """Bars are scaled to the maximum; small values have one character, and 0 has none."""
    assert [draw_bar(value, 8.0, 4, ASCII) for value in (0.0, 0.1, 4.0, 8.0)] == [
        "", "#", "##", "####",
    ]  # fmt: skip


@pytest.mark.parametrize("width", [60, 80, 120])
def test_plots_fit(width: int) -> None:
    """Each line fits the width: label, drawing, and text after it."""
    plots = list(draw_plots(TWO_RUNS, width, UNICODE))
    assert [plot.title for plot in plots] == [
        "Distribution of E2E latency, ms, log scale",
        "Distribution of TTFT, ms, log scale",
        "Output tokens/s over time",
        "E2E latency P95, ms over time",
    ]
    for plot in plots:
        label = max(len(name) for name, _, _ in plot.lines)
        lengths = [label + 2 + len(drawn) + 2 + len(after) for _, drawn, after in plot.lines]
        assert max(lengths) <= width


@pytest.mark.parametrize("width", [60, 80, 160])
def test_peak_of_timeline_is_kept(width: int) -> None:
    """A timeline of more seconds than columns shows its highest second."""
    seconds = [
        Second(
            offset=k, started=1, succeeded=1, failed=0, output_tokens=900 if k == 77 else 10,
            in_flight=1,
        )
        for k in range(140)
    ]  # fmt: skip
    plots = list(draw_plots([Run("a", report(level(8, timeline=seconds)))], width, ASCII))
    (line,) = [plot.lines[0] for plot in plots if plot.title == "Output tokens/s over time"]
    assert line[2] == "max 900"
    assert "@" in line[1]


def test_no_timeline_of_unfinished_requests() -> None:
    """A level whose requests did not end has a timeline of tokens but none of latencies."""
    seconds = [
        Second(offset=k, started=1, succeeded=0, failed=0, output_tokens=9, in_flight=1)
        for k in range(5)
    ]
    unmeasured = level(8, timeline=seconds, metrics={})
    plots = draw_plots([Run("a", report(unmeasured))], 80, UNICODE)
    assert [plot.title for plot in plots] == ["Output tokens/s over time"]
