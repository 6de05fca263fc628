"""How latencies are spread."""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import altair as alt

from maxgate.tools.report.charts.drawing import HEIGHT, WIDTH, Chart, Row, Series, color_of
from maxgate.tools.results.level import Level

_NINES: Final = (0.0, 50.0, 90.0, 99.0, 99.9, 99.99)


def histogram(series: Series, metric: str) -> Chart | None:
    """Shares of requests by latency, on a logarithmic axis."""
    rows = [row for name, level in series for row in _bins(name, level, metric)]
    if not rows:
        return None
    return (
        alt.Chart({"values": rows}, width=WIDTH, height=HEIGHT)
        .mark_rect(opacity=0.45)
        .encode(
            x=alt.X("low:Q", title="seconds (log)", scale=alt.Scale(type="log", nice=False)),
            x2="high:Q",
            y=alt.Y("share:Q", title="share of requests", axis=alt.Axis(format="%"), stack=None),
            y2=alt.datum(0),
            color=color_of(series),
            tooltip=["series:N", "low:Q", "high:Q", "count:Q"],
        )
    )


def _bins(name: str, level: Level, metric: str) -> Iterator[Row]:
    found = level.metrics.get(metric)
    if found is None or found.histogram is None:
        return
    histogram = found.histogram
    total = sum(histogram.counts) or 1
    for (low, high), count in zip(pairwise(histogram.bounds), histogram.counts, strict=True):
        if count:
            share = count / total
            yield {"series": name, "low": low, "high": high, "count": count, "share": share}


def nines(percent: float) -> float:
    """How many nines a percentile has: 0 for 0 %, 1 for 90 %, 2 for 99 %."""
    return -math.log10(max(1 - percent / 100, 1e-9))


def percentiles(series: Series) -> Chart | None:
    """Latency by percentile, evenly spaced in nines."""
    rows = [
        {"series": name, "nines": nines(percent), "percent": percent, "seconds": seconds}
        for name, level in series
        if (found := level.metrics.get("latency")) is not None
        for percent, seconds in found.curve
    ]
    if not rows:
        return None
    labels = " : ".join(f"abs(datum.value - {nines(p):.6f}) < 0.01 ? 'P{p:g}'" for p in _NINES)
    axis = alt.Axis(values=[nines(p) for p in _NINES], labelExpr=f"{labels} : ''")
    return (
        alt.Chart({"values": rows}, width=WIDTH, height=HEIGHT)
        .mark_line(interpolate="step-after")
        .encode(
            x=alt.X("nines:Q", title="percentile of latency", axis=axis),
            y=alt.Y("seconds:Q", title="seconds"),
            color=color_of(series),
            tooltip=["series:N", "percent:Q", "seconds:Q"],
        )
    )
