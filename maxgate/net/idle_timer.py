"""A timeout that is reset often and rarely fires."""

import asyncio
from collections.abc import Callable


class IdleTimer:
    """Calls `on_timeout` when the time given to the last `reset` has passed.

    Resetting does not create a new timer; when the current one fires early, it reschedules itself.
    `close` stops the timer for good and drops the reference to `on_timeout`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_timeout: Callable[[], None]) -> None:
        self._loop = loop
        self._on_timeout: Callable[[], None] | None = on_timeout
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def reset(self, timeout: float) -> None:
        """Fire `timeout` seconds from now, replacing any earlier deadline."""
        deadline = self._deadline = self._loop.time() + timeout
        timer = self._timer
        if timer is not None:
            if timer.when() <= deadline:
                return
            timer.cancel()
        self._timer = self._loop.call_at(deadline, self._fire)

    def cancel(self) -> None:
        """Remove the deadline; `reset` sets a new one."""
        self._deadline = None

    def close(self) -> None:
        """Cancel the timer and release the callback."""
        self._deadline = self._on_timeout = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        if self._deadline is None or self._on_timeout is None:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._fire)
            return
        self._deadline = None
        self._on_timeout()
