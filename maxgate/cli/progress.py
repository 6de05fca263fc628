"""Progress of long operations: a live line on a terminal, occasional plain lines elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import structlog
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from typing_extensions import override

from maxgate.engine.supervisor import Reporter

_PLAIN_LINE_INTERVAL: Final = 10.0


class EngineProgress(Reporter):
    """Reports the progress of an engine's start on stderr."""

    def __init__(self, model: str) -> None:
        self._console = Console(stderr=True)
        self._status = self._console.status("")
        self._model = model
        self._next_line = 0.0

    @override
    def starting(self, phase: str, seconds: float) -> None:
        text = f"MAX with {self._model}: {phase}, {seconds:.0f} s"
        if phase.startswith("compiling"):
            text += " (about two minutes the first time, seconds later)"
        if self._console.is_terminal:
            self._status.update(text)
            self._status.start()
        elif seconds >= self._next_line:
            self._next_line = seconds + _PLAIN_LINE_INTERVAL
            self._print(text)

    @override
    def ready(self, seconds: float) -> None:
        self._status.stop()
        self._print(f"MAX with {self._model} is ready after {seconds:.0f} s")

    @override
    def died(self, cause: str, delay: float) -> None:
        self._status.stop()
        self._next_line = 0.0
        self._print(f"MAX with {self._model} exited: {cause}. Restarting in {delay:g} s")

    def close(self) -> None:
        """Restore the terminal."""
        self._status.stop()

    @staticmethod
    def _print(text: str) -> None:
        print(text, file=sys.stderr, flush=True)


class LoggedProgress(EngineProgress):
    """The same as lines of a JSON log."""

    def __init__(self, model: str) -> None:
        super().__init__(model)
        self._log = structlog.get_logger("max").bind(model=model)

    @override
    def starting(self, phase: str, seconds: float) -> None:
        if seconds >= self._next_line:
            self._next_line = seconds + _PLAIN_LINE_INTERVAL
            self._log.info("engine is starting", phase=phase, seconds=round(seconds, 1))

    @override
    def ready(self, seconds: float) -> None:
        self._log.info("engine is ready", seconds=round(seconds, 1))

    @override
    def died(self, cause: str, delay: float) -> None:
        self._next_line = 0.0
        self._log.error("engine exited", cause=cause, restart_seconds=delay)


@contextmanager
def show_bytes_progress(description: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar of bytes; yields a function to call with bytes done and in total."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(description, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
