"""Arrival uncertainty and lag."""

import asyncio

import pytest

from maxgate.loadtest.client.timing import Inbox, expand_pause, summarize_lag
from maxgate.loadtest.messages import Lag
from tests.fakes.clock import FakeClock


class Reader:
    """A receiver that takes `takes` seconds and keeps timestamp and uncertainty."""

    def __init__(self, clock: FakeClock, takes: float) -> None:
        self.clock, self.takes = clock, takes
        self.arrived: list[tuple[float, float]] = []

    def take(self, data: bytes | None, at: float, uncertainty: float) -> None:
        self.arrived.append((at, uncertainty))
        self.clock.advance(self.takes)


def fresh(*, takes: float = 0.0) -> tuple[FakeClock, Inbox, Reader]:
    """A clock at 1,000 s, an inbox, and a receiver."""
    clock = FakeClock()
    return clock, Inbox(asyncio.get_running_loop(), clock.monotonic), Reader(clock, takes)


async def turn() -> None:
    """Run one turn of the event loop."""
    await asyncio.sleep(0)


async def test_idle_client() -> None:
    """Data that wakes an idle client has no uncertainty."""
    clock, inbox, reader = fresh()
    inbox.put(reader, b"a")
    await turn()
    clock.advance(3)
    inbox.put(reader, b"b")
    await turn()
    assert reader.arrived == [(1000.0, 0.0), (1003.0, 0.0)]


async def test_same_batch() -> None:
    """Later data of a batch may have arrived with the first."""
    clock, inbox, reader = fresh()
    inbox.put(reader, b"a")
    clock.advance(0.25)
    inbox.put(reader, b"b")
    await turn()
    assert reader.arrived == [(1000.0, 0.0), (1000.25, 0.25)]


async def test_busy_client() -> None:
    """Data found right after a batch may have arrived at the start of that batch."""
    _, inbox, reader = fresh(takes=0.5)
    inbox.put(reader, b"a")
    await turn()
    inbox.put(reader, b"b")
    await turn()
    inbox.put(reader, b"c")
    await turn()
    assert reader.arrived == [(1000.0, 0.0), (1000.5, 0.5), (1001.0, 0.5)]


def test_expand_pause() -> None:
    """A pause counts once for every alarm that was due in it."""
    ringing = expand_pause(10.0, 12.0, 0.5)
    assert ringing == [2.0, 1.5, 1.0, 0.5]
    assert expand_pause(12.0, 12.1, 0.5) == pytest.approx([0.1])
    assert expand_pause(12.0, 12.0, 0.5) == [0.0]


def test_no_lag() -> None:
    """Without alarms the lag is zero."""
    assert summarize_lag([]) == Lag()
