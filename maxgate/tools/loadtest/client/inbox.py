"""Stamp first, read later.

When many connections become readable at once, the event loop calls them one after another. Were
each one's bytes read there and then, the last one's stamp would be late by all the reading before
it. So bytes are only stamped and put here, and read when every connection has had its turn.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol


class Receiver(Protocol):
    """Whoever the bytes are for."""

    def take(self, data: bytes | None, at: float) -> None:
        """Read bytes that arrived at this time; None is the end of the connection."""
        ...


class Inbox:
    """What has arrived and was not read yet."""

    def __init__(self, loop: asyncio.AbstractEventLoop, monotonic: Callable[[], float]) -> None:
        self._call_soon = loop.call_soon
        self._monotonic = monotonic
        self._waiting: list[tuple[Receiver, bytes | None, float]] = []

    def put(self, receiver: Receiver, data: bytes | None) -> None:
        """Stamp it now, read it soon."""
        if not self._waiting:
            self._call_soon(self._deliver)
        self._waiting.append((receiver, data, self._monotonic()))

    def _deliver(self) -> None:
        waiting, self._waiting = self._waiting, []
        for receiver, data, at in waiting:
            receiver.take(data, at)
