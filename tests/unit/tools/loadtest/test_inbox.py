"""Bytes come with how long they may have waited for their stamp."""

import asyncio

import pytest

from maxgate.tools.loadtest.client.inbox import Inbox


class Reader:
    """Takes so long to read, and keeps when that arrived which it read."""

    def __init__(self, clock: "Hand", takes: float = 0.0) -> None:
        self.clock, self.takes = clock, takes
        self.arrived: list[tuple[float, float]] = []

    def take(self, data: bytes | None, at: float, held: float) -> None:
        self.arrived.append((at, held))
        self.clock.now += self.takes


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


async def turn() -> None:
    """Let the event loop do what it was asked for."""
    await asyncio.sleep(0)


async def test_what_wakes_the_client_has_not_waited() -> None:
    clock = Hand()
    inbox, reader = Inbox(asyncio.get_running_loop(), clock.monotonic), Reader(clock)
    inbox.put(reader, b"a")
    await turn()
    clock.now = 103.0
    inbox.put(reader, b"b")
    await turn()
    assert reader.arrived == [(100.0, 0.0), (103.0, 0.0)]


async def test_what_comes_after_others_may_have_come_with_them() -> None:
    clock = Hand()
    inbox, reader = Inbox(asyncio.get_running_loop(), clock.monotonic), Reader(clock)
    inbox.put(reader, b"a")
    clock.now = 100.25
    inbox.put(reader, b"b")
    await turn()
    assert reader.arrived == [(100.0, 0.0), (100.25, 0.25)]


async def test_what_is_found_right_after_reading_may_have_come_before_it() -> None:
    clock = Hand()
    loop = asyncio.get_running_loop()
    inbox, reader = Inbox(loop, clock.monotonic), Reader(clock, takes=0.5)
    inbox.put(reader, b"a")
    await turn()
    inbox.put(reader, b"b")
    await turn()
    inbox.put(reader, b"c")
    await turn()
    assert reader.arrived == [(100.0, 0.0), (100.5, 0.5), (101.0, pytest.approx(0.5))]
