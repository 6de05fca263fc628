"""Stamp first, read later.

When many connections become readable at once, the event loop calls them one after another. Were
each one's bytes read there and then, the last one's stamp would be late by all the reading before
it. So bytes are only stamped and put here, and read when every connection has had its turn.

What arrives while others are read waits for its stamp all the same. How long it may have waited is
known here, and goes with the stamp.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

# An event loop that had nothing to do for so many seconds was asleep, and woken by what came.
_ASLEEP: Final = 0.0001


class Receiver(Protocol):
    """Whoever the bytes are for."""

    def take(self, data: bytes | None, at: float, held: float) -> None:
        """Read bytes that arrived at this time, or up to `held` seconds earlier.

        None is the end of the connection.
        """
        ...


class Inbox:
    """What has arrived and was not read yet."""

    def __init__(self, loop: asyncio.AbstractEventLoop, monotonic: Callable[[], float]) -> None:
        self._call_soon = loop.call_soon
        self._monotonic = monotonic
        self._waiting: list[tuple[Receiver, bytes | None, float, float]] = []
        # The first stamp of this turn, when the turn before it was done with, and since when what
        # is stamped in this one may have been there.
        self._turn = self._done = self._since = 0.0

    def put(self, receiver: Receiver, data: bytes | None) -> None:
        """Stamp it now, read it soon."""
        now = self._monotonic()
        if not self._waiting:
            self._call_soon(self._deliver)
            self._since = now if now - self._done > _ASLEEP else self._turn
            self._turn = now
        self._waiting.append((receiver, data, now, now - self._since))

    def _deliver(self) -> None:
        waiting, self._waiting = self._waiting, []
        for receiver, data, at, held in waiting:
            receiver.take(data, at, held)
        self._done = self._monotonic()
