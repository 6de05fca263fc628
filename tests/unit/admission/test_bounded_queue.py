"""The bounds of the queue, by simulated clients of an engine with a fixed batch."""

import asyncio
import heapq
from collections.abc import Iterator
from itertools import count

import pytest

from maxgate.admission.bounded_queue import BURST, BoundedQueue, Pace
from maxgate.admission.errors import Refused
from maxgate.admission.queue import Accounts, Waiter
from maxgate.admission.settings import AdmissionSettings

SLOTS = 4
RESPONSE = 0.2
LATENCY = 0.001


class Simulation:
    """An engine that works on SLOTS requests, RESPONSE seconds each; others wait or are refused.

    `waits` are the times in the queue of those that ran, `refusals` the times of refusals.
    """

    def __init__(self, *, retry: bool = False, closed: bool = False) -> None:
        settings = AdmissionSettings()
        accounts = Accounts(settings.max_tenants)
        self.account = accounts.find("a")
        self.queue = BoundedQueue(settings, accounts)
        self.waits: list[float] = []
        self.refusals: list[float] = []
        self.running = 0
        self.pace = Pace(SLOTS, RESPONSE, is_start=True, burst=BURST * SLOTS)
        self._is_closed = closed
        self._retries = retry
        self._order = count()
        self._events: list[tuple[float, int, str]] = []

    def at(self, *times: float) -> None:
        for time in times:
            heapq.heappush(self._events, (time, next(self._order), "arrival"))

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] < until:
            now, _, kind = heapq.heappop(self._events)
            if kind == "arrival":
                self._arrive(now)
            else:
                self._end(now)

    def _arrive(self, now: float) -> None:
        if self.running < SLOTS:
            self._begin(now, waited=0.0)
            return
        waiter = Waiter(
            self.account,
            rank=1,
            priority=0,
            cost=1.0,
            size=0,
            queued_at=now,
            expires_at=now + 60.0,
            turn=asyncio.get_running_loop().create_future(),
        )
        try:
            self.queue.enqueue(waiter, now, self.pace)
        except Refused as error:
            self.refusals.append(now)
            if self._retries:
                self.at(now + (error.retry_after or 0.0) + LATENCY)

    def _begin(self, now: float, waited: float) -> None:
        self.running += 1
        self.waits.append(waited)
        heapq.heappush(self._events, (now + RESPONSE, next(self._order), "end"))

    def _end(self, now: float) -> None:
        self.running -= 1
        self.pace = Pace(SLOTS, RESPONSE, burst=BURST * SLOTS)
        waiter = self.queue.pop()
        if waiter is not None:
            self._begin(now, now - waiter.queued_at)
        if self._is_closed:
            self.at(now)


def spread(rate: float, seconds: float, begin: float = 0.0) -> Iterator[float]:
    return (begin + n / rate for n in range(int(rate * seconds)))


async def test_burst() -> None:
    """A burst of five times the slots is served, and no more than that."""
    simulation = Simulation()
    simulation.at(*[0.0] * 40)
    simulation.run(10.0)
    assert len(simulation.waits) == 20
    assert max(simulation.waits) <= 5 * RESPONSE


async def test_many_clients() -> None:
    """A fixed number of clients, each of which sends its next request at once, is not refused."""
    simulation = Simulation(closed=True)
    simulation.at(*[0.0] * 20)
    simulation.run(60.0)
    assert simulation.refusals == []
    assert max(simulation.waits) <= 4 * RESPONSE + 1e-6


async def test_lasting_overload() -> None:
    """When requests keep arriving faster than they are served, they wait for one response."""
    simulation = Simulation()
    simulation.at(*spread(rate=3 * SLOTS / RESPONSE, seconds=10.0))
    simulation.run(5.0)
    simulation.waits.clear()
    simulation.run(10.0)
    assert len(simulation.waits) == pytest.approx(5.0 * SLOTS / RESPONSE, abs=1)
    assert 0.25 < min(simulation.waits) <= max(simulation.waits) < 0.6


async def test_end_of_overload() -> None:
    """After an overload a burst may wait again."""
    simulation = Simulation()
    simulation.at(*spread(rate=3 * SLOTS / RESPONSE, seconds=10.0))
    simulation.at(*[20.0] * 20)
    simulation.run(15.0)
    simulation.refusals.clear()
    simulation.run(30.0)
    assert simulation.refusals == []


async def test_retries_after_a_burst() -> None:
    """The requests beyond a burst are served when they retry as told."""
    simulation = Simulation(retry=True)
    simulation.at(*[0.0] * 60)
    simulation.run(10.0)
    assert len(simulation.waits) == 60
    assert len(simulation.refusals) == 60 - 20
