"""Bytes come with how long they may have waited for their stamp."""

import asyncio

from maxgate.loadtest.client.timing import Inbox
from tests.fakes.clock import FakeClock


class Reader:
    """Takes so long to read, and keeps when that arrived which it read."""

    def __init__(self, clock: FakeClock, takes: float) -> None:
        self.clock, self.takes = clock, takes
        self.arrived: list[tuple[float, float]] = []

    def take(self, data: bytes | None, at: float, uncertainty: float) -> None:
        self.arrived.append((at, uncertainty))
        self.clock.advance(self.takes)


def fresh(*, takes: float = 0.0) -> tuple[FakeClock, Inbox, Reader]:
    """A clock that stands at 1,000, an inbox, and who takes from it."""
    clock = FakeClock()
    return clock, Inbox(asyncio.get_running_loop(), clock.monotonic), Reader(clock, takes)


async def turn() -> None:
    """Let the event loop do what it was asked for."""
    await asyncio.sleep(0)


async def test_what_wakes_the_client_has_not_waited() -> None:
    clock, inbox, reader = fresh()
    inbox.put(reader, b"a")
    await turn()
    clock.advance(3)
    inbox.put(reader, b"b")
    await turn()
    assert reader.arrived == [(1000.0, 0.0), (1003.0, 0.0)]


async def test_what_comes_after_others_may_have_come_with_them() -> None:
    clock, inbox, reader = fresh()
    inbox.put(reader, b"a")
    clock.advance(0.25)
    inbox.put(reader, b"b")
    await turn()
    assert reader.arrived == [(1000.0, 0.0), (1000.25, 0.25)]


async def test_what_is_found_right_after_reading_may_have_come_before_it() -> None:
    _, inbox, reader = fresh(takes=0.5)
    inbox.put(reader, b"a")
    await turn()
    inbox.put(reader, b"b")
    await turn()
    inbox.put(reader, b"c")
    await turn()
    assert reader.arrived == [(1000.0, 0.0), (1000.5, 0.5), (1001.0, 0.5)]
