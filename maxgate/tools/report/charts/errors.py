"""What failed."""

import altair as alt

from maxgate.tools.report.charts.drawing import WIDTH, Chart, Series


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
