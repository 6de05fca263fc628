"""Requests on several workers share the slots of a model, through the controller of each."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from maxgate.admission.capacity import EngineLoad
from maxgate.admission.controller import AdmissionController
from maxgate.admission.errors import ServerOverloaded
from maxgate.admission.lease_table import LeaseTable
from maxgate.admission.ledger import Grant, Holding, LedgerUnavailable, SlotLedger
from maxgate.admission.settings import AdmissionSettings
from tests.fakes.clock import FakeClock
from tests.fakes.requests import generation_request
from tests.fakes.slot_ledgers import MemoryLedger

MODEL = "small-on-max"
SLOTS = 8


class Gauges:
    """Keeps the last number of slots of a model."""

    def __init__(self) -> None:
        self.slots: int | None = None

    def set_slots(self, model: str, slots: int, in_use: int, waiting: Mapping[str, int]) -> None:
        del model, in_use, waiting
        self.slots = slots


class RemoteLedger(SlotLedger):
    """A ledger that answers in a later turn of the event loop, or is unavailable."""

    def __init__(self, ledger: MemoryLedger) -> None:
        self._ledger = ledger
        self.is_down = False

    async def renew(self, model: str, holding: Holding) -> Grant:
        await asyncio.sleep(0)
        if self.is_down:
            raise LedgerUnavailable("down")
        return self._ledger.renew_now(model, holding)

    async def release(self) -> None:
        await self._ledger.release()


class Host:
    """Workers with one ledger in memory."""

    def __init__(self, slots: int = SLOTS) -> None:
        self._slots = slots
        self._tables: dict[str, LeaseTable] = {}
        self._clock = FakeClock()
        self.gauges: list[Gauges] = []

    def open(self) -> MemoryLedger:
        self._clock.advance(0.001)
        return MemoryLedger(self._tables, self._clock)

    def start(self, ledger: SlotLedger | None = None, **settings: Any) -> AdmissionController:
        """Start a worker."""
        self.gauges.append(Gauges())
        return AdmissionController(
            AdmissionSettings(**settings),
            lambda _: EngineLoad(1),
            lambda _: self._slots - 1,  # and a spare one
            self.gauges[-1],
            ledger or self.open(),
            list_models=lambda: {MODEL},
        )


async def tick(*workers: AdmissionController) -> None:
    """Renew all leases, as each worker does four times a second."""
    for worker in workers:
        await worker.update()


async def take(worker: AdmissionController, count: int) -> list[Any]:
    """Send requests that keep their slots; returns those that have one, without waiting."""
    admissions = [worker.admit(generation_request()) for _ in range(count)]
    tasks = [asyncio.create_task(admission.__aenter__()) for admission in admissions]
    for _ in range(10):
        await asyncio.sleep(0)
    pairs = zip(admissions, tasks, strict=True)
    admitted = [a for a, task in pairs if task.done() and task.exception() is None]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return admitted


@pytest.mark.parametrize("slots", [2, SLOTS])
async def test_first_request(slots: int) -> None:
    """The first request of an idle worker has a slot, with or without an earlier renewal."""
    host = Host(slots)
    first, second = host.start(max_queue=0), host.start(max_queue=0)
    for worker in (second, first):
        request = generation_request()
        async with worker.admit(request):
            assert worker.slots(MODEL).queue.length == 0
        await tick(first, second)
        async with worker.admit(request):
            assert worker.slots(MODEL).queue.length == 0


async def test_known_models() -> None:
    """Idle workers have a slot of each model that is served; together they report all slots."""
    host = Host()
    workers = [host.start(), host.start()]
    await tick(*workers, *workers)

    assert [worker.models[MODEL].slots for worker in workers] == [1, 1]
    assert [gauges.slots for gauges in host.gauges] == [SLOTS - 1, 1]


async def test_burst() -> None:
    """A burst on one worker gets all free slots at once, and no more than these."""
    host = Host()
    busy, idle = host.start(), host.start()
    await tick(busy, idle)

    assert len(await take(busy, 3 * SLOTS)) == SLOTS - 1
    assert len(await take(idle, 3 * SLOTS)) == 1
    await tick(busy, idle, busy, idle)
    assert sum(worker.models[MODEL].slots for worker in (busy, idle)) <= SLOTS


async def test_full() -> None:
    """A worker refuses only if no worker has a free slot."""
    host = Host()
    busy, other = host.start(), host.start(max_queue=0)
    await take(busy, SLOTS)
    with pytest.raises(ServerOverloaded):
        async with other.admit(generation_request()):
            pass


async def test_freed_elsewhere() -> None:
    """A request that waits gets a slot that another worker no longer uses."""
    host = Host()
    busy, other = host.start(), host.start()
    admitted = await take(busy, SLOTS)
    waiting = asyncio.create_task(other.admit(generation_request()).__aenter__())
    await asyncio.sleep(0)
    assert other.slots(MODEL).queue.length == 1
    for admission in admitted:
        await admission.__aexit__(None, None, None)
    await tick(busy)
    second = asyncio.create_task(other.admit(generation_request()).__aenter__())
    await asyncio.wait_for(asyncio.gather(waiting, second), 5)
    assert other.models[MODEL].in_use == 2


async def test_remote_ledger() -> None:
    """With a ledger that takes a moment, the first request uses the slot of an idle worker."""
    host = Host()
    worker = host.start(RemoteLedger(host.open()))
    await tick(worker, worker)

    assert worker.models[MODEL].slots == 1
    async with worker.admit(generation_request()):
        assert worker.models[MODEL].in_use == 1
        admitted = await take(worker, SLOTS)
    assert len(admitted) == SLOTS - 1


async def test_outage() -> None:
    """While the ledger is unavailable, the last grant stays; one warning says so."""
    host = Host()
    remote = RemoteLedger(host.open())
    worker = host.start(remote)
    await tick(worker, worker)
    remote.is_down = True
    with capture_logs() as lines:
        await tick(worker, worker, worker)
        slots = worker.models[MODEL].slots
        remote.is_down = False
        await tick(worker)

    assert slots == 1
    assert [line["event"] for line in lines] == ["slots are not shared at the moment"]
