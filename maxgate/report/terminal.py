"""Print tables, plots and advice to the terminal; advice last, next to the prompt."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from maxgate.report.advice import NO_ADVICE, advise
from maxgate.report.formatting import UNKNOWN
from maxgate.report.headings import build_notes, build_subtitle, build_title, list_warnings
from maxgate.report.plots import ASCII, UNICODE, Glyphs, Plot, draw_bar, draw_plots
from maxgate.report.result_tables import RESULTS, Table
from maxgate.report.runs import Run, explain_incomparable
from maxgate.report.tables import build_tables

_STYLES: Final = {"good": "green", "bad": "red", "unsure": "yellow", "": ""}
_MAX_PLOT_WIDTH: Final = 120
_MAX_BAR_WIDTH: Final = 40
_MIN_BAR_WIDTH: Final = 6
_MAX_ROWS: Final = 60
_GAP: Final = 2


def print_runs(console: Console, runs: Sequence[Run]) -> None:
    """Print everything known about the runs."""
    glyphs = UNICODE if console.encoding.lower().startswith("utf") else ASCII
    console.print(Text(build_title(runs), style="bold"))
    for line in build_subtitle(runs):
        console.print(Text(line))
    console.print()
    for line in explain_incomparable(runs):
        console.print(Text(line, style="bold red"))
    for line in list_warnings(runs):
        console.print(Text(line, style="yellow"))
    first, rest = build_tables(runs)
    for table in first:
        _print_table(console, table, glyphs)
    for plot in draw_plots(runs, min(console.width, _MAX_PLOT_WIDTH), glyphs):
        _print_plot(console, plot)
    for table in rest:
        _print_table(console, table, glyphs)
    _print_advice(console, runs)


def _print_table(console: Console, table: Table, glyphs: Glyphs) -> None:
    console.print(Text(table.title, style="bold"))
    if len(table.rows) > _MAX_ROWS:
        console.print(f"{len(table.rows):,} rows; --html and --markdown write all of them")
        table = _keep_toned(table)
    fitting, omitted = _fit_width(table, console.width)
    console.print(_build_rich_table(fitting, console.width, glyphs))
    notes = [table.note] if table.note else []
    notes += [f"Not shown at {console.width} columns: {', '.join(omitted)}."] if omitted else []
    if notes:
        console.print(Text(" ".join(notes), style="dim"))
    console.print()


def _keep_toned(table: Table) -> Table:
    """Keep the first rows that are good or bad; without any, the first rows."""
    chosen = [k for k in range(len(table.rows)) if table.tone(k) in {"good", "bad"}]
    chosen = (chosen or list(range(len(table.rows))))[:_MAX_ROWS]
    rows, tones = [table.rows[k] for k in chosen], [table.tone(k) for k in chosen]
    return replace(table, rows=rows, tones=tones)


def _fit_width(table: Table, width: int) -> tuple[Table, list[str]]:
    """Leave out optional columns until the table fits; return it and the names left out."""
    omitted: list[str] = []
    candidates = [name for name in table.optional if name in table.columns]
    while candidates and _measure_width(table) > width:
        omitted.append(candidates.pop(0))
        kept = [k for k, column in enumerate(table.columns) if column != omitted[-1]]
        table = replace(
            table,
            columns=[table.columns[k] for k in kept],
            rows=[[row[k] for k in kept] for row in table.rows],
        )
    return table, omitted


def _measure_width(table: Table) -> int:
    columns = zip(table.columns, *table.rows, strict=True)
    return sum(max(map(len, cells)) + _GAP for cells in columns) - _GAP


def _build_rich_table(table: Table, width: int, glyphs: Glyphs) -> RichTable:
    shown = RichTable(box=None, padding=(0, _GAP, 0, 0), pad_edge=False)
    for number, column in enumerate(table.columns):
        is_name = number == 0
        shown.add_column(
            column,
            header_style="dim",
            justify="right" if column in table.numbers else "left",
            no_wrap=is_name,
            overflow="ellipsis" if is_name else "fold",
            max_width=width // 2 if is_name else None,
        )
    bars = _draw_bars(table, width, glyphs)
    if bars:
        shown.add_column("", no_wrap=True)
    for number, row in enumerate(table.rows):
        cells = [*map(Text, row), *([Text(bars[number], style="cyan")] if bars else [])]
        shown.add_row(*cells, style=_STYLES[table.tone(number)])
    return shown


def _draw_bars(table: Table, width: int, glyphs: Glyphs) -> list[str]:
    """Bars of output tokens per second beside the results, if there is room for them."""
    room = min(width - _measure_width(table) - _GAP, _MAX_BAR_WIDTH)
    if not table.title.startswith(RESULTS) or room < _MIN_BAR_WIDTH or len(table.rows) < 2:
        return []
    column = table.columns.index("output tok/s")
    cells = [row[column].replace(",", "") for row in table.rows]
    values = [0.0 if cell == UNKNOWN else float(cell) for cell in cells]
    return [draw_bar(value, max(values), room, glyphs) for value in values]


def _print_plot(console: Console, plot: Plot) -> None:
    label_width = max(len(label) for label, _, _ in plot.lines)
    label_width = min(label_width, 32)
    console.print(Text(plot.title, style="bold"))
    for label, drawing, after in plot.lines:
        short = label if len(label) <= label_width else f"{label[: label_width - 3]}..."
        line = Text(f"{short.ljust(label_width)}  ")
        line.append(drawing, style="cyan" if label else "dim")
        line.append(f"  {after}" if after else "")
        console.print(line, no_wrap=True, crop=True)
    console.print()


def _print_advice(console: Console, runs: Sequence[Run]) -> None:
    levels = [level for run in runs for level in run.report.levels]
    if notes := build_notes(levels)[1:]:
        console.print(Text(" ".join(notes), style="dim"))
        console.print()
    console.print(Text("Advice", style="bold"))
    found = [(run, advice) for run in runs for advice in advise(run)]
    if not found:
        console.print(NO_ADVICE)
    for number, (run, advice) in enumerate(found, 1):
        name = f"{run.name}: " if len(runs) > 1 else ""
        item = RichTable(box=None, show_header=False, padding=(0, 1, 0, 0), pad_edge=False)
        item.add_row(f"{number}.", Text(f"{name}{advice.text}", style="bold"))
        item.add_row("", Text(advice.evidence))
        console.print(item)
