"""The charts, in Vega-Lite through altair; for the page and for pictures."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import altair as alt
import orjson
import vl_convert

from maxgate.report.runs import Run
from maxgate.results.report import Level

WIDTH: Final = 500
HEIGHT: Final = 240

Series = Sequence[tuple[str, Level]]
Row = Mapping[str, Any]
Chart = Any  # altair's chains of methods have no types


def color_of(series: Series) -> alt.Color:
    """One per series, the same in every chart."""
    names = [name for name, _ in series]
    scheme = alt.Scale(domain=names, scheme="tableau10")
    legend = alt.Legend(orient="bottom", columns=2, labelLimit=260)
    return alt.Color("series:N", title=None, scale=scheme, legend=legend)


def errors(series: Series) -> Chart | None:
    """Failed requests by kind."""
    rows = [
        {"series": name, "kind": kind, "count": count}
        for name, level in series
        for kind, count in level.requests.errors.items()
    ]
    if not rows:
        return None
    return (
        alt.Chart({"values": rows}, width=WIDTH)
        .mark_bar()
        .encode(
            x=alt.X("count:Q", title="failed requests"),
            y=alt.Y("series:N", title=None, axis=alt.Axis(labelLimit=220)),
            color=alt.Color("kind:N", title=None, scale=alt.Scale(scheme="reds")),
            tooltip=["series:N", "kind:N", "count:Q"],
        )
    )


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


def load(runs: Sequence[Run]) -> Chart | None:
    """Requests per second by requests in flight; None for a single level."""
    rows = [row for run in runs for row in _points(run)]
    if len(rows) < 2:
        return None
    base = alt.Chart({"values": rows}, width=WIDTH, height=HEIGHT).encode(
        x=alt.X("flight:Q", title="requests in flight, mean"),
        color=alt.Color("run:N", title=None, legend=alt.Legend(orient="bottom")),
    )
    rate = alt.Y("rate:Q", title="requests per second")
    tooltip = ["run:N", "level:N", "flight:Q", "rate:Q", "p95:Q"]
    return alt.layer(
        base.mark_line().encode(y=rate),
        base.mark_point(filled=True, size=60).encode(y=rate, tooltip=tooltip),
        base.mark_rule().encode(y=alt.Y("low:Q"), y2="high:Q"),
    )


def _points(run: Run) -> Iterator[Row]:
    for level in run.report.levels:
        interval = level.throughput.requests_interval
        rate = level.throughput.requests
        latency = level.metrics.get("latency")
        several = len(run.report.workload.scenarios) > 1
        baseline = " baseline" if level.side == "baseline" else ""
        yield {
            "run": f"{run.name}{f' {level.scenario}' if several else ''}{baseline}",
            "level": level.name,
            "flight": level.in_flight.mean,
            "rate": rate,
            "low": interval.low if interval else rate,
            "high": interval.high if interval else rate,
            "p95": latency.percentiles.get("95") if latency else None,
        }


def timeline(series: Series) -> Chart | None:
    """Second by second."""
    rows = [
        {"series": name, **second.model_dump(exclude_none=True)}
        for name, level in series
        for second in level.timeline
    ]
    if not rows:
        return None
    parts = {
        "latency_p95": "P95 latency, s",
        "succeeded": "answers per second",
        "in_flight": "in flight",
    }
    base = alt.Chart({"values": rows}, width=WIDTH, height=HEIGHT // 3)
    return alt.vconcat(
        *(
            base.mark_line(point=alt.OverlayMarkDef(size=14)).encode(
                x=alt.X("offset:Q", title="seconds since the level began"),
                y=alt.Y(f"{field}:Q", title=title),
                color=color_of(series),
                tooltip=["series:N", "offset:Q", f"{field}:Q"],
            )
            for field, title in parts.items()
        )
    )


def charts(runs: Sequence[Run]) -> dict[str, Chart]:
    """By title; what has no data is left out."""
    series = [one for run in runs for one in run.series()]
    found = {
        "Latency": histogram(series, "latency"),
        "Time to first token": histogram(series, "ttft"),
        "Percentiles": percentiles(series),
        "Throughput and load": load(runs),
        "Time line": timeline(series),
        "Errors": errors(series),
    }
    return {title: chart for title, chart in found.items() if chart is not None}


def page(runs: Sequence[Run]) -> Chart:
    """All charts in two columns, for a picture."""
    found = charts(runs) or {"Nothing was measured": alt.Chart({"values": [{}]}).mark_point()}
    titled = [chart.properties(title=title) for title, chart in found.items()]
    return (
        alt.concat(*titled, columns=2)
        .resolve_scale(color="independent", x="independent", y="independent")
        .configure_axis(labelFontSize=12, titleFontSize=12)
        .configure_title(fontSize=15, anchor="start")
        .configure_legend(labelFontSize=12, labelLimit=400)
    )


_SCALE = 1.5


def picture(runs: Sequence[Run]) -> bytes:
    """PNG, rendered here without a browser."""
    spec = orjson.dumps(page(runs).to_dict()).decode()
    png: bytes = vl_convert.vegalite_to_png(spec, scale=_SCALE)
    return png
