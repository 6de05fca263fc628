"""Progress, while it runs."""

from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from maxgate.tools.loadtest.job import Progress


class LiveScreen:
    """A line that changes on a terminal, a line per phase elsewhere; nothing when quiet."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._console, self._quiet = console, quiet
        self._live = Live(console=console, refresh_per_second=4, transient=True)
        self._text = ""

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._quiet:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def phase(self, text: str, seconds: float | None) -> None:
        """See Screen."""
        self._text = text if seconds is None else f"{text} (up to {seconds:g} s)"
        if self._quiet:
            return
        if self._live.is_started:
            self._live.update(Text(self._text))
        else:
            self._console.print(self._text)

    def progress(self, progress: Progress) -> None:
        """See Screen."""
        line = (
            f"{self._text}: {progress.started} sent, {progress.succeeded} answered, "
            f"{progress.failed} failed, {progress.in_flight} in flight, {progress.chunks} chunks"
        )
        if self._live.is_started:
            self._live.update(Text(line))
