"""Build Vega-Lite charts with altair, for HTML pages and PNG images."""

from collections.abc import Iterator, Sequence
from typing import Final

import altair as alt
import orjson
import vl_convert

from maxgate.report.chart_style import MUTED, PALETTE, Drawn, encode_color
from maxgate.report.curves import MAX_COLORS, build_curves, choose_load_axis, varies_by_load
from maxgate.report.distribution_charts import build_distributions
from maxgate.report.headings import build_notes, build_subtitle, build_title
from maxgate.report.load_charts import build_dots, build_lines, build_multiples
from maxgate.report.runs import Run
from maxgate.report.time_charts import build_errors, build_timelines

_PNG_SCALE: Final = 1.5


def build_charts(runs: Sequence[Run]) -> dict[str, list[Drawn]]:
    """Build all charts that have data, by section."""
    curves = build_curves(runs)
    axis = choose_load_axis(curves)
    sections: dict[str, Iterator[Drawn]] = {}
    if varies_by_load(curves, axis):
        draw = build_multiples if len(curves) > MAX_COLORS else build_lines
        sections["By load"] = draw(curves, axis)
    elif len(curves) > 1:
        sections["By run"] = build_dots(curves, axis)
    if len(curves) <= MAX_COLORS:
        sections["Over time"] = build_timelines(curves)
    sections["Distributions"] = (
        Drawn(*found) for found in build_distributions(runs, encode_color(curves))
    )
    sections["Errors"] = build_errors(runs)
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
    lines = {"gridColor": "#e6e8eb", "domainColor": MUTED, "tickColor": MUTED}
    image = (
        alt.vconcat(*rows or [empty], spacing=24, title=title)
        .resolve_scale(color="shared", x="independent", y="independent")
        .configure_axis(labelFontSize=11, titleFontSize=11, titleFontWeight="normal", **lines)
        .configure_title(fontSize=14, anchor="start")
        .configure_legend(labelFontSize=13, labelLimit=360, orient="top", columns=4, title=None)
        .configure_view(stroke=None)
    )
    spec = orjson.dumps({**image.to_dict(validate=False), "padding": 16}).decode()
    png: bytes = vl_convert.vegalite_to_png(spec, scale=_PNG_SCALE)
    return png


def list_colors(runs: Sequence[Run]) -> dict[str, str]:
    """Color of each curve; empty if there is one curve or too many for colors."""
    names = [curve.name for curve in build_curves(runs)]
    if not 1 < len(names) <= MAX_COLORS:
        return {}
    return dict(zip(names, PALETTE, strict=False))
