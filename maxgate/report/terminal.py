"""Everything on the terminal: plots, grades, every number, and advice where the prompt comes."""

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from maxgate.report.advice import advise
from maxgate.report.comparison import incomparable
from maxgate.report.plots import plots
from maxgate.report.runs import Run
from maxgate.report.tables import Table, tables

_STYLES: Final = {"good": "green", "bad": "bold red", "unsure": "yellow", "": ""}


def show_on(console: Console, runs: Sequence[Run]) -> None:
    """Write it all to this console."""
    for line in incomparable(runs):
        console.print(Text(line, style="bold red"))
    for run in runs:
        for warning in run.report.warnings:
            console.print(Text(f"{run.name}: {warning}", style="yellow"))
    for text in plots(runs, min(console.width, 110), color=console.is_terminal):
        console.print(Text.from_ansi(text), no_wrap=True, crop=True)
        console.print()
    for table in tables(runs):
        console.print(_table(table))
        if table.note:
            console.print(Text(table.note, style="dim"))
        console.print()
    _advice(console, runs)


def _table(table: Table) -> RichTable:
    shown = RichTable(title=table.title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in table.columns:
        shown.add_column(column, header_style="dim", overflow="fold")
    for number, row in enumerate(table.rows):
        shown.add_row(*map(Text, row), style=_STYLES[table.tone(number)])
    return shown


def _advice(console: Console, runs: Sequence[Run]) -> None:
    console.print(Text("Advice", style="bold"))
    given = [(run, advice) for run in runs for advice in advise(run)]
    if not given:
        console.print("Nothing in these numbers asks for a change.")
    for number, (run, advice) in enumerate(given, 1):
        name = f"{run.name}: " if len(runs) > 1 else ""
        console.print(Text(f"{number}. {name}{advice.text}", style="bold"))
        console.print(Text(f"   {advice.evidence}"))
