"""What follows from the numbers: changes and targets."""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from maxgate.tools.loadtest.console.numbers import milliseconds, plain
from maxgate.tools.results.report import Report
from maxgate.tools.results.verdict import Change

_COLOURS = {
    "pass": "green",
    "better": "green",
    "fail": "red",
    "worse": "red",
    "unclear": "yellow",
    "same": "",
}


def print_changes(title: str, changes: list[Change], console: Console) -> None:
    """A table, where there are any."""
    if not changes:
        return
    table = Table(title=title, box=None, title_justify="left", title_style="bold")
    for column in ("level", "metric", "", "before", "after", "difference", "interval", "verdict"):
        table.add_column(column, justify="left")
    for change in changes:
        style = _COLOURS[change.verdict]
        table.add_row(*_change_cells(change), Text(change.verdict, style=style))
    console.print(table)


def _change_cells(change: Change) -> Iterable[str]:
    show = milliseconds if change.unit == "s" else plain
    interval = change.reason
    if change.interval is not None:
        interval = f"{show(change.interval.low)} to {show(change.interval.high)}"
    numbers = (show(change.before), show(change.after), show(change.difference))
    return [change.level, change.metric, change.statistic, *numbers, interval]


def print_grades(report: Report, console: Console) -> None:
    """A table, where there were targets."""
    if not report.grades:
        return
    table = Table(title="Targets", box=None, title_justify="left", title_style="bold")
    for column in ("level", "target", "verdict", "why"):
        table.add_column(column)
    for grade in report.grades:
        verdict = Text(grade.verdict, style=_COLOURS[grade.verdict])
        table.add_row(grade.level, grade.target, verdict, grade.reason)
    console.print(table)
