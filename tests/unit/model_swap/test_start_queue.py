"""Requests wait for their models, for a time, with a truthful `Retry-After`."""

import asyncio
from typing import Any

import pytest

from maxgate.errors import GatewayError
from maxgate.generation.context import RequestContext
from maxgate.generation.errors import ModelNotRunning, ModelStartFailed
from maxgate.generation.request_record import RequestRecord
from maxgate.model_swap.settings import SwapSettings
from maxgate.model_swap.start_queue import Demand, StartQueue
from tests.fakes.clock import FakeClock


class Setup:
    """A queue, its clock, and the demand that it has reported."""

    def __init__(self, **settings: Any) -> None:
        self.clock = FakeClock()
        self.queue = StartQueue(SwapSettings(**settings), self.clock)
        self.reports: list[dict[str, Demand]] = []
        self.queue.on_demand = lambda: self.reports.append(self.queue.list_demand())

    def context(self, *, deadline: float | None = None) -> RequestContext:
        """Return the context of a request that has just arrived."""
        return RequestContext(
            RequestRecord("1", "POST", "/", self.clock.monotonic()), deadline=deadline
        )

    async def wait(self, *, deadline: float | None = None) -> "asyncio.Task[None]":
        """Let a request wait for the model `a`, in the background."""
        task = asyncio.create_task(self.queue.wait("a", self.context(deadline=deadline)))
        await asyncio.sleep(0)
        return task


async def refuse(waiting: "asyncio.Task[None]") -> GatewayError:
    """Return the error of a request."""
    with pytest.raises(GatewayError) as caught:
        await waiting
    return caught.value


async def test_resume() -> None:
    """Requests wait until their model is ready; the first and the last one report the demand."""
    setup = Setup()
    first = await setup.wait()
    setup.clock.advance(3)
    second = await setup.wait()
    assert setup.queue.waiting("a") == 2
    assert setup.queue.list_demand() == {"a": Demand(2, 3)}
    setup.queue.resume("b")
    await asyncio.sleep(0)
    assert not first.done()
    setup.queue.resume("a")
    await asyncio.gather(first, second)
    assert setup.reports == [{"a": Demand(1, 0)}, {}]


async def test_cancelled_request() -> None:
    """A request whose client has gone is no demand."""
    setup = Setup()
    waiting = await setup.wait()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert setup.reports == [{"a": Demand(1, 0)}, {}]


async def test_max_wait() -> None:
    """After `max_wait`, a request is refused with the rest of the expected time."""
    setup = Setup(max_wait=0.02)
    setup.queue.hold("a", 41.2)
    error = await refuse(await setup.wait())
    assert (type(error), error.status, error.retry_after) == (ModelNotRunning, 503, 42)


async def test_short_deadline() -> None:
    """A request whose deadline is before the start is refused at once, and still starts it."""
    setup = Setup()
    setup.queue.hold("a", 30)
    setup.clock.advance(10)
    now = asyncio.get_running_loop().time()
    error = await refuse(await setup.wait(deadline=now + 19))
    assert error.retry_after == 20
    assert setup.reports == [{"a": Demand(1, 0)}]
    patient = await setup.wait(deadline=now + 25)
    assert not patient.done()
    setup.queue.resume("a")
    await patient
    assert setup.queue.list_demand() == {}


async def test_unmet_demand() -> None:
    """A refused request is no demand any more if its client does not come back."""
    setup = Setup()
    setup.queue.hold("a", 30)
    await refuse(await setup.wait(deadline=asyncio.get_running_loop().time() + 1))
    setup.clock.advance(89)
    assert setup.queue.list_demand() == {"a": Demand(1, 89)}
    setup.clock.advance(2)
    assert setup.queue.list_demand() == {}


async def test_full_queue() -> None:
    """Requests beyond `max_waiting` are refused."""
    setup = Setup(max_waiting=1)
    first = await setup.wait()
    error = await refuse(await setup.wait())
    assert (error.code, error.retry_after) == ("model_not_running", 1)
    setup.queue.resume("a")
    await first


async def test_failed_start() -> None:
    """A failure ends the wait, and refuses requests until the next start."""
    setup = Setup()
    waiting = await setup.wait()
    setup.queue.fail("a", "too little memory", 5)
    await waiting  # it looks for the model again
    setup.clock.advance(2)
    error = await refuse(await setup.wait())
    assert (type(error), error.retry_after) == (ModelStartFailed, 3)
    assert "'a' could not be started: too little memory" in error.message
    setup.clock.advance(3)
    later = await setup.wait()
    assert not later.done()
    setup.queue.resume("a")
    await later
