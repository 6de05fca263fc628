"""Charts of each run over time, and of its failed requests."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import altair as alt

from maxgate.report.chart_style import (
    HEIGHT,
    MUTED,
    PALETTE,
    WIDTH,
    Chart,
    Drawn,
    Row,
    encode_color,
    list_tooltips,
)
from maxgate.report.curves import Curve, Moment, choose_load_axis, list_level_starts, list_moments
from maxgate.report.formatting import choose_duration_unit
from maxgate.report.runs import Run, name_levels

_MAX_LABELED_LEVELS: Final = 8
_MAX_ERROR_ROWS: Final = 16


def build_timelines(curves: Sequence[Curve]) -> Iterator[Drawn]:
    """Draw output tokens per second, E2E latency and requests in flight over time."""
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
    color = encode_color(curves)
    seconds = alt.Axis(grid=False, tickCount=7)
    for title, read in panels.items():
        is_line = "P95" not in title
        rows = [row for one in moments for row in _list_moment_rows(one, read, is_line=is_line)]
        base = alt.Chart({"values": rows}, width=WIDTH, height=HEIGHT // 2).encode(
            x=alt.X("second:Q", title="seconds since start of run", axis=seconds),
            y=alt.Y("value:Q", title=None, axis=alt.Axis(tickCount=4), scale=alt.Scale(zero=True)),
            color=color,
            tooltip=[*list_tooltips("curve:N", "second:Q"), alt.Tooltip("value:Q", format=".4~g")],
        )
        # Seconds without a response have no latency, so points are not connected.
        if not is_line:
            marks = base.mark_point(filled=True, size=16, opacity=0.8)
        else:
            marks = base.mark_line(strokeWidth=1.5, interpolate="step-after").encode(
                detail=alt.Detail("part:N")
            )
        yield Drawn(title, alt.layer(*_mark_levels(curves), marks, height=HEIGHT // 2, width=WIDTH))


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
    base = alt.Chart({"values": rows}).encode(x=alt.X("second:Q"))
    yield base.mark_rule(color=MUTED, opacity=0.4, strokeDash=[2, 2])
    if len(rows) <= _MAX_LABELED_LEVELS:
        yield base.mark_text(color="#6b7280", align="left", dx=3, fontSize=10).encode(
            y=alt.value(-5), text=alt.Text("text:N")
        )


def build_errors(runs: Sequence[Run]) -> Iterator[Drawn]:
    """Draw the share of failed requests by level and kind, the largest first."""
    rows: list[Row] = [
        {
            "label": f"{name}, {kind}",
            "count": count,
            "share": count / max(level.requests.attempted, 1),
        }
        for name, level in name_levels(runs)
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
            tooltip=[*list_tooltips("label:N", "count:Q"), alt.Tooltip("share:Q", format=".2%")],
        ),
    )
