"""What opens over the dashboard: help, and every number with a filter."""

from typing import ClassVar, Final

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import DataTable, Input, Static

from maxgate.tools.monitor.quantities import CATALOGUE, show
from maxgate.tools.monitor.sparkline import sparkline
from maxgate.tools.monitor.watch import View

_HELP: Final = """\
[b]q[/b]    quit
[b]p[/b]    pause the picture; reading and recording go on
[b]/[/b]    every number by its name, with a filter; Esc closes it
[b]?[/b]    this page; Esc closes it

[b]Percentiles and rates[/b] are over the window (--window), not since the start. Only answers
that went well are timed, so look at failed requests beside them. A trend is the last
minutes of one number, from zero to its largest value. P95 is told from 20 answers in the
window on and P99 from 100; of fewer it would be the slowest one.

[b]▲ 1.8x[/b] is P95 against its usual value, the median of what was seen before the window.

[b]Diagnosis[/b] names the deepest cause that the numbers show: an engine that evicts requests
also has a queue, and a queue also makes the gateway slow. The numbers that it rests on
stand under it.

[b]waiting[/b] are requests that MAX's API process has not handed to its scheduler, [b]queued[/b]
those that wait for a place in a batch, [b]evicted[/b] those that lost their KV cache and are
computed again.
"""


class Help(ModalScreen[None]):
    """Keys and words."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q", "dismiss", "close", key_display="esc")
    ]

    def compose(self) -> ComposeResult:
        """See Textual."""
        with VerticalScroll(classes="window") as window:
            window.border_title = "Help"
            yield Static(_HELP)


class NumbersTable(ModalScreen[None]):
    """Every number of the catalogue; typing filters by name and text."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "close")]

    def __init__(self, view: View) -> None:
        super().__init__()
        self._view = view

    def compose(self) -> ComposeResult:
        """See Textual."""
        with Vertical(classes="window") as window:
            window.border_title = "Numbers"
            yield Input(placeholder="filter, as in: ttft", id="filter")
            yield DataTable[Text](cursor_type="row", zebra_stripes=True)

    def on_mount(self) -> None:
        """See Textual."""
        table = self.query_one(DataTable)
        for column in ("number", "now", "trend", "what it is"):
            table.add_column(column)
        self.query_one(Input).focus()
        self._fill("")

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter as one types."""
        self._fill(event.value)

    def show(self, view: View) -> None:
        """Take over newer numbers."""
        self._view = view
        self._fill(self.query_one(Input).value)

    def _fill(self, wanted: str) -> None:
        table, view = self.query_one(DataTable), self._view
        at = table.cursor_row
        table.clear()
        for name, quantity in CATALOGUE.items():
            if wanted.lower() in f"{name} {quantity.text}".lower():
                value = view.numbers.get(name)
                table.add_row(
                    Text(name),
                    Text("-" if value is None else show(name, value), justify="right"),
                    Text(sparkline(view.history.trend(name, 300), 24), style="cyan"),
                    Text(quantity.text, style="dim"),
                )
        table.move_cursor(row=at)
