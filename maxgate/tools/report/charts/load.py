"""What the load was, and what came of it."""

from collections.abc import Iterator, Sequence

import altair as alt

from maxgate.tools.report.charts.drawing import HEIGHT, WIDTH, Chart, Row, Series, color_of
from maxgate.tools.report.runs import Run


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
