"""Render a self-contained HTML page that makes no network requests."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Final

import altair as alt
import orjson
import vl_convert

from maxgate.report.advice import NO_ADVICE, advise
from maxgate.report.charts import build_charts
from maxgate.report.runs import Run, explain_incomparable
from maxgate.report.tables import Table, build_tables

# Makes the browser enforce that the page uses only inline scripts and styles, and no network.
_CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:"
)
_EMBED_SCRIPT: Final = """
const charts = JSON.parse(document.getElementById("charts").textContent);
for (const [id, spec] of Object.entries(charts)) {
  vegaEmbed("#" + id, spec, {
    renderer: "svg", actions: {export: true, source: false, compiled: false, editor: false},
  }).catch((error) => { document.getElementById(id).textContent = error; throw error; });
}
"""


def render_html(runs: Sequence[Run], unread: Sequence[str]) -> str:
    """Render the runs; `unread` has an error line per unreadable file."""
    charts, tables = build_charts(runs), build_tables(runs)
    specs = {f"chart{number}": chart.to_dict() for number, chart in enumerate(charts.values())}
    names = ", ".join(run.name for run in runs)
    figures = [
        f'<figure><figcaption>{escape(title)}</figcaption><div id="chart{number}"></div></figure>'
        for number, title in enumerate(charts)
    ]
    body = [
        f"<h1>{escape(names)}</h1>",
        *(f'<p class="bad">{escape(line)}</p>' for line in (*unread, *explain_incomparable(runs))),
        *(
            f'<p class="unsure">{escape(f"{run.name}: {warning}")}</p>'
            for run in runs
            for warning in run.report.warnings
        ),
        *(_render_table(table) for table in tables if table.title == "Grades"),
        _render_advice(runs),
        f'<div class="figures">{"".join(figures)}</div>',
        *(_render_table(table) for table in tables if table.title != "Grades"),
        *(
            f'<p class="note">{escape(run.name)}: '
            f"<code>{escape(' '.join(run.report.command))}</code></p>"
            for run in runs
        ),
    ]
    return _render_document(f"Load test: {names}", "\n".join(body), specs)


def _render_document(title: str, body: str, specs: object) -> str:
    style = files("maxgate.report").joinpath("page.css").read_text()
    # "</" could end the script element; JSON allows the slash to be escaped.
    data = orjson.dumps(specs).decode().replace("</", "<\\/")
    # altair writes the version as `v6.4.1`, vl-convert expects `6.4`.
    version = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    bundle = vl_convert.javascript_bundle(_EMBED_SCRIPT, vl_version=version)
    script = bundle.replace("</script", "<\\/script")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="{_CONTENT_SECURITY_POLICY}">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>{style}</style>
</head>
<body>
{body}
<script type="application/json" id="charts">{data}</script>
<script type="module">{script}</script>
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
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = "".join(
        f'<tr class="{table.tone(number)}">'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row)
        + "</tr>"
        for number, row in enumerate(table.rows)
    )
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return (
        f"<h2>{escape(table.title)}</h2><div class='wide'><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>{note}"
    )
