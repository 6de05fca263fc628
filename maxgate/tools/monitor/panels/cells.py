"""What tables are made of."""

from typing import Final

from rich.table import Table
from rich.text import Text

from maxgate.tools.monitor.quantities import show
from maxgate.tools.monitor.sparkline import bar
from maxgate.tools.monitor.watch import View

NOT_KNOWN: Final = "-"


def new_table(*columns: str) -> Table:
    """A table without lines; numbers are set to the right."""
    table = Table(box=None, expand=True, padding=(0, 1, 0, 0), header_style="dim")
    for index, column in enumerate(columns):
        left = index == 0 or column.startswith(("trend", "state"))
        table.add_column(column, justify="left" if left else "right", no_wrap=True)
    return table


def value_of(view: View, name: str) -> Text:
    """The number now, coloured where a rule is broken."""
    value = view.numbers.get(name)
    if value is None:
        return Text(NOT_KNOWN, style="dim")
    severities = [alert.rule.severity for alert in view.alerts if alert.rule.number == name]
    style = {"critical": "bold red", "warning": "bold yellow"}.get(min(severities, default=""), "")
    return Text(show(name, value), style=style)


def bar_of(share: float, width: int, *, full_is_bad: bool = True) -> Text:
    """A share as a bar, coloured by how full it is where full is bad."""
    if not full_is_bad:
        return Text(bar(share, width), style="cyan")
    style = "red" if share >= 0.95 else "yellow" if share >= 0.8 else "green"
    return Text(bar(share, width), style=style)
