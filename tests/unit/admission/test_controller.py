"""Requests run with a slot, wait for one, or are refused with a truthful Retry-After."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from maxgate.admission.bounded_queue import Pace
from maxgate.admission.capacity import EngineLoad
from maxgate.admission.controller import AdmissionController, SlotsSink
from maxgate.admission.errors import QueueTimeout, ServerOverloaded, TenantQueueFull
from maxgate.admission.held import HeldRequests
from maxgate.admission.settings import AdmissionSettings
from maxgate.errors import GatewayError, ShuttingDown
from maxgate.generation.chunk import Usage
from maxgate.generation.context import Principal
from maxgate.generation.request import GenerationRequest
from tests.fakes.requests import generation_request
from tests.fakes.waiting import until

MODEL = "small-on-max"
TYPICAL_TOKENS = 100  # expected before there are responses


def create_controller(
    slots: int | None = 3,
    held: HeldRequests | None = None,
    sink: SlotsSink | None = None,
    **settings: Any,
) -> AdmissionController:
    """Return the admission of an engine with this number of slots, one of them spare."""
    return AdmissionController(
        AdmissionSettings(**settings),
        lambda _: EngineLoad(1),
        lambda _: None if slots is None else slots - 1,
        sink=sink,
        held=held,
    )


def request_of(tenant: str = "a", service_class: str = "default", **context: Any) -> Any:
    """Return a request of a tenant."""
    request = generation_request()
    request.context.principal = Principal(tenant, tenant, tenant, "", service_class)
    for name, value in context.items():
        setattr(request.context, name, value)
    return request


class Clients:
    """Requests that run until they are ended; `order` has the names as they got a slot."""

    def __init__(self, controller: AdmissionController) -> None:
        self.controller = controller
        self.order: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def send(self, name: str, request: GenerationRequest | None = None) -> None:
        """Send a request, and let it run or wait."""
        self._ends[name] = asyncio.Event()
        work = self._run(name, request or request_of())
        self.tasks[name] = asyncio.create_task(work)
        await settle()

    async def _run(self, name: str, request: GenerationRequest) -> None:
        async with self.controller.admit(request) as lease:
            self.order.append(name)
            await self._ends[name].wait()
            lease.settle(Usage(0, TYPICAL_TOKENS))

    async def end(self, *names: str) -> None:
        """Let running requests end."""
        for name in names:
            self._ends[name].set()
            await self.tasks[name]
        await settle()

    async def refusal(self, name: str) -> GatewayError:
        """Return the error of a refused request."""
        with pytest.raises(GatewayError) as caught:
            await self.tasks[name]
        return caught.value

    async def close(self) -> None:
        """End all that are left."""
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)


async def settle() -> None:
    """Let all tasks run as far as they can."""
    for _ in range(10):
        await asyncio.sleep(0)


@asynccontextmanager
async def clients(slots: int | None = 3, **settings: Any) -> AsyncIterator[Clients]:
    """Clients of an engine with this number of slots; at the end, nothing is left."""
    controller = create_controller(slots, **settings)
    clients = Clients(controller)
    try:
        yield clients
    finally:
        await clients.close()
        model = controller.slots(MODEL)
        accounts = model.accounts.by_tenant.values()
        assert (model.in_use, model.queue.length, model.queue.size) == (0, 0, 0)
        assert [(a.running, a.waiting) for a in accounts] == [(0, 0)] * len(accounts)


async def test_free_slots() -> None:
    """Requests run at once while there are slots; then they wait for their turn."""
    async with clients(slots=3) as sent:
        for name in "abcde":
            await sent.send(name)
        assert sent.order == ["a", "b", "c"]
        await sent.end("b")
        assert sent.order == ["a", "b", "c", "d"]
        assert sent.controller.slots(MODEL).queue.length == 1


async def test_no_limit() -> None:
    """Without a known limit, all requests run."""
    async with clients(slots=None) as sent:
        for number in range(100):
            await sent.send(str(number))
        assert len(sent.order) == 100


async def test_cancelled_in_queue() -> None:
    """A client that leaves the queue makes room for the next one."""
    async with clients(slots=2) as sent:
        for name in "abcd":
            await sent.send(name)
        sent.tasks["c"].cancel()
        await settle()
        await sent.end("a")
        assert sent.order == ["a", "b", "d"]


async def test_cancelled_with_its_turn() -> None:
    """A slot that comes just as the client leaves goes to the next one."""
    async with clients(slots=2) as sent:
        for name in "abcd":
            await sent.send(name)
        sent.controller.slots(MODEL).give_back(1)
        sent.tasks["c"].cancel()
        await settle()
        assert sent.order == ["a", "b", "d"]
        sent.controller.slots(MODEL).in_use += 1


@pytest.mark.parametrize(("typical_seconds", "charged"), [(0.0, 200.0), (1e9, 0.0)])
async def test_cancelled_without_usage(typical_seconds: float, charged: float) -> None:
    """A client that disconnects is charged for the share of a typical response that it used."""
    async with clients(slots=2) as sent:
        model = sent.controller.slots(MODEL)
        if typical_seconds:
            model.weigh(Usage(0, TYPICAL_TOKENS), typical_seconds)
        await sent.send("a")
        sent.tasks["a"].cancel()
        await settle()
        assert model.accounts.find("a").counter == pytest.approx(charged, abs=1e-3)


async def test_failed_without_usage() -> None:
    """A request that fails at the engine is not charged."""
    controller = create_controller()
    with pytest.raises(OSError, match="engine"):
        async with controller.admit(request_of()):
            raise OSError("engine")
    assert controller.slots(MODEL).accounts.find("a").counter == 0.0


async def test_full_queue() -> None:
    """A full queue refuses with 503, and each refusal names a later time."""
    async with clients(slots=2, max_queue=1) as sent:
        for name in "abcde":
            await sent.send(name)
        refusals = [await sent.refusal(name) for name in "de"]
        assert [type(error) for error in refusals] == [ServerOverloaded] * 2
        first, second = (error.retry_after for error in refusals)
        assert first is not None
        assert second is not None
        assert 0 < first < second


async def test_turns() -> None:
    """While requests wait, the time between two free slots is measured, not computed."""
    slots = create_controller().slots(MODEL)
    slots.in_use = 2
    slots.freed_at, slots.queue.length = 10.0, 1
    assert slots.measure_pace(10.0).turn == 0.5
    for number in range(200):
        slots.measure_turn(10.1 + number / 10)
    assert slots.measure_pace(30.0).turn == pytest.approx(0.1, rel=0.01)
    assert slots.measure_pace(120.0).turn == 0.5  # too long ago


async def test_queue_bytes() -> None:
    """The size of the prompts that wait is limited."""
    async with clients(slots=2, max_queue_bytes=10) as sent:
        for name in "abcde":
            await sent.send(name)
        assert type(await sent.refusal("e")) is ServerOverloaded


async def test_own_share() -> None:
    """A full queue refuses the tenant that has most of it, for the sake of the others."""
    async with clients(slots=2, max_queue=3) as sent:
        for number in range(5):
            await sent.send(f"many{number}", request_of("many"))
        await sent.send("few", request_of("few"))
        error = await sent.refusal("many4")
        assert (type(error), error.status) == (ServerOverloaded, 503)
        await sent.send("many5", request_of("many"))
        error = await sent.refusal("many5")
        assert (type(error), error.status) == (TenantQueueFull, 429)
        await sent.end("many0", "many1")
        assert sent.order == ["many0", "many1", "few", "many2"]


async def test_priority_takes_a_place() -> None:
    """A request of the class priority takes the place of one of a lower class."""
    async with clients(slots=2, max_queue=1) as sent:
        for name in "abc":
            await sent.send(name)
        await sent.send("urgent", request_of(service_class="priority"))
        assert type(await sent.refusal("c")) is ServerOverloaded
        await sent.end("a")
        assert sent.order == ["a", "b", "urgent"]


async def test_reserved_slots() -> None:
    """While there are priority requests, a tenth of the engine's slots is only for them."""
    async with clients(slots=11) as sent:  # ten, and one that waits at the engine
        await sent.send("urgent", request_of(service_class="priority"))
        sent.controller.slots(MODEL).update(asyncio.get_running_loop().time(), 11)
        for number in range(12):
            await sent.send(str(number))
        assert sent.order == ["urgent", *map(str, range(9))]
        await sent.end("urgent")
        assert sent.controller.slots(MODEL).queue.length == 3
        await sent.send("urgent too", request_of(service_class="priority"))
        assert sent.order[-1] == "urgent too"


async def test_deadline() -> None:
    """A request whose deadline cannot be met is refused at once."""
    async with clients(slots=2) as sent:
        for name in "ab":
            await sent.send(name)
        deadline = asyncio.get_running_loop().time() + 0.1
        await sent.send("c", request_of(deadline=deadline))
        error = await sent.refusal("c")
        assert (type(error), error.code) == (ServerOverloaded, "server_overloaded")


async def test_queue_timeout() -> None:
    """A request that waits too long gets an error, and gives its place back."""
    async with clients(slots=2, max_wait=1.0) as sent:
        await sent.send("a")
        await sent.send("b")
        sent.controller.slots(MODEL).weigh(Usage(1, 1), 0.001)
        await sent.send("c")
        error = await sent.refusal("c")
        assert (type(error), error.status) == (QueueTimeout, 503)


async def test_held() -> None:
    """A request that has waited for its model is not refused by a full queue."""
    async with clients(slots=2, max_queue=0) as sent:
        await sent.send("a")
        await sent.send("b")
        held = request_of()
        held.context.was_held = True
        await sent.send("c", held)
        await sent.send("d")
        assert type(await sent.refusal("d")) is ServerOverloaded
        await sent.end("a")
        assert sent.order == ["a", "b", "c"]


class Waiting(dict[str, int]):
    """The requests that wait, by class, as a metrics store gets them."""

    def set_slots(self, model: str, slots: int, in_use: int, waiting: Mapping[str, int]) -> None:
        """Keep those of the only model."""
        assert (model, slots, in_use) == (MODEL, 3, 0)
        self.update(waiting)


async def test_model_that_does_not_run() -> None:
    """Requests that wait for a model to start count as waiting for its slots, at their pace."""
    held, waiting = HeldRequests(AdmissionSettings(), {"small": MODEL}), Waiting()
    controller = create_controller(held=held, sink=waiting)
    controller.slots(MODEL).weigh(Usage(1, 1), 6.0)
    assert held.measure_pace(MODEL) == Pace(running=3, response=6.0, is_start=True, burst=12)
    task = asyncio.create_task(controller.run())
    for expected in (1, 0):
        request = request_of(service_class="flex")
        with held.hold("small", request.context, size=1, seconds=5.0) as turn:
            if not expected:
                held.resume("small")
                await turn

            async def is_counted(expected: int = expected) -> bool:
                return waiting == {"priority": 0, "default": 0, "flex": expected}

            await until(is_counted)
    task.cancel()
    await asyncio.wait([task])


async def test_shutdown() -> None:
    """Requests that wait get a 503 when the gateway stops; running ones go on."""
    async with clients(slots=2) as sent:
        for name in "abc":
            await sent.send(name)
        sent.controller.close()
        assert type(await sent.refusal("c")) is ShuttingDown
        await sent.send("d")
        assert type(await sent.refusal("d")) is ShuttingDown
        await sent.end("a")
        assert sent.order == ["a", "b"]


async def test_fair_tokens() -> None:
    """Tenants are charged by the tokens that they got."""
    async with clients(slots=2) as sent, AsyncExitStack():
        for name, tenant in (("a", "a"), ("b", "b")):
            await sent.send(name, request_of(tenant))
        await sent.end("a", "b")
        accounts = sent.controller.slots(MODEL).accounts.by_tenant
        assert {name: account.counter for name, account in accounts.items()} == {
            "a": 200.0,
            "b": 200.0,
        }


async def test_queue_time() -> None:
    """The time in the queue is recorded."""
    async with clients(slots=2) as sent:
        request = request_of()
        await sent.send("a")
        await sent.send("b")
        await sent.send("c", request)
        await sent.end("a")
        assert request.context.record.queue_seconds > 0
