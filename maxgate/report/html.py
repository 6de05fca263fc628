"""Render a self-contained HTML page that makes no network requests."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any, Final

import altair as alt
import orjson
import vl_convert

from maxgate.report.advice import NO_ADVICE, advise
from maxgate.report.chart_style import Drawn
from maxgate.report.charts import build_charts, list_colors
from maxgate.report.headings import build_notes, build_subtitle, build_title, list_warnings
from maxgate.report.result_tables import Table
from maxgate.report.runs import Run, explain_incomparable
from maxgate.report.tables import build_tables

# Makes the browser enforce that the page uses only inline scripts and styles, and no network.
_CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:"
)
_LONG_CELL: Final = 40  # characters, above which a cell wraps
_EMBED_SCRIPT: Final = """
const charts = JSON.parse(document.getElementById("charts").textContent);
for (const [id, spec] of Object.entries(charts)) {
  vegaEmbed("#" + id, spec, {
    renderer: "svg", actions: {export: true, source: false, compiled: false, editor: false},
  }).catch((error) => { document.getElementById(id).textContent = error; throw error; });
}
"""


@cache
def bundle_scripts() -> str:
    """Return the scripts of all pages, Vega included; the first call takes seconds."""
    # altair writes the version as `v6.4.1`, vl-convert expects `6.4`.
    version = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    bundle: str = vl_convert.javascript_bundle(_EMBED_SCRIPT, vl_version=version)
    return bundle.replace("</script", "<\\/script")


def render_html(runs: Sequence[Run], unread: Sequence[str]) -> str:
    """Render the runs; `unread` has an error line per unreadable file."""
    sections = build_charts(runs)
    first, rest = build_tables(runs)
    charts = [drawn.chart for section in sections.values() for drawn in section]
    specs = {f"chart{number}": _prepare_spec(chart) for number, chart in enumerate(charts)}
    levels = [level for run in runs for level in run.report.levels]
    body = [
        f"<h1>{escape(build_title(runs))}</h1>",
        f'<p class="subtitle">{"<br>".join(map(escape, build_subtitle(runs)))}</p>',
        *(f'<p class="bad">{escape(line)}</p>' for line in (*unread, *explain_incomparable(runs))),
        *(f'<p class="unsure">{escape(line)}</p>' for line in list_warnings(runs)),
        *map(_render_table, first),
        *_render_charts(sections, list_colors(runs)),
        f'<p class="note">{escape(" ".join(build_notes(levels)))}</p>' if sections else "",
        _render_advice(runs),
        *map(_render_table, rest),
        *(
            f'<p class="note">{escape(run.name)}: '
            f"<code>{escape(' '.join(run.report.command))}</code></p>"
            for run in runs
        ),
    ]
    return _render_document(build_title(runs), "\n".join(body), specs)


def _prepare_spec(chart: Any) -> dict[str, Any]:
    """Return the chart's specification for a page with one legend and styles of its own.

    Tests compare it with Vega-Lite's schema, which takes most of the time of `to_dict`.
    """
    axis = {"labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal"}
    config = {"view": {"stroke": None}, "background": None, "axis": axis}
    return {**_remove_legends(chart.to_dict(validate=False)), "config": config}


def _remove_legends(spec: Any) -> Any:
    if isinstance(spec, dict):
        return {key: None if key == "legend" else _remove_legends(one) for key, one in spec.items()}
    return [_remove_legends(one) for one in spec] if isinstance(spec, list) else spec


def _render_charts(
    sections: Mapping[str, Sequence[Drawn]], colors: Mapping[str, str]
) -> Iterator[str]:
    legend = "".join(
        f'<span><i style="background:{color}"></i>{escape(name)}</span>'
        for name, color in colors.items()
    )
    number = 0
    for heading, section in sections.items():
        yield f"<h2>{escape(heading)}</h2>"
        if legend and heading != "Errors":
            yield f'<p class="legend">{legend}</p>'
        yield '<div class="figures">'
        for drawn in section:
            yield (
                f"<figure{' class=row' if drawn.wide else ''}><figcaption>{escape(drawn.title)}"
                f'</figcaption><div id="chart{number}"></div></figure>'
            )
            number += 1
        yield "</div>"


def _render_document(title: str, body: str, specs: object) -> str:
    style = files("maxgate.report").joinpath("page.css").read_text()
    # "</" could end the script element; JSON allows the slash to be escaped.
    data = orjson.dumps(specs).decode().replace("</", "<\\/")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_CONTENT_SECURITY_POLICY}">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>{style}</style>
</head>
<body>
{body}
<script type="application/json" id="charts">{data}</script>
<script type="module">{bundle_scripts()}</script>
</body>
</html>
"""


def _render_advice(runs: Sequence[Run]) -> str:
    items = [
        f"<li>{escape(f'{run.name}: ' if len(runs) > 1 else '')}<b>{escape(advice.text)}</b>"
        f"<br>{escape(advice.evidence)}</li>"
        for run in runs
        for advice in advise(run)
    ]
    if not items:
        return f"<h2>Advice</h2><p>{NO_ADVICE}</p>"
    return f"<h2>Advice</h2><ol>{''.join(items)}</ol>"


def _render_table(table: Table) -> str:
    styles = [' class="number"' if column in table.numbers else "" for column in table.columns]
    head = "".join(
        f"<th{style}>{escape(column)}</th>"
        for column, style in zip(table.columns, styles, strict=True)
    )
    rows = "".join(
        f'<tr class="{table.tone(number)}">{_render_cells(row, styles)}</tr>'
        for number, row in enumerate(table.rows)
    )
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return (
        f"<h2>{escape(table.title)}</h2><div class='wide'><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>{note}"
    )


def _render_cells(row: Sequence[str], styles: Sequence[str]) -> str:
    return "".join(
        f"<td{' class=long' if len(cell) > _LONG_CELL else style}>{escape(cell)}</td>"
        for cell, style in zip(row, styles, strict=True)
    )
