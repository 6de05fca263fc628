"""Print plots, tables and advice to the terminal; advice last, next to the prompt."""

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from maxgate.report.advice import NO_ADVICE, advise
from maxgate.report.plots import draw_plots
from maxgate.report.runs import Run, explain_incomparable
from maxgate.report.tables import Table, build_tables

_STYLES: Final = {"good": "green", "bad": "bold red", "unsure": "yellow", "": ""}
_MAX_PLOT_WIDTH: Final = 110


def print_runs(console: Console, runs: Sequence[Run]) -> None:
    """Print everything known about the runs."""
    for line in explain_incomparable(runs):
        console.print(Text(line, style="bold red"))
    for run in runs:
        for warning in run.report.warnings:
            console.print(Text(f"{run.name}: {warning}", style="yellow"))
    width = min(console.width, _MAX_PLOT_WIDTH)
    for text in draw_plots(runs, width, color=console.is_terminal):
        console.print(Text.from_ansi(text), no_wrap=True, crop=True)
        console.print()
    for table in build_tables(runs):
        console.print(_build_rich_table(table))
        if table.note:
            console.print(Text(table.note, style="dim"))
        console.print()
    _print_advice(console, runs)


def _build_rich_table(table: Table) -> RichTable:
    shown = RichTable(title=table.title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in table.columns:
        shown.add_column(column, header_style="dim", overflow="fold")
    for number, row in enumerate(table.rows):
        shown.add_row(*map(Text, row), style=_STYLES[table.tone(number)])
    return shown


def _print_advice(console: Console, runs: Sequence[Run]) -> None:
    console.print(Text("Advice", style="bold"))
    found = [(run, advice) for run in runs for advice in advise(run)]
    if not found:
        console.print(NO_ADVICE)
    for number, (run, advice) in enumerate(found, 1):
        name = f"{run.name}: " if len(runs) > 1 else ""
        console.print(Text(f"{number}. {name}{advice.text}", style="bold"))
        console.print(Text(f"   {advice.evidence}"))
