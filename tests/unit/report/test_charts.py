"""Tests of the choice of charts and of the PNG image."""

import json
import struct
from typing import Any

import pytest

from maxgate.report.charts import build_charts, list_colors, render_png
from maxgate.report.curves import MAX_COLORS
from maxgate.report.runs import Run
from tests.unit.report.examples import EMPTY_RUN, TWO_RUNS, level, report


def list_titles(runs: list[Run]) -> dict[str, list[str]]:
    """Return the titles of the charts by section."""
    return {name: [one.title for one in drawn] for name, drawn in build_charts(runs).items()}


def build_runs(count: int, *concurrencies: int) -> list[Run]:
    """Build this many runs with a level per concurrency."""
    levels = [level(concurrency) for concurrency in concurrencies]
    return [Run(f"run {number}", report(*levels)) for number in range(count)]


def find_values(spec: Any, key: str) -> list[Any]:
    """Return every value of a key in nested mappings and lists."""
    children = spec.values() if isinstance(spec, dict) else spec if isinstance(spec, list) else ()
    own = [spec[key]] if isinstance(spec, dict) and key in spec else []
    return [*own, *(value for child in children for value in find_values(child, key))]


def test_charts_of_two_runs() -> None:
    """Two runs of several levels share charts by load, over time, of distributions and errors."""
    assert list_titles(TWO_RUNS) == {
        "By load": [
            "Output tokens/s",
            "Requests/s",
            "TTFT (P50, dashed: P95), ms",
            "ITL (P50, dashed: P95), ms",
            "E2E latency (P50, dashed: P95), ms",
            "Output tokens/s over E2E latency",
        ],
        "Over time": [
            "Output tokens/s over time",
            "E2E latency P95 of each second, ms",
            "Requests in flight over time",
        ],
        "Distributions": [
            "E2E latency, ms (lines: P50, P95, P99)",
            "TTFT, ms (lines: P50, P95, P99)",
        ],
        "Errors": ["Failed requests"],
    }


@pytest.mark.parametrize(
    "runs",
    [TWO_RUNS, build_runs(1, 1, 8), build_runs(3, 8), build_runs(MAX_COLORS + 1, 1, 8)],
    ids=["lines", "one run", "dots", "small charts"],
)
def test_charts_fit_the_schema(runs: list[Run]) -> None:
    """All kinds of charts are valid by Vega-Lite's schema, which reports do not check."""
    charts = [one.chart for drawn in build_charts(runs).values() for one in drawn]
    assert [chart.to_dict() for chart in charts] == [
        chart.to_dict(validate=False) for chart in charts
    ]


@pytest.mark.parametrize("count", [1, 3, MAX_COLORS])
def test_few_runs_have_colors(count: int) -> None:
    """Up to eight runs are told apart by color; a single run needs none."""
    runs = build_runs(count, 1, 8)
    colors = list_colors(runs)
    assert len(set(colors.values())) == (count if count > 1 else 0)
    lines = next(iter(build_charts(runs)["By load"])).chart.to_dict()
    domains = [one["domain"] for one in find_values(lines, "scale") if "range" in one]
    assert [*domains, []][0] == list(colors)


def test_many_runs_are_small_multiples() -> None:
    """More than eight runs are drawn in a small chart each, in one color, without a timeline."""
    runs = build_runs(12, 1, 8)
    charts = build_charts(runs)
    assert list_colors(runs) == {}
    assert list(charts) == ["By load", "Distributions"]
    assert all(one.wide for one in charts["By load"])
    facet = charts["By load"][0].chart.to_dict()["facet"]
    assert facet["sort"] == [run.name for run in runs]


def test_runs_of_one_level_are_rows() -> None:
    """Runs of one level each are compared in a row per run; a single one has no such chart."""
    assert list(list_titles(build_runs(3, 8))) == ["By run", "Over time", "Distributions"]
    assert list(list_titles(build_runs(1, 8))) == ["Over time", "Distributions"]


def test_distributions_have_few_rows() -> None:
    """More than 16 levels of several runs show the heaviest level of each run."""
    charts = build_charts(build_runs(6, 1, 2, 4))
    assert charts["Distributions"][0].title.startswith("E2E latency, ms, 6 of 18 levels")


def test_names_of_rows() -> None:
    """The names of long-named runs' rows keep the level, and both ends of the run's name."""
    names = ["Llama on 1 GPU, batch of 16", "Llama on 1 GPU, batch of 32"]
    runs = [Run(name, report(level(1), level(16))) for name in names]
    (text,) = set(find_values(build_charts(runs)["Distributions"][0].chart.to_dict(), "labelExpr"))
    assert json.loads(text.partition("]")[0] + "]") == [
        "Llama on…ch of 16: concurrency 1",
        "Llama on…h of 16: concurrency 16",
        "Llama on…ch of 32: concurrency 1",
        "Llama on…h of 32: concurrency 16",
    ]


def test_percentiles_of_small_samples() -> None:
    """A chart has no P95 below 20 responses, and no interval of it below 72."""
    runs = [Run("a", report(level(1, count=15), level(8, count=60)))]
    e2e = build_charts(runs)["By load"][4].chart.to_dict()
    (rows,) = e2e["datasets"].values()
    found = [(row["level"], row["statistic"], row["low"] < row["high"]) for row in rows]
    assert found == [
        ("concurrency 1", "P50", True),
        ("concurrency 8", "P50", True),
        ("concurrency 8", "P95", False),
    ]


@pytest.mark.parametrize(
    "runs",
    [TWO_RUNS, [EMPTY_RUN], build_runs(12, 1, 8), build_runs(1, *range(1, 16))],
    ids=["two", "empty", "twelve", "levels"],
)
def test_png_fits_a_page(runs: list[Run]) -> None:
    """The image is a PNG of at most 2,400 pixels in width, whatever the number of runs."""
    png = render_png(runs)
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">I", png[16:20])[0] <= 2400
