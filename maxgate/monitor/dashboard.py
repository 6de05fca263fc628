"""The dashboard: panels that are drawn anew with every snapshot."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import ClassVar, Final

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import ScrollableContainer, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Input, Static

from maxgate.monitor.catalogue import CATALOGUE, show
from maxgate.monitor.feed import View, Watch
from maxgate.monitor.panels import PANELS, Panel, alerts, headline, sparkline
from maxgate.monitor.snapshot import Snapshot

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


class PanelBox(Static):
    """One panel, drawn for each view and anew where its width changes."""

    def __init__(self, name: str, title: str, content: Panel) -> None:
        super().__init__(id=name, classes="panel")
        self.border_title = title
        self._content = content
        self._view: View | None = None
        self._drawn_for = 0

    def show(self, view: View) -> None:
        """Draw this view."""
        self._view, self._drawn_for = view, self.content_size.width
        self.update(self._content(view, self._drawn_for))

    def on_resize(self) -> None:
        """Trends are as long as there is room."""
        if self._view is not None and self._drawn_for != self.content_size.width:
            self.show(self._view)


class Dashboard(App[None]):
    """Shows each snapshot of the feed until it is quit; what was shown last stays when it ends."""

    CSS_PATH = "dashboard.tcss"
    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide")]  # noqa: RUF012  # as Textual has it
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,ctrl+c", "quit", "quit", key_display="q"),
        Binding("p", "pause", "pause"),
        Binding("slash", "numbers", "numbers", key_display="/"),
        Binding("question_mark", "help", "help", key_display="?"),
    ]

    def __init__(self, feed: AsyncGenerator[Snapshot], watch: Watch) -> None:
        super().__init__()
        self._feed = feed
        self._watch = watch
        self._paused = False
        self._unseen = 0
        self._ended = False
        self.view: View | None = None

    def compose(self) -> ComposeResult:
        """See Textual."""
        yield Static(id="headline")
        yield Static(id="alerts")
        with ScrollableContainer(id="panels"):
            for name, (title, content) in PANELS.items():
                yield PanelBox(name, title, content)
        yield Footer()

    def on_mount(self) -> None:
        """See Textual."""
        self.query_one("#headline", Static).update(Text("looking ...", style="dim"))
        self.run_worker(self._follow(), exit_on_error=True)

    async def _follow(self) -> None:
        async with aclosing(self._feed) as snapshots:
            async for snapshot in snapshots:
                self.view = self._watch.see(snapshot)
                self._unseen += 1
                self._draw()
        self._ended = True
        self._draw()

    def _draw(self) -> None:
        self._draw_headline()
        if self._paused or self.view is None:
            return
        self._unseen = 0
        said = alerts(self.view, self.size.width)
        bar = self.screen_stack[0].query_one("#alerts", Static)
        bar.update(said)
        bar.display = bool(said.plain)
        for panel in self.screen_stack[0].query(PanelBox):
            panel.show(self.view)
        if isinstance(self.screen, NumbersTable):
            self.screen.show(self.view)

    def _draw_headline(self) -> None:
        if self.view is None:
            return
        text = headline(self.view, self.size.width)
        if self._paused:
            text.append(f"  PAUSED, {self._unseen} behind", style="bold yellow")
        if self._ended:
            text.append("  the recording is over", style="bold yellow")
        self.screen_stack[0].query_one("#headline", Static).update(text)

    def action_pause(self) -> None:
        """Stop or go on drawing; snapshots are taken in all the same."""
        self._paused = not self._paused
        self._draw()

    def action_help(self) -> None:
        """Show the help."""
        self.push_screen(Help())

    def action_numbers(self) -> None:
        """Show every number."""
        if self.view is not None:
            self.push_screen(NumbersTable(self.view))
