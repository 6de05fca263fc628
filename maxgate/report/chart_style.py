"""Colors, encodings and types shared by all charts.

Fields are encoded by altair's classes: a string in their place takes 5 ms to be recognized.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import altair as alt

from maxgate.report.curves import MAX_COLORS, Curve, LoadAxis
from maxgate.report.formatting import list_log_ticks

PALETTE: Final = (
    "#3b7dd8", "#e07b1a", "#2a9d6f", "#cc4455", "#8b62c4", "#12a0b3", "#a9781f", "#d064a8",
)  # fmt: skip
"""Colors of the curves, readable on white and on black."""
WIDTH: Final = 370
HEIGHT: Final = 200
MUTED: Final = "#9aa1aa"
_LEGEND: Final = alt.Legend(symbolType="circle", symbolOpacity=1, symbolStrokeWidth=0)

Row = Mapping[str, Any]
Chart = Any  # altair's method chains are untyped


@dataclass(frozen=True, slots=True)
class Drawn:
    """A chart with its title; wide charts take a whole row."""

    title: str
    chart: Chart
    wide: bool = False


def encode_color(curves: Sequence[Curve]) -> Any:
    """One color per curve; the first color for a single curve or for too many."""
    if not 1 < len(curves) <= MAX_COLORS:
        return alt.value(PALETTE[0])
    names = [curve.name for curve in curves]
    scale = alt.Scale(domain=names, range=list(PALETTE[: len(names)]))
    return alt.Color("curve:N", title=None, scale=scale, legend=_LEGEND)


def list_tooltips(*fields: str) -> list[alt.Tooltip]:
    """Show these fields, each with its type, when the pointer is over a mark."""
    return [alt.Tooltip(field) for field in fields]


def encode_load(axis: LoadAxis, curves: Sequence[Curve], *, small: bool = False) -> alt.X:
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


def spans_far(rows: Sequence[Row]) -> bool:
    """Whether durations are so far apart that the small ones vanish on a linear axis."""
    values = [row["value"] for row in rows if row["statistic"]]
    return bool(values) and min(values) > 0 and max(values) >= 20 * min(values)


def encode_value(rows: Sequence[Row], *, is_log: bool, tick_count: int = 6) -> alt.Y:
    """Values on the vertical axis, from zero unless the scale is logarithmic."""
    if not is_log:
        axis = alt.Axis(tickCount=tick_count, format=",~r")
        return alt.Y("value:Q", title=None, scale=alt.Scale(zero=True), axis=axis)
    low = 0.8 * min(row["low"] for row in rows)
    high = 1.25 * max(row["high"] for row in rows)
    scale = alt.Scale(type="log", domain=[low, high], nice=False)
    ticks = list_log_ticks(low, high)
    axis = alt.Axis(values=ticks[:: math.ceil(len(ticks) / tick_count)], format=",~r")
    return alt.Y("value:Q", title=None, scale=scale, axis=axis)
