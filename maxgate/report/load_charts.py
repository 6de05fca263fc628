"""Charts of throughput and latency by load, with a line, a small chart or a row per run."""

from collections.abc import Iterator, Sequence
from typing import Final

import altair as alt

from maxgate.report.chart_style import (
    HEIGHT,
    MUTED,
    PALETTE,
    WIDTH,
    Drawn,
    Row,
    encode_color,
    encode_load,
    encode_value,
    list_tooltips,
    spans_far,
)
from maxgate.report.curves import Curve, LoadAxis, Point, list_percentiles, list_rates
from maxgate.report.formatting import choose_duration_unit

_MULTIPLE_COLUMNS: Final = 6
_NO_MULTIPLES: Final = ("Requests/s", "TTFT P95", "ITL P95", "E2E latency P50")
_DASH: Final = alt.StrokeDash(
    "statistic:N",
    legend=None,
    scale=alt.Scale(domain=["P50", "P95"], range=[[1, 0], [5, 4]]),
)
_TOOLTIP: Final = (
    *(alt.Tooltip(f"{field}:Q", format=".4~g") for field in ("value", "low", "high")),
    alt.Tooltip("responses:Q"),
)


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


def build_lines(curves: Sequence[Curve], axis: LoadAxis) -> Iterator[Drawn]:
    """Draw one line per curve and statistic in each chart."""
    color = encode_color(curves)
    for title, rows in _list_panels(curves, axis):
        if not rows:
            continue
        base = alt.Chart({"values": rows}, width=WIDTH, height=HEIGHT).encode(
            x=encode_load(axis, curves), color=color
        )
        is_log = spans_far(rows)
        y = encode_value(rows, is_log=is_log)
        line = base.mark_line(strokeWidth=2).encode(y=y, order=alt.Order("load:Q"))
        yield Drawn(
            f"{title}, log scale" if is_log else title,
            alt.layer(
                base.mark_rule(opacity=0.55, strokeWidth=1.5).encode(
                    y=alt.Y("low:Q"), y2=alt.Y2("high:Q")
                ),
                line.encode(strokeDash=_DASH) if "dashed" in title else line,
                base.mark_point(filled=True, size=42, opacity=1).encode(
                    y=y,
                    tooltip=[*list_tooltips("curve:N", "level:N", "statistic:N"), *_TOOLTIP],
                ),
            ),
        )
    yield from _build_tradeoff(curves, axis)


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
        base = alt.Chart({"values": rows}, width=WIDTH, height=HEIGHT).encode(
            x=alt.X("latency:Q", title=f"E2E latency P95, {unit.name}", axis=few_ticks),
            y=alt.Y("tokens:Q", title=None, scale=alt.Scale(zero=True)),
            color=encode_color(curves),
            order=alt.Order("load:Q"),
            tooltip=list_tooltips("curve:N", "level:N", "latency:Q", "tokens:Q"),
        )
        point = base.mark_point(filled=True, size=42, opacity=1)
        label = base.mark_text(dy=-10, fontSize=10, color="#6b7280").encode(text=alt.Text("load:Q"))
        marks = [base.mark_line(strokeWidth=2), point, *([label] if len(curves) == 1 else [])]
        yield Drawn("Output tokens/s over E2E latency", alt.layer(*marks))


def build_multiples(curves: Sequence[Curve], axis: LoadAxis) -> Iterator[Drawn]:
    """Draw each curve in its own small chart, over all others in grey."""
    names = [curve.name for curve in curves]
    width = 3 * WIDTH // _MULTIPLE_COLUMNS - 24
    header = alt.Header(title=None, labelLimit=width, labelFontWeight="bold")
    facet = alt.Facet("curve:N", sort=names, header=header)
    for title, rows in _list_panels(curves, axis):
        if not rows or title.startswith(_NO_MULTIPLES):
            continue
        is_log = spans_far(rows)
        x = encode_load(axis, curves, small=True)
        y = encode_value(rows, is_log=is_log, tick_count=3)
        # Rows without the field of the facet are drawn in every small chart.
        others = [
            {"other": row["curve"], "load": row["load"], "value": row["value"]} for row in rows
        ]
        points = alt.OverlayMarkDef(size=26, color=PALETTE[0])
        own = alt.Chart(width=width, height=84).mark_line(
            color=PALETTE[0], strokeWidth=2.5, point=points
        )
        grey = alt.Chart({"values": others}).mark_line(color=MUTED, opacity=0.35, strokeWidth=1)
        layers = alt.layer(
            grey.encode(x=x, y=y, detail=alt.Detail("other:N"), order=alt.Order("load:Q")),
            own.encode(
                x=x,
                y=y,
                order=alt.Order("load:Q"),
                tooltip=[*list_tooltips("curve:N", "level:N"), *_TOOLTIP],
            ),
            data={"values": rows},
        )
        scale = ", log scale" if is_log else ""
        yield Drawn(
            f"{title} by {axis.title}{scale} (grey: the other runs)",
            layers.facet(facet=facet, columns=_MULTIPLE_COLUMNS).properties(spacing=12),
            wide=True,
        )


def build_dots(curves: Sequence[Curve], axis: LoadAxis) -> Iterator[Drawn]:
    """Compare runs of one level each: a row per curve, with intervals."""
    names = [curve.name for curve in curves]
    for title, rows in _list_panels(curves, axis):
        if not rows:
            continue
        base = alt.Chart(
            {"values": rows}, width=WIDTH - 120, height=max(22 * len(names), 60)
        ).encode(
            y=alt.Y("curve:N", title=None, sort=names, axis=alt.Axis(labelLimit=170, grid=True))
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
                    x=alt.X("low:Q"), x2=alt.X2("high:Q"), opacity=opacity
                ),
                base.mark_point(filled=True, size=60, color=PALETTE[0]).encode(
                    x=x,
                    opacity=opacity,
                    tooltip=[*list_tooltips("curve:N", "level:N", "statistic:N"), *_TOOLTIP],
                ),
            ),
        )
