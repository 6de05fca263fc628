"""Ctrl-C."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from maxgate.tools.loadtest.session import Session


@contextmanager
def interruptible(session: Session) -> Iterator[None]:
    """Ctrl-C ends the session in good order; a second one at once."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def on_signal() -> None:
        if session.findings.interrupted and task is not None:
            task.cancel()
        session.interrupt()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
