"""One page that carries everything it needs: it opens offline and asks nobody for anything."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Final

import altair as alt
import orjson
import vl_convert

from maxgate.report.advice import advise
from maxgate.report.charts import charts
from maxgate.report.comparison import incomparable
from maxgate.report.runs import Run
from maxgate.report.tables import Table, tables

# The browser holds the page to its promise: scripts and styles of its own, and no connection.
_POLICY: Final = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:"
)
_DRAW: Final = """
const charts = JSON.parse(document.getElementById("charts").textContent);
for (const [id, spec] of Object.entries(charts)) {
  vegaEmbed("#" + id, spec, {
    renderer: "svg", actions: {export: true, source: false, compiled: false, editor: false},
  }).catch((error) => { document.getElementById(id).textContent = error; throw error; });
}
"""


def page(runs: Sequence[Run], unread: Sequence[str]) -> str:
    """The page; `unread` are lines about files that could not be read."""
    found, found_tables = charts(runs), tables(runs)
    specs = {f"chart{number}": chart.to_dict() for number, chart in enumerate(found.values())}
    names = ", ".join(run.name for run in runs)
    figures = [
        f'<figure><figcaption>{escape(title)}</figcaption><div id="chart{number}"></div></figure>'
        for number, title in enumerate(found)
    ]
    body = [
        f"<h1>{escape(names)}</h1>",
        *(f'<p class="bad">{escape(line)}</p>' for line in (*unread, *incomparable(runs))),
        *(f'<p class="unsure">{escape(line)}</p>' for line in _warnings(runs)),
        *(_table(table) for table in found_tables if table.title == "Grades"),
        _advice(runs),
        f'<div class="figures">{"".join(figures)}</div>',
        *(_table(table) for table in found_tables if table.title != "Grades"),
        *(_command(run) for run in runs),
    ]
    return _document(f"Load test: {names}", "\n".join(body), specs)


def _document(title: str, body: str, specs: object) -> str:
    style = files("maxgate.report").joinpath("page.css").read_text()
    # "</" would end the script element; in JSON the slash may be escaped.
    data = orjson.dumps(specs).decode().replace("</", "<\\/")
    bundle = vl_convert.javascript_bundle(_DRAW, vl_version=_vegalite_version())
    script = bundle.replace("</script", "<\\/script")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
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


def _vegalite_version() -> str:
    """As altair writes it, `v6.4.1`, and as vl-convert wants it, `6.4`."""
    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def _warnings(runs: Sequence[Run]) -> list[str]:
    return [f"{run.name}: {warning}" for run in runs for warning in run.report.warnings]


def _advice(runs: Sequence[Run]) -> str:
    items = [
        f"<li>{escape(f'{run.name}: ' if len(runs) > 1 else '')}<b>{escape(advice.text)}</b>"
        f"<br>{escape(advice.evidence)}</li>"
        for run in runs
        for advice in advise(run)
    ]
    if not items:
        return "<h2>Advice</h2><p>Nothing in these numbers asks for a change.</p>"
    return f"<h2>Advice</h2><ol>{''.join(items)}</ol>"


def _table(table: Table) -> str:
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


def _command(run: Run) -> str:
    command = " ".join(run.report.command)
    return f"<p class='note'>{escape(run.name)}: <code>{escape(command)}</code></p>"
