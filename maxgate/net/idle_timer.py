"""A time by which something has to happen, moved again and again."""

import asyncio
from collections.abc import Callable


class IdleTimer:
    """Calls `passed` when the time that was set last is over.

    Moving or clearing it costs no timer: the one that runs finds out, when it rings, how much is
    left. `close` ends it for good, and lets `passed` go.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, passed: Callable[[], None]) -> None:
        self._loop = loop
        self._passed: Callable[[], None] | None = passed
        self._at: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        """So many seconds from now, instead of what was set before."""
        at = self._at = self._loop.time() + seconds
        timer = self._timer
        if timer is not None:
            if timer.when() <= at:
                return
            timer.cancel()
        self._timer = self._loop.call_at(at, self._ring)

    def clear(self) -> None:
        """There is none any more."""
        self._at = None

    def close(self) -> None:
        """See class."""
        self._at = self._passed = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        if self._at is None or self._passed is None:
            return
        if self._loop.time() < self._at:
            self._timer = self._loop.call_at(self._at, self._ring)
            return
        self._at = None
        self._passed()
