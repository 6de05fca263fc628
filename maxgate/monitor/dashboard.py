"""The dashboard: a Textual application that redraws its panels for every snapshot."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import ClassVar, Final

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import ScrollableContainer, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Input, Static
from typing_extensions import override

from maxgate.monitor.catalogue import METRICS, format_value
from maxgate.monitor.panels import PANELS, UNKNOWN, Panel, alerts, headline, sparkline
from maxgate.monitor.snapshot import Snapshot
from maxgate.monitor.view import Monitor, View

_HELP: Final = """\
[b]q[/b]    quit
[b]p[/b]    pause the display; sampling and recording continue
[b]/[/b]    list all metrics, with a filter; Esc closes the list
[b]?[/b]    show this help; Esc closes it

[b]Percentiles and rates[/b] cover the window (--window), not the time since the start. Only
successful requests count towards latency, so check the failed requests too. P95 needs 20
responses in the window and P99 needs 100. A trend shows the last minutes of a metric, scaled
from zero to its maximum.

[b]▲ 1.8x[/b] compares P95 with its usual value: the median before the window.

[b]Diagnosis[/b] lists the deepest cause first, with the metrics that show it. An engine that
evicts requests also has a queue, and a queue also slows the gateway down. If nothing is slower
yet, the cause is shown as early pressure.

[b]waiting[/b] requests are in MAX's API process, [b]queued[/b] ones wait for MAX's scheduler,
and [b]evicted[/b] ones lost their KV cache and are computed again.
"""


class Help(ModalScreen[None]):
    """Keys and terms."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q", "dismiss", "close", key_display="esc")
    ]

    @override
    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="window") as window:
            window.border_title = "Help"
            yield Static(_HELP)


class MetricsTable(ModalScreen[None]):
    """All metrics, filtered by name and description."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "close")]

    def __init__(self, view: View) -> None:
        super().__init__()
        self._view = view

    @override
    def compose(self) -> ComposeResult:
        with Vertical(classes="window") as window:
            window.border_title = "Metrics"
            yield Input(placeholder="filter, for example: ttft", id="filter")
            yield DataTable[Text](cursor_type="row", zebra_stripes=True)

    def on_mount(self) -> None:
        """Add the columns and focus the filter."""
        table = self.query_one(DataTable)
        for column in ("metric", "now", "trend", "description"):
            table.add_column(column)
        self.query_one(Input).focus()
        self._fill("")

    def on_input_changed(self, event: Input.Changed) -> None:
        """Apply the filter while it is typed."""
        self._fill(event.value)

    def show(self, view: View) -> None:
        """Show the metrics of a newer view."""
        self._view = view
        self._fill(self.query_one(Input).value)

    def _fill(self, pattern: str) -> None:
        table, view = self.query_one(DataTable), self._view
        cursor_row = table.cursor_row
        table.clear()
        for name, metric in METRICS.items():
            if pattern.lower() in f"{name} {metric.description}".lower():
                value = view.metrics.get(name)
                shown = UNKNOWN if value is None else format_value(name, value)
                table.add_row(
                    Text(name),
                    Text(shown, justify="right"),
                    Text(sparkline(view.history.trend(name, 300), 24), style="cyan"),
                    Text(metric.description, style="dim"),
                )
        table.move_cursor(row=cursor_row)


class PanelBox(Static):
    """A bordered panel, redrawn for every view and when its width changes."""

    def __init__(self, name: str, title: str, content: Panel) -> None:
        super().__init__(id=name, classes="panel")
        self.border_title = title
        self._content = content
        self._view: View | None = None
        self._drawn_width = 0

    def show(self, view: View) -> None:
        """Draw a view."""
        self._view, self._drawn_width = view, self.content_size.width
        self.update(self._content(view, self._drawn_width))

    def on_resize(self) -> None:
        """Redraw, because the length of trends depends on the width."""
        if self._view is not None and self._drawn_width != self.content_size.width:
            self.show(self._view)


class Dashboard(App[None]):
    """Shows every snapshot of the feed; keeps the last one on screen after the feed ends."""

    CSS_PATH = "dashboard.tcss"
    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (120, "-wide")]  # noqa: RUF012  # as in Textual
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,ctrl+c", "quit", "quit", key_display="q"),
        Binding("p", "pause", "pause"),
        Binding("slash", "metrics", "metrics", key_display="/"),
        Binding("question_mark", "help", "help", key_display="?"),
    ]

    def __init__(self, feed: AsyncGenerator[Snapshot], monitor: Monitor) -> None:
        super().__init__()
        self._feed = feed
        self._monitor = monitor
        self._paused = False
        self._undrawn = 0
        self._ended = False
        self.view: View | None = None

    @override
    def compose(self) -> ComposeResult:
        yield Static(id="headline")
        yield Static(id="alerts")
        with ScrollableContainer(id="panels"):
            for name, (title, content) in PANELS.items():
                yield PanelBox(name, title, content)
        yield Footer()

    def on_mount(self) -> None:
        """Start reading the feed."""
        self.query_one("#headline", Static).update(Text("connecting ...", style="dim"))
        self.run_worker(self._read_feed(), exit_on_error=True)

    async def _read_feed(self) -> None:
        async with aclosing(self._feed) as snapshots:
            async for snapshot in snapshots:
                self.view = self._monitor.update(snapshot)
                self._undrawn += 1
                self._draw()
        self._ended = True
        self._draw()

    def _draw(self) -> None:
        if self.view is None:
            return
        self._draw_headline(self.view)
        if self._paused:
            return
        self._undrawn = 0
        text = alerts(self.view, self.size.width)
        # The panels are on the bottom screen, also while a modal screen covers them.
        bar = self.screen_stack[0].query_one("#alerts", Static)
        bar.update(text)
        bar.display = bool(text.plain)
        for panel in self.screen_stack[0].query(PanelBox):
            panel.show(self.view)
        if isinstance(self.screen, MetricsTable):
            self.screen.show(self.view)

    def _draw_headline(self, view: View) -> None:
        text = headline(view, self.size.width)
        if self._paused:
            text.append(f"  PAUSED, {self._undrawn} behind", style="bold yellow")
        if self._ended:
            text.append("  end of recording", style="bold yellow")
        self.screen_stack[0].query_one("#headline", Static).update(text)

    def action_pause(self) -> None:
        """Stop or resume drawing."""
        self._paused = not self._paused
        self._draw()

    def action_help(self) -> None:
        """Show the help."""
        self.push_screen(Help())

    def action_metrics(self) -> None:
        """Show all metrics, once there are any."""
        if self.view is not None:
            self.push_screen(MetricsTable(self.view))
