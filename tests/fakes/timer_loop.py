"""Event loops whose time the test advances."""

import asyncio
from collections.abc import Callable
from typing import Any


class Timer:
    """A timer of FakeLoop."""

    def __init__(self, at: float, callback: Callable[[], None]) -> None:
        self.at = at
        self.fire = callback
        self.cancelled = False

    def when(self) -> float:
        return self.at

    def cancel(self) -> None:
        self.cancelled = True


class FakeLoop(asyncio.AbstractEventLoop):
    """A loop for code that only sets timers."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None], *args: Any, **_: Any) -> Any:
        self.timers.append(Timer(when, callback))
        return self.timers[-1]

    def advance_to(self, now: float) -> None:
        while due := [t for t in self.timers if t.at <= now and not t.cancelled]:
            self.now = due[0].at
            self.timers.remove(due[0])
            due[0].fire()
        self.now = now

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().create_future()


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A loop that runs tasks, and never waits: time passes only in `advance`."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    def settle(self) -> None:
        """Run until every task waits for a later time or for the test."""
        while True:
            self.call_soon(self.stop)
            self.run_forever()
            if not self._ready:
                return

    def advance(self, seconds: float) -> None:
        """Let time pass, timer by timer."""
        end = self.now + seconds
        while self._scheduled and self._scheduled[0].when() <= end:
            self.now = max(self.now, self._scheduled[0].when())
            self.settle()
        self.now = end
        self.settle()
