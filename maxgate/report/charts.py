"""Build Vega-Lite charts with altair, for HTML pages and PNG images."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import altair as alt
import orjson
import vl_convert

from maxgate.report.curves import (
    MAX_COLORS,
    Curve,
    LoadAxis,
    Moment,
    Point,
    build_curves,
    choose_load_axis,
    list_level_starts,
    list_moments,
    list_percentiles,
    list_rates,
    varies_by_load,
)
from maxgate.report.distribution_charts import build_distributions
from maxgate.report.formatting import choose_duration_unit, list_log_ticks
from maxgate.report.headings import build_notes, build_subtitle, build_title
from maxgate.report.runs import Run

PALETTE: Final = (
    "#3b7dd8", "#e07b1a", "#2a9d6f", "#cc4455", "#8b62c4", "#12a0b3", "#a9781f", "#d064a8",
)  # fmt: skip
"""Colors of the curves, readable on white and on black."""
WIDTH: Final = 370
_HEIGHT: Final = 200
_MULTIPLE_COLUMNS: Final = 6
_PNG_SCALE: Final = 1.5
_MAX_LABELED_LEVELS: Final = 8
_MAX_ERROR_ROWS: Final = 16
_NO_MULTIPLES: Final = ("Requests/s", "TTFT P95", "ITL P95", "E2E latency P50")
_MUTED: Final = "#9aa1aa"
_DASH: Final = alt.StrokeDash(
    "statistic:N",
    legend=None,
    scale=alt.Scale(domain=["P50", "P95"], range=[[1, 0], [5, 4]]),
)
_LEGEND: Final = alt.Legend(symbolType="circle", symbolOpacity=1, symbolStrokeWidth=0)

Row = Mapping[str, Any]
Chart = Any  # altair's method chains are untyped


@dataclass(frozen=True, slots=True)
class Drawn:
    """A chart with its title; wide charts take a whole row."""

    title: str
    chart: Chart
    wide: bool = False


def build_charts(runs: Sequence[Run]) -> dict[str, list[Drawn]]:
    """Build all charts that have data, by section."""
    curves = build_curves(runs)
    axis = choose_load_axis(curves)
    sections: dict[str, Iterator[Drawn]] = {}
    if varies_by_load(curves, axis):
        draw = _build_multiples if len(curves) > MAX_COLORS else _build_lines
        sections["By load"] = draw(curves, axis)
    elif len(curves) > 1:
        sections["By run"] = _build_dots(curves, axis)
    if len(curves) <= MAX_COLORS:
        sections["Over time"] = _build_timelines(curves)
    sections["Distributions"] = (
        Drawn(*found) for found in build_distributions(runs, _encode_color(curves))
    )
    sections["Errors"] = _build_errors(runs)
    found = {title: list(drawn) for title, drawn in sections.items()}
    return {title: drawn for title, drawn in found.items() if drawn}


def render_png(runs: Sequence[Run]) -> bytes:
    """Render all charts as a PNG image of three columns, without a browser."""
    rows = []
    for drawn in build_charts(runs).values():
        rows += [one.chart.properties(title=one.title) for one in drawn if one.wide]
        small = [one.chart.properties(title=one.title) for one in drawn if not one.wide]
        rows += [alt.concat(*small, columns=3, spacing=24)] if small else []
    levels = [level for run in runs for level in run.report.levels]
    title = alt.TitleParams(
        build_title(runs), subtitle=[*build_subtitle(runs), " ".join(build_notes(levels))],
        anchor="start", fontSize=20, subtitleFontSize=13, offset=14, subtitlePadding=6,
    )  # fmt: skip
    empty = alt.Chart({"values": [{}]}).mark_text(text="no responses")
    lines = {"gridColor": "#e6e8eb", "domainColor": _MUTED, "tickColor": _MUTED}
    image = (
        alt.vconcat(*rows or [empty], spacing=24, title=title)
        .resolve_scale(color="shared", x="independent", y="independent")
        .configure_axis(labelFontSize=11, titleFontSize=11, titleFontWeight="normal", **lines)
        .configure_title(fontSize=14, anchor="start")
        .configure_legend(labelFontSize=13, labelLimit=360, orient="top", columns=4, title=None)
        .configure_view(stroke=None)
    )
    spec = orjson.dumps({**image.to_dict(), "padding": 16}).decode()
    png: bytes = vl_convert.vegalite_to_png(spec, scale=_PNG_SCALE)
    return png


def list_colors(runs: Sequence[Run]) -> dict[str, str]:
    """Color of each curve; empty if there is one curve or too many for colors."""
    names = [curve.name for curve in build_curves(runs)]
    if not 1 < len(names) <= MAX_COLORS:
        return {}
    return dict(zip(names, PALETTE, strict=False))


def _encode_color(curves: Sequence[Curve]) -> Any:
    if not 1 < len(curves) <= MAX_COLORS:
        return alt.value(PALETTE[0])
    names = [curve.name for curve in curves]
    scale = alt.Scale(domain=names, range=list(PALETTE[: len(names)]))
    return alt.Color("curve:N", title=None, scale=scale, legend=_LEGEND)


def _encode_load(axis: LoadAxis, curves: Sequence[Curve], *, small: bool = False) -> alt.X:
    """Use the same axis in all charts, logarithmic where loads span a decade."""
    ticks = sorted({axis.read(level) for curve in curves for level in curve.levels})
    is_log = len(ticks) > 2 and ticks[0] > 0 and ticks[-1] >= 10 * ticks[0]
    shown = ticks if axis.title != "mean requests in flight" else alt.Undefined
    if small:
        shown = [ticks[0], ticks[-1]]
    domain = [ticks[0] if is_log else 0, ticks[-1]]
    scale = (
        alt.Scale(type="log", base=2, nice=False, domain=domain)
        if is_log
        else alt.Scale(nice=False, domain=domain)
    )
    ticked = alt.Axis(values=shown, format="~g", labelOverlap="greedy", grid=False)
    return alt.X("load:Q", title=None if small else axis.title, scale=scale, axis=ticked)


def _list_rows(points: Sequence[Point], statistic: str, factor: float) -> Iterator[Row]:
    for point in points:
        interval = point.interval
        yield {
            "curve": point.curve,
            "statistic": statistic,
            "level": point.level.name,
            "load": point.load,
            "value": point.value * factor,
            "low": (interval.low if interval else point.value) * factor,
            "high": (interval.high if interval else point.value) * factor,
            "responses": point.level.requests.succeeded,
        }


def _list_panels(curves: Sequence[Curve], axis: LoadAxis) -> Iterator[tuple[str, list[Row]]]:
    """Yield title and rows per panel; few curves have two percentiles in one panel."""
    rates = (("Output tokens/s", True), ("Requests/s", False))
    for title, tokens in rates:
        yield title, [*_list_rows(list_rates(curves, axis, tokens=tokens), "", 1)]
    few = len(curves) <= 2
    choices = {"ttft": ("50", "95"), "tpot": ("50", "95"), "latency": ("50", "95")}
    names = {"ttft": "TTFT", "tpot": "ITL", "latency": "E2E latency"}
    for metric, percents in choices.items():
        points = {key: list_percentiles(curves, axis, metric, key) for key in percents}
        unit = choose_duration_unit([one.value for found in points.values() for one in found])
        rows = {key: [*_list_rows(points[key], f"P{key}", unit.factor)] for key in percents}
        if few:
            both = " (P50, dashed: P95)" if rows["95"] else " P50"
            yield f"{names[metric]}{both}, {unit.name}", [*rows["50"], *rows["95"]]
        else:
            for key in percents:
                yield f"{names[metric]} P{key}, {unit.name}", rows[key]


def _build_lines(curves: Sequence[Curve], axis: LoadAxis) -> Iterator[Drawn]:
    color = _encode_color(curves)
    for title, rows in _list_panels(curves, axis):
        if not rows:
            continue
        base = alt.Chart({"values": rows}, width=WIDTH, height=_HEIGHT).encode(
            x=_encode_load(axis, curves), color=color
        )
        is_log = _spans_far(rows)
        y = _encode_value(rows, is_log=is_log)
        line = base.mark_line(strokeWidth=2).encode(y=y, order="load:Q")
        yield Drawn(
            f"{title}, log scale" if is_log else title,
            alt.layer(
                base.mark_rule(opacity=0.55, strokeWidth=1.5).encode(y=alt.Y("low:Q"), y2="high:Q"),
                line.encode(strokeDash=_DASH) if "dashed" in title else line,
                base.mark_point(filled=True, size=42, opacity=1).encode(
                    y=y, tooltip=["curve:N", "level:N", "statistic:N", *_TOOLTIP]
                ),
            ),
        )
    yield from _build_tradeoff(curves, axis)


_TOOLTIP: Final = (
    *(alt.Tooltip(f"{field}:Q", format=".4~g") for field in ("value", "low", "high")),
    "responses:Q",
)


def _spans_far(rows: Sequence[Row]) -> bool:
    """Whether durations are so far apart that the small ones vanish on a linear axis."""
    values = [row["value"] for row in rows if row["statistic"]]
    return bool(values) and min(values) > 0 and max(values) >= 20 * min(values)


def _encode_value(rows: Sequence[Row], *, is_log: bool, tick_count: int = 6) -> alt.Y:
    if not is_log:
        axis = alt.Axis(tickCount=tick_count, format=",~r")
        return alt.Y("value:Q", title=None, scale=alt.Scale(zero=True), axis=axis)
    low = 0.8 * min(row["low"] for row in rows)
    high = 1.25 * max(row["high"] for row in rows)
    scale = alt.Scale(type="log", domain=[low, high], nice=False)
    ticks = list_log_ticks(low, high)
    axis = alt.Axis(values=ticks[:: math.ceil(len(ticks) / tick_count)], format=",~r")
    return alt.Y("value:Q", title=None, scale=scale, axis=axis)


def _build_tradeoff(curves: Sequence[Curve], axis: LoadAxis) -> Iterator[Drawn]:
    """Draw throughput over latency: up and to the left is better."""
    latencies = {
        id(point.level): point.value for point in list_percentiles(curves, axis, "latency", "95")
    }
    unit = choose_duration_unit(latencies.values())
    rows = [
        {
            "curve": point.curve,
            "level": point.level.name,
            "load": point.load,
            "latency": latencies[id(point.level)] * unit.factor,
            "tokens": point.value,
        }
        for point in list_rates(curves, axis, tokens=True)
        if id(point.level) in latencies
    ]
    if rows:
        few_ticks = alt.Axis(grid=False, tickCount=5)
        base = alt.Chart({"values": rows}, width=WIDTH, height=_HEIGHT).encode(
            x=alt.X("latency:Q", title=f"E2E latency P95, {unit.name}", axis=few_ticks),
            y=alt.Y("tokens:Q", title=None, scale=alt.Scale(zero=True)),
            color=_encode_color(curves),
            order="load:Q",
            tooltip=["curve:N", "level:N", "latency:Q", "tokens:Q"],
        )
        point = base.mark_point(filled=True, size=42, opacity=1)
        label = base.mark_text(dy=-10, fontSize=10, color="#6b7280").encode(text="load:Q")
        marks = [base.mark_line(strokeWidth=2), point, *([label] if len(curves) == 1 else [])]
        yield Drawn("Output tokens/s over E2E latency", alt.layer(*marks))


def _build_multiples(curves: Sequence[Curve], axis: LoadAxis) -> Iterator[Drawn]:
    """Draw each curve in its own small chart, over all others in grey."""
    names = [curve.name for curve in curves]
    width = 3 * WIDTH // _MULTIPLE_COLUMNS - 24
    header = alt.Header(title=None, labelLimit=width, labelFontWeight="bold")
    facet = alt.Facet("curve:N", sort=names, header=header)
    for title, rows in _list_panels(curves, axis):
        if not rows or title.startswith(_NO_MULTIPLES):
            continue
        is_log = _spans_far(rows)
        x = _encode_load(axis, curves, small=True)
        y = _encode_value(rows, is_log=is_log, tick_count=3)
        # Rows without the field of the facet are drawn in every small chart.
        others = [
            {"other": row["curve"], "load": row["load"], "value": row["value"]} for row in rows
        ]
        points = alt.OverlayMarkDef(size=26, color=PALETTE[0])
        own = alt.Chart(width=width, height=84).mark_line(
            color=PALETTE[0], strokeWidth=2.5, point=points
        )
        grey = alt.Chart({"values": others}).mark_line(color=_MUTED, opacity=0.35, strokeWidth=1)
        layers = alt.layer(
            grey.encode(x=x, y=y, detail="other:N", order="load:Q"),
            own.encode(x=x, y=y, order="load:Q", tooltip=["curve:N", "level:N", *_TOOLTIP]),
            data={"values": rows},
        )
        scale = ", log scale" if is_log else ""
        yield Drawn(
            f"{title} by {axis.title}{scale} (grey: the other runs)",
            layers.facet(facet=facet, columns=_MULTIPLE_COLUMNS).properties(spacing=12),
            wide=True,
        )


def _build_dots(curves: Sequence[Curve], axis: LoadAxis) -> Iterator[Drawn]:
    """Compare runs of one level each: a row per curve, with intervals."""
    names = [curve.name for curve in curves]
    for title, rows in _list_panels(curves, axis):
        if not rows:
            continue
        base = alt.Chart(
            {"values": rows}, width=WIDTH - 120, height=max(22 * len(names), 60)
        ).encode(
            y=alt.Y("curve:N", title=None, sort=names, axis=alt.Axis(labelLimit=110, grid=True))
        )
        x = alt.X("value:Q", title=None, scale=alt.Scale(zero=True))
        opacity = alt.Opacity(
            "statistic:N",
            legend=None,
            scale=alt.Scale(domain=["", "P50", "P95"], range=[1, 1, 0.5]),
        )
        yield Drawn(
            title.replace("dashed", "pale"),
            alt.layer(
                base.mark_rule(color=PALETTE[0], strokeWidth=1.5).encode(
                    x=alt.X("low:Q"), x2="high:Q", opacity=opacity
                ),
                base.mark_point(filled=True, size=60, color=PALETTE[0]).encode(
                    x=x, opacity=opacity, tooltip=["curve:N", "level:N", "statistic:N", *_TOOLTIP]
                ),
            ),
        )


def _build_timelines(curves: Sequence[Curve]) -> Iterator[Drawn]:
    moments = [moment for curve in curves for moment in list_moments(curve)]
    if not moments:
        return
    unit = choose_duration_unit([one.latency_p95 for one in moments if one.latency_p95 is not None])
    panels: dict[str, Callable[[Moment], float | None]] = {
        "Output tokens/s over time": lambda one: one.output_tokens,
        f"E2E latency P95 of each second, {unit.name}": lambda one: (
            None if one.latency_p95 is None else one.latency_p95 * unit.factor
        ),
        "Requests in flight over time": lambda one: one.in_flight,
    }
    color = _encode_color(curves)
    seconds = alt.Axis(grid=False, tickCount=7)
    for title, read in panels.items():
        is_line = "P95" not in title
        rows = [row for one in moments for row in _list_moment_rows(one, read, is_line=is_line)]
        base = alt.Chart({"values": rows}, width=WIDTH, height=_HEIGHT // 2).encode(
            x=alt.X("second:Q", title="seconds since start of run", axis=seconds),
            y=alt.Y("value:Q", title=None, axis=alt.Axis(tickCount=4), scale=alt.Scale(zero=True)),
            color=color,
            tooltip=["curve:N", "second:Q", alt.Tooltip("value:Q", format=".4~g")],
        )
        # Seconds without a response have no latency, so points are not connected.
        if not is_line:
            marks = base.mark_point(filled=True, size=16, opacity=0.8)
        else:
            marks = base.mark_line(strokeWidth=1.5, interpolate="step-after").encode(
                detail="part:N"
            )
        yield Drawn(
            title, alt.layer(*_mark_levels(curves), marks, height=_HEIGHT // 2, width=WIDTH)
        )


def _list_moment_rows(
    moment: Moment, read: Callable[[Moment], float | None], *, is_line: bool
) -> Iterator[Row]:
    """Start of a bin, and its end in a line, so that a level of one bin is visible."""
    value = read(moment)
    if value is not None:
        for second in range(moment.second, moment.second + moment.width + is_line, moment.width):
            yield {
                "curve": moment.curve, "part": moment.part, "second": second, "value": value,
            }  # fmt: skip


def _mark_levels(curves: Sequence[Curve]) -> Iterator[Chart]:
    """Mark the start of each level, if there is one curve."""
    if len(curves) > 1 or len(curves[0].levels) == 1:
        return
    axis = choose_load_axis(curves)
    rows = [
        {"second": second, "text": f"{axis.read(level):.3g}"}
        for second, level in list_level_starts(curves[0])
    ]
    base = alt.Chart({"values": rows}).encode(x="second:Q")
    yield base.mark_rule(color=_MUTED, opacity=0.4, strokeDash=[2, 2])
    if len(rows) <= _MAX_LABELED_LEVELS:
        yield base.mark_text(color="#6b7280", align="left", dx=3, fontSize=10).encode(
            y=alt.value(-5), text="text:N"
        )


def _build_errors(runs: Sequence[Run]) -> Iterator[Drawn]:
    rows: list[Row] = [
        {
            "label": f"{name if len(runs) > 1 else level.name}, {kind}",
            "count": count,
            "share": count / level.requests.attempted,
        }
        for run in runs
        for name, level in run.name_levels()
        for kind, count in level.requests.errors.items()
    ]
    if not rows:
        return
    worst = sorted(rows, key=lambda row: row["share"], reverse=True)[:_MAX_ERROR_ROWS]
    part = f" ({len(worst)} of {len(rows)} rows)" if len(worst) < len(rows) else ""
    yield Drawn(
        f"Failed requests{part}",
        alt.Chart({"values": worst}, width=WIDTH)
        .mark_bar(color=PALETTE[3], height=14)
        .encode(
            x=alt.X("share:Q", title="share of requests", axis=alt.Axis(format="%", tickCount=4)),
            y=alt.Y("label:N", title=None, sort=None, axis=alt.Axis(labelLimit=320)),
            tooltip=["label:N", "count:Q", alt.Tooltip("share:Q", format=".2%")],
        ),
    )
