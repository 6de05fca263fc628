"""An event loop for code that sets timers."""

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
    """An event loop whose time the test advances."""

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
