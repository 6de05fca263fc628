"""Tests of the PNG image."""

import pytest

from maxgate.report.charts import build_charts, render_png
from maxgate.report.runs import Run
from tests.unit.report.examples import EMPTY_RUN, TWO_RUNS


def test_charts_with_data() -> None:
    """Two runs with failures have every chart."""
    assert list(build_charts(TWO_RUNS)) == [
        "Latency",
        "Time to first token",
        "Latency percentiles",
        "Throughput by load",
        "Timeline",
        "Errors",
    ]


@pytest.mark.parametrize("runs", [TWO_RUNS, [EMPTY_RUN]])
def test_png(runs: list[Run]) -> None:
    """The image is a PNG, also for a run without measurements."""
    assert render_png(runs)[:8] == b"\x89PNG\r\n\x1a\n"
