"""End the wait for a replica that takes far longer than usual."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from maxgate.upstream.errors import engine_timeout

T = TypeVar("T")


class OverdueTimer:
    """Interrupts a wait after `seconds` if `may_move` allows the call to move elsewhere.

    Otherwise the wait goes on, and `may_move` is asked again after as long. `interrupt` ends the
    wait; `wait` sets it, and later phases of a call may replace it.
    """

    def __init__(self, seconds: float, may_move: Callable[[], bool]) -> None:
        self._seconds = seconds
        self._may_move = may_move
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(seconds, self._fire)
        self.interrupt: Callable[[], object] | None = None

    async def wait(self, response: Awaitable[T]) -> T:
        """Await the response; raises UpstreamTimeout when it is interrupted."""
        try:
            async with asyncio.timeout(None) as scope:
                # Cancels: MAX must have read the request before its connection is closed (ADR 9).
                self.interrupt = lambda: scope.reschedule(self._loop.time())
                return await response
        except TimeoutError as error:
            raise engine_timeout() from error

    def cancel(self) -> None:
        """Stop the timer."""
        self._timer.cancel()

    def _fire(self) -> None:
        if self.interrupt is not None and self._may_move():
            self.interrupt()
        else:
            self._timer = self._loop.call_later(self._seconds, self._fire)
