"""Build Vega-Lite charts with altair, for HTML pages and PNG images."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import altair as alt
import orjson
import vl_convert

from maxgate.report.formatting import count_nines
from maxgate.report.runs import Run, Series
from maxgate.results.report import Level

_WIDTH: Final = 500
_HEIGHT: Final = 240
_PNG_SCALE: Final = 1.5
_LABELED_PERCENTILES: Final = (0.0, 50.0, 90.0, 99.0, 99.9, 99.99)

Row = Mapping[str, Any]
Chart = Any  # altair's method chains are untyped


def build_charts(runs: Sequence[Run]) -> dict[str, Chart]:
    """Build all charts that have data, by title."""
    series = [one for run in runs for one in run.name_levels()]
    found = {
        "Latency": _build_histogram(series, "latency"),
        "Time to first token": _build_histogram(series, "ttft"),
        "Latency percentiles": _build_percentiles(series),
        "Throughput by load": _build_load(runs),
        "Timeline": _build_timeline(series),
        "Errors": _build_errors(series),
    }
    return {title: chart for title, chart in found.items() if chart is not None}


def render_png(runs: Sequence[Run]) -> bytes:
    """Render all charts in two columns as a PNG image, without a browser."""
    charts = build_charts(runs) or {"No data": alt.Chart({"values": [{}]}).mark_point()}
    titled = [chart.properties(title=title) for title, chart in charts.items()]
    image = (
        alt.concat(*titled, columns=2)
        .resolve_scale(color="independent", x="independent", y="independent")
        .configure_axis(labelFontSize=12, titleFontSize=12)
        .configure_title(fontSize=15, anchor="start")
        .configure_legend(labelFontSize=12, labelLimit=400)
    )
    spec = orjson.dumps(image.to_dict()).decode()
    png: bytes = vl_convert.vegalite_to_png(spec, scale=_PNG_SCALE)
    return png


def _encode_color(series: Series) -> alt.Color:
    """Give each series the same color in every chart."""
    names = [name for name, _ in series]
    scheme = alt.Scale(domain=names, scheme="tableau10")
    legend = alt.Legend(orient="bottom", columns=2, labelLimit=260)
    return alt.Color("series:N", title=None, scale=scheme, legend=legend)


def _build_histogram(series: Series, metric: str) -> Chart | None:
    rows = [row for name, level in series for row in _list_buckets(name, level, metric)]
    if not rows:
        return None
    return (
        alt.Chart({"values": rows}, width=_WIDTH, height=_HEIGHT)
        .mark_rect(opacity=0.45)
        .encode(
            x=alt.X("low:Q", title="seconds (log)", scale=alt.Scale(type="log", nice=False)),
            x2="high:Q",
            y=alt.Y("share:Q", title="share of requests", axis=alt.Axis(format="%"), stack=None),
            y2=alt.datum(0),
            color=_encode_color(series),
            tooltip=["series:N", "low:Q", "high:Q", "count:Q"],
        )
    )


def _list_buckets(name: str, level: Level, metric: str) -> Iterator[Row]:
    found = level.metrics.get(metric)
    if found is None or found.histogram is None:
        return
    histogram = found.histogram
    total = sum(histogram.counts) or 1
    for (low, high), count in zip(pairwise(histogram.bounds), histogram.counts, strict=True):
        if count:
            share = count / total
            yield {"series": name, "low": low, "high": high, "count": count, "share": share}


def _build_percentiles(series: Series) -> Chart | None:
    rows = [
        {"series": name, "nines": count_nines(percent), "percent": percent, "seconds": seconds}
        for name, level in series
        if (found := level.metrics.get("latency")) is not None
        for percent, seconds in found.curve
    ]
    if not rows:
        return None
    ticks = {count_nines(percent): f"P{percent:g}" for percent in _LABELED_PERCENTILES}
    labels = "".join(f"abs(datum.value - {x:.6f}) < 0.01 ? '{ticks[x]}' : " for x in ticks)
    axis = alt.Axis(values=list(ticks), labelExpr=f"{labels}''")
    return (
        alt.Chart({"values": rows}, width=_WIDTH, height=_HEIGHT)
        .mark_line(interpolate="step-after")
        .encode(
            x=alt.X("nines:Q", title="percentile of latency", axis=axis),
            y=alt.Y("seconds:Q", title="seconds"),
            color=_encode_color(series),
            tooltip=["series:N", "percent:Q", "seconds:Q"],
        )
    )


def _build_load(runs: Sequence[Run]) -> Chart | None:
    rows = [row for run in runs for row in _list_load_points(run)]
    if len(rows) < 2:
        return None
    base = alt.Chart({"values": rows}, width=_WIDTH, height=_HEIGHT).encode(
        x=alt.X("flight:Q", title="mean requests in flight"),
        color=alt.Color("run:N", title=None, legend=alt.Legend(orient="bottom")),
    )
    rate = alt.Y("rate:Q", title="requests per second")
    tooltip = ["run:N", "level:N", "flight:Q", "rate:Q", "p95:Q"]
    return alt.layer(
        base.mark_line().encode(y=rate),
        base.mark_point(filled=True, size=60).encode(y=rate, tooltip=tooltip),
        base.mark_rule().encode(y=alt.Y("low:Q"), y2="high:Q"),
    )


def _list_load_points(run: Run) -> Iterator[Row]:
    several_scenarios = len(run.report.workload.scenarios) > 1
    for level in run.report.levels:
        interval = level.throughput.requests_interval
        rate = level.throughput.requests
        latency = level.metrics.get("latency")
        scenario = f" {level.scenario}" if several_scenarios else ""
        baseline = " baseline" if level.side == "baseline" else ""
        yield {
            "run": f"{run.name}{scenario}{baseline}",
            "level": level.name,
            "flight": level.in_flight.mean,
            "rate": rate,
            "low": interval.low if interval else rate,
            "high": interval.high if interval else rate,
            "p95": latency.percentiles.get("95") if latency else None,
        }


def _build_timeline(series: Series) -> Chart | None:
    rows = [
        {"series": name, **second.model_dump(exclude_none=True)}
        for name, level in series
        for second in level.timeline
    ]
    if not rows:
        return None
    titles = {
        "latency_p95": "P95 latency, s",
        "succeeded": "responses per second",
        "in_flight": "in flight",
    }
    base = alt.Chart({"values": rows}, width=_WIDTH, height=_HEIGHT // 3)
    return alt.vconcat(
        *(
            base.mark_line(point=alt.OverlayMarkDef(size=14)).encode(
                x=alt.X("offset:Q", title="seconds since start of level"),
                y=alt.Y(f"{field}:Q", title=title),
                color=_encode_color(series),
                tooltip=["series:N", "offset:Q", f"{field}:Q"],
            )
            for field, title in titles.items()
        )
    )


def _build_errors(series: Series) -> Chart | None:
    rows = [
        {"series": name, "kind": kind, "count": count}
        for name, level in series
        for kind, count in level.requests.errors.items()
    ]
    if not rows:
        return None
    return (
        alt.Chart({"values": rows}, width=_WIDTH)
        .mark_bar()
        .encode(
            x=alt.X("count:Q", title="failed requests"),
            y=alt.Y("series:N", title=None, axis=alt.Axis(labelLimit=220)),
            color=alt.Color("kind:N", title=None, scale=alt.Scale(scheme="reds")),
            tooltip=["series:N", "kind:N", "count:Q"],
        )
    )
