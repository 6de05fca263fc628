"""Requests wait for their models, for a time, with a truthful `Retry-After`."""

import asyncio
from typing import Any

import pytest

from maxgate.admission.bounded_queue import Pace
from maxgate.admission.errors import TenantQueueFull
from maxgate.admission.held import HeldRequests
from maxgate.admission.settings import AdmissionSettings
from maxgate.errors import GatewayError
from maxgate.generation.context import Principal, RequestContext
from maxgate.generation.errors import ModelNotRunning, ModelStartFailed
from maxgate.generation.request_record import RequestRecord
from maxgate.model_swap.settings import SwapSettings
from maxgate.model_swap.start_queue import Demand, StartQueue
from tests.fakes.clock import FakeClock

UNLIMITED_PACE = Pace(running=0, response=0.0)


class Setup:
    """A queue, its clock, and the demand that it has reported."""

    def __init__(
        self, *, pace: Pace = UNLIMITED_PACE, max_queue: int | None = None, **swap: Any
    ) -> None:
        self.clock = FakeClock()
        self.requests = HeldRequests(AdmissionSettings(max_queue=max_queue), {"a": "org/a"})
        self.requests.measure_pace = {"org/a": pace}.__getitem__
        self.queue = StartQueue(SwapSettings(**swap), self.clock, self.requests)
        self.reports: list[dict[str, Demand]] = []
        self.order: list[str] = []
        self.queue.on_demand = lambda: self.reports.append(self.queue.list_demand())

    def context(
        self, *, deadline: float | None = None, tenant: str = "t", priority: int = 0
    ) -> RequestContext:
        """Return the context of a request that has just arrived."""
        return RequestContext(
            RequestRecord("1", "POST", "/", self.clock.monotonic()),
            Principal(tenant, tenant, tenant, "", "default"),
            deadline=deadline,
            priority=priority,
        )

    async def wait(self, name: str = "", **fields: Any) -> "asyncio.Task[None]":
        """Let a request wait for the model `a`, in the background."""
        context = self.context(**fields)

        async def wait() -> None:
            await self.queue.wait("a", context, size=1)
            assert context.was_held
            self.order.append(name)

        task = asyncio.create_task(wait())
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
    assert (type(error), error.status) == (ModelNotRunning, 503)
    assert error.retry_after == pytest.approx(41.2)


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
    """The bounds of the queue apply, and each refusal names the time of a turn after the start."""
    setup = Setup(max_queue=2, pace=Pace(running=2, response=8.0))
    setup.queue.hold("a", 30)
    first, second = await setup.wait(), await setup.wait()
    assert [setup.requests.count_class("org/a", rank) for rank in (0, 1)] == [0, 2]
    refusals = [await refuse(await setup.wait()) for _ in range(2)]
    assert [(error.code, error.retry_after) for error in refusals] == [
        ("model_not_running", pytest.approx(38, abs=0.1)),
        ("model_not_running", pytest.approx(42, abs=0.1)),
    ]
    setup.queue.resume("a")
    await asyncio.gather(first, second)


async def test_own_share() -> None:
    """A caller that has more than its share of a full queue loses its last request to another."""
    setup = Setup(max_queue=3, pace=Pace(running=2, response=8.0))
    setup.queue.hold("a", 30)
    many = [await setup.wait(tenant="many") for _ in range(3)]
    few = await setup.wait(tenant="few")
    assert (await refuse(many[2])).code == "model_not_running"
    error = await refuse(await setup.wait(tenant="many"))
    assert (type(error), error.status) == (TenantQueueFull, 429)
    setup.queue.resume("a")
    await asyncio.gather(few, *many[:2])


async def test_order() -> None:
    """Requests go on in turn by caller, and by priority within a caller."""
    setup = Setup()
    waiting = [await setup.wait(f"many{number}", tenant="many") for number in range(3)]
    waiting.append(await setup.wait("urgent", tenant="many", priority=-1))
    waiting += [await setup.wait(f"few{number}", tenant="few") for number in range(2)]
    setup.queue.resume("a")
    await asyncio.gather(*waiting)
    assert setup.order == ["urgent", "few0", "many0", "few1", "many1", "many2"]


async def test_deadline_in_the_queue() -> None:
    """A request that others would keep beyond its deadline after the start is refused at once."""
    setup = Setup(pace=Pace(running=1, response=10.0))
    setup.queue.hold("a", 30)
    first = await setup.wait()
    deadline = asyncio.get_running_loop().time() + 45
    assert (await refuse(await setup.wait(deadline=deadline))).code == "model_not_running"
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


async def test_scale_up() -> None:
    """With an expected time, a refused request learns what is left of it since the first one."""
    setup = Setup(max_queue=1, max_wait=300, scale_up_time=120)
    task = await setup.wait()
    setup.clock.advance(30)
    with pytest.raises(ModelNotRunning) as refused:
        await setup.queue.wait("a", setup.context(), size=1)
    assert refused.value.retry_after == pytest.approx(90, abs=5)
    setup.queue.resume("a")
    await task
    assert setup.queue.list_demand() == {}
