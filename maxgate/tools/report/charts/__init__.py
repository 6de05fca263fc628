"""The charts, in Vega-Lite through altair; for the page and for pictures."""

from collections.abc import Sequence

import altair as alt

from maxgate.tools.report.charts.drawing import Chart
from maxgate.tools.report.charts.errors import errors
from maxgate.tools.report.charts.latency import histogram, percentiles
from maxgate.tools.report.charts.load import load, timeline
from maxgate.tools.report.runs import Run


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
