"""Histograms of E2E latency and TTFT: one row per level, on a shared axis."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Final

import altair as alt
import orjson

from maxgate.report.chart_style import list_tooltips
from maxgate.report.formatting import DurationUnit, choose_duration_unit, cut_middle, list_log_ticks
from maxgate.report.runs import Run, Series
from maxgate.results.report import Level

_WIDTH: Final = 250
_ROW_HEIGHT: Final = 26
_MAX_ROWS: Final = 16
_MAX_LABEL: Final = 32  # characters that fit beside a row
_LINE_COLOR: Final = "#6b7280"
_PERCENTILES: Final = ("50", "95", "99")


Chart = Any  # altair's method chains are untyped


def build_distributions(runs: Sequence[Run], color: Any) -> Iterator[tuple[str, Chart]]:
    """Yield title and chart for each metric with values; `color` encodes the field `curve`."""
    for metric, title in (("latency", "E2E latency"), ("ttft", "TTFT")):
        series = [
            (run.name_curve(level), level)
            for run in runs
            for level in run.report.levels
            if (found := level.find_metric(metric)) is not None and found.histogram is not None
        ]
        if not series:
            continue
        chosen = _choose_heaviest(series)
        part = "" if len(chosen) == len(series) else f", {len(chosen)} of {len(series)} levels"
        distributions = [level.find_metric(metric) for _, level in chosen]
        unit = choose_duration_unit([one.max or 0.0 for one in distributions if one])
        yield (
            f"{title}, {unit.name}{part} (lines: P50, P95, P99)",
            _build_rows(chosen, metric, unit, color),
        )


def _choose_heaviest(series: Series) -> Series:
    """Keep the level with the most requests in flight of each curve, if there are too many."""
    if len(series) <= _MAX_ROWS:
        return series
    by_load = sorted(series, key=lambda one: -one[1].in_flight.mean)
    if len({curve for curve, _ in series}) > 1:
        heaviest: dict[str, Level] = {}
        for curve, level in by_load:
            heaviest.setdefault(curve, level)
        by_load = sorted(heaviest.items(), key=lambda one: -one[1].in_flight.mean)
    kept = {id(level) for _, level in by_load[:_MAX_ROWS]}
    return [(curve, level) for curve, level in series if id(level) in kept]


def _build_rows(series: Series, metric: str, unit: DurationUnit, color: Any) -> Chart:
    bars = [row for k, one in enumerate(series) for row in _list_bars(k, one, metric, unit)]
    marks = [row for k, one in enumerate(series) for row in _list_marks(k, one, metric, unit)]
    low, high = min(bar["low"] for bar in bars), max(bar["high"] for bar in bars)
    y = _encode_rows(series)
    x = alt.X(
        "low:Q",
        title=None,
        scale=alt.Scale(type="log", domain=[low, high], nice=False),
        axis=alt.Axis(values=list_log_ticks(low, high), format=",~r"),
    )
    height = max(_ROW_HEIGHT * len(series), 60)
    bar_tooltip = [
        *list_tooltips("curve:N", "level:N"),
        alt.Tooltip("low:Q", format=".4~g"),
        alt.Tooltip("high:Q", format=".4~g"),
        alt.Tooltip("share:Q", format=".1%"),
    ]
    mark_tooltip = [*list_tooltips("level:N", "percentile:N"), alt.Tooltip("low:Q", format=".4~g")]
    return alt.layer(
        alt.Chart({"values": bars}, width=_WIDTH, height=height)
        .mark_rect(opacity=0.6)
        .encode(
            x=x, x2=alt.X2("high:Q"), y=y, y2=alt.Y2("row:Q"), color=color, tooltip=bar_tooltip
        ),
        alt.Chart({"values": marks}, width=_WIDTH, height=height)
        .mark_rule(strokeWidth=1.5, color=_LINE_COLOR)
        .encode(x=x, y=y, y2=alt.Y2("row:Q"), tooltip=mark_tooltip),
    )


def _encode_rows(series: Series) -> alt.Y:
    """One row per level, counted from the top, with its name beside it."""
    several = len({curve for curve, _ in series}) > 1
    names = [_name_row(curve, level.name) if several else level.name for curve, level in series]
    axis = alt.Axis(
        values=[k + 0.55 for k in range(len(series))],
        labelExpr=f"{orjson.dumps(names).decode()}[floor(datum.value)]",
        labelLimit=170,
        labelOverlap=False,
        grid=False,
        ticks=False,
        domain=False,
    )
    scale = alt.Scale(domain=[len(series), 0], nice=False)
    return alt.Y("top:Q", title=None, scale=scale, axis=axis)


def _name_row(curve: str, level: str) -> str:
    """Both names, with the curve's cut so that the level's stays."""
    return f"{cut_middle(curve, _MAX_LABEL - len(level) - 2)}: {level}"


def _list_bars(
    number: int, one: tuple[str, Level], metric: str, unit: DurationUnit
) -> Iterator[dict[str, Any]]:
    curve, level = one
    found = level.find_metric(metric)
    histogram = found and found.histogram
    assert histogram, "levels without histograms are left out"  # noqa: S101
    total, highest = sum(histogram.counts) or 1, max(histogram.counts, default=1) or 1
    for (low, high), count in zip(pairwise(histogram.bounds), histogram.counts, strict=True):
        if count:
            yield {
                "curve": curve,
                "level": level.name,
                "low": low * unit.factor,
                "high": high * unit.factor,
                "row": number + 1,
                "top": number + 1 - 0.85 * count / highest,
                "share": count / total,
            }


def _list_marks(
    number: int, one: tuple[str, Level], metric: str, unit: DurationUnit
) -> Iterator[dict[str, Any]]:
    level = one[1]
    found = level.find_metric(metric)
    for key in _PERCENTILES:
        if found and (value := found.percentiles.get(key)) is not None:
            yield {
                "level": level.name,
                "percentile": f"P{key}",
                "low": value * unit.factor,
                "row": number + 1,
                "top": number + 0.1,
            }
