"""Progress on the terminal: a live line, or a line per phase and every half minute."""

from collections.abc import Callable, Sequence
from typing import Final, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text
from typing_extensions import override

from maxgate.loadtest.messages import Progress
from maxgate.loadtest.overview import format_seconds
from maxgate.loadtest.session import Screen

_LINE_INTERVAL: Final = 30.0
"""Seconds between lines without a terminal, so that a log shows that the run goes on."""


class LiveScreen(Screen):
    """A live line on a terminal, otherwise a few lines; nothing if quiet.

    `total` is the estimated duration of the run in seconds, None if unknown.
    """

    def __init__(
        self,
        console: Console,
        monotonic: Callable[[], float],
        *,
        quiet: bool,
        total: float | None = None,
    ) -> None:
        self._console, self._quiet, self._monotonic = console, quiet, monotonic
        self._live = Live(console=console, refresh_per_second=4, transient=True)
        self._text, self._limit = "", ""
        self._total = total
        self._began = self._phase_began = self._last_line = monotonic()

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._quiet:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    @property
    def elapsed(self) -> float:
        """Seconds since the start of the run."""
        return self._monotonic() - self._began

    def head(self, lines: Sequence[str]) -> None:
        """Print the head of the run."""
        if not self._quiet:
            self._console.print(Text("\n".join(lines)), soft_wrap=True)

    @override
    def phase(self, text: str, seconds: float | None) -> None:
        self._phase_began = self._last_line = self._monotonic()
        self._text = text
        self._limit = "" if seconds is None else f" of {seconds:g} s"
        if self._quiet:
            return
        if self._live.is_started:
            self._show(text + self._format_left())
        else:
            limit = "" if seconds is None else f" (up to {seconds:g} s)"
            self._console.print(Text(text + limit), soft_wrap=True)

    @override
    def progress(self, progress: Progress) -> None:
        now = self._monotonic()
        line = (
            f"{self._text}: {now - self._phase_began:.0f}{self._limit or ' s'}, "
            f"{progress.succeeded} ok, {progress.failed} failed, {progress.in_flight} in flight"
            + self._format_left()
        )
        if self._live.is_started:
            self._show(line)
        elif not self._quiet and now - self._last_line >= _LINE_INTERVAL:
            self._last_line = now
            self._console.print(Text(line), soft_wrap=True)

    def _show(self, line: str) -> None:
        self._live.update(Text(line, no_wrap=True, overflow="ellipsis"))

    def _format_left(self) -> str:
        if self._total is None or self._total <= self.elapsed:
            return ""
        return f"; {format_seconds(self._total - self.elapsed)} left"
