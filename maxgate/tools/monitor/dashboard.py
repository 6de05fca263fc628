"""The dashboard: panels that are drawn anew with every snapshot."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import ScrollableContainer
from textual.widgets import Footer, Static

from maxgate.tools.monitor.panels import PANELS, Panel
from maxgate.tools.monitor.panels.verdict import alerts, headline
from maxgate.tools.monitor.screens import Help, NumbersTable
from maxgate.tools.monitor.snapshot import Snapshot
from maxgate.tools.monitor.watch import View, Watch


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
