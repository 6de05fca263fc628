"""Signals of the parent process as a queue."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from maxgate.server.control import BLOCKED_SIGNALS


class SignalQueue:
    """Collects the signals of this process while `handled` is entered."""

    def __init__(self) -> None:
        self.socket, self._writer = socket.socketpair()
        self.socket.setblocking(False)
        self._writer.setblocking(False)
        self._had_terminal = _has_terminal()

    def put(self, number: signal.Signals) -> None:
        """Queue a signal; works from any thread."""
        self._writer.send(bytes([number]))

    def take(self) -> list[signal.Signals]:
        """Remove and return the signals since the last call, in order."""
        with suppress(BlockingIOError):
            return [signal.Signals(number) for number in self.socket.recv(256)]
        return []

    def terminal_is_gone(self) -> bool:
        """Whether the terminal that the process was started from has been closed."""
        return self._had_terminal and not _has_terminal()

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Queue signals instead of their default effect; main thread only."""
        # `nohup` ignores SIGHUP.
        numbers = [n for n in BLOCKED_SIGNALS if signal.getsignal(n) != signal.SIG_IGN]
        before = {number: signal.signal(number, _queue) for number in numbers}
        descriptor = signal.set_wakeup_fd(self._writer.fileno())
        try:
            yield
        finally:
            signal.set_wakeup_fd(descriptor)
            for number, handler in before.items():
                signal.signal(number, handler)


def _queue(number: int, frame: object) -> None:
    """Leave the signal to Python's wakeup descriptor."""


_TERMINAL: Final = "/dev/tty"


def _has_terminal() -> bool:
    try:
        os.close(os.open(_TERMINAL, os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
