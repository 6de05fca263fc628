"""Progress of what takes long: a line that changes on a terminal, a line now and then elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

_PLAIN_LINE_EVERY = 10.0


class EngineProgress:
    """A Reporter for people (see engine/supervisor.py)."""

    def __init__(self, model: str) -> None:
        self._console = Console(stderr=True)
        self._status = self._console.status("")
        self._model = model
        self._next_line = 0.0

    def starting(self, phase: str, seconds: float) -> None:
        """See Reporter."""
        text = f"MAX with {self._model}: {phase}, {seconds:.0f} s"
        if phase.startswith("compiling"):
            text += " (about two minutes the first time, seconds later)"
        if self._console.is_terminal:
            self._status.update(text)
            self._status.start()
        elif seconds >= self._next_line:
            self._next_line = seconds + _PLAIN_LINE_EVERY
            self._say(text)

    def ready(self, seconds: float) -> None:
        """See Reporter."""
        self._status.stop()
        self._say(f"MAX with {self._model} is ready after {seconds:.0f} s")

    def died(self, cause: str, pause: float) -> None:
        """See Reporter."""
        self._status.stop()
        self._next_line = 0.0
        self._say(f"MAX with {self._model} has ended: {cause}. Starting it again in {pause:g} s")

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._status.stop()

    @staticmethod
    def _say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)


@contextmanager
def bytes_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar of bytes written; the function takes (done, total)."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
