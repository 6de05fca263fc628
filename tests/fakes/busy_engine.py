"""An engine with a fixed batch and the gateways in front of it, in virtual time."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from maxgate.admission.capacity import EngineLoad
from maxgate.admission.controller import AdmissionController
from maxgate.admission.errors import Refused
from maxgate.admission.lease_table import LeaseTable
from maxgate.admission.settings import AdmissionSettings
from maxgate.generation.chunk import Usage
from maxgate.generation.context import Principal
from maxgate.generation.request import TokenIds
from tests.fakes.requests import generation_request
from tests.fakes.slot_ledgers import MemoryLedger
from tests.fakes.timer_loop import VirtualTimeLoop

TOKEN_SECONDS: Final = 0.025
METRICS_INTERVAL: Final = 1.0

T = TypeVar("T")


@dataclass(frozen=True)
class Load:
    """A tenant: the number of its parallel clients, and the mean lengths of its requests in tokens.

    Its clients send from `start` to `end`, in seconds since the start; a client pauses for `pause`
    seconds on average between two requests.
    """

    tenant: str
    clients: int
    prompt: int = 40
    tokens: int = 8
    service_class: str = "default"
    pause: float = 0.0
    start: float = 0.0
    end: float = float("inf")


@dataclass
class Served:
    """The responses of a tenant: weighted tokens, times of the first tokens, and refusals."""

    responses: int = 0
    weighted_tokens: int = 0
    first_tokens: list[float] = field(default_factory=list)
    refused: int = 0


class LoopClock:
    """The time of the running loop."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def wall(self) -> float:
        return asyncio.get_running_loop().time()


class BusyEngine:
    """Works on `batch` requests at a time, and queues the others; `load` are its last metrics."""

    def __init__(self, batch: int) -> None:
        self.load = EngineLoad(1, 0, 0)
        self._batch = batch
        self._slots = asyncio.Semaphore(batch)
        self._requests = 0

    async def report(self) -> None:
        """Report metrics until cancelled."""
        while True:
            await asyncio.sleep(METRICS_INTERVAL)
            running = min(self._requests, self._batch)
            self.load = EngineLoad(1, running, self._requests - running)

    async def generate(self, tokens: int) -> float:
        """Generate tokens; returns the time of the first one."""
        self._requests += 1
        async with self._slots:
            await asyncio.sleep(TOKEN_SECONDS)
            first_token = asyncio.get_running_loop().time()
            await asyncio.sleep(TOKEN_SECONDS * (tokens - 1))
        self._requests -= 1
        return first_token


class Gateways:
    """Gateways that share the slots of an engine if there are several of them.

    With `is_known`, the batch of the engine is configured, else its metrics are read.
    """

    def __init__(self, count: int = 1, batch: int = 8, *, is_known: bool = True) -> None:
        self.engine = BusyEngine(batch)
        tables: dict[str, LeaseTable] = {}
        self.controllers = [
            AdmissionController(
                AdmissionSettings(),
                lambda _: self.engine.load,
                lambda _: batch if is_known else None,
                ledger=MemoryLedger(tables, LoopClock()) if count > 1 else None,
            )
            for _ in range(count)
        ]
        self._served: defaultdict[str, Served] = defaultdict(Served)

    async def send(self, *loads: Load, warm_up: float, seconds: float) -> dict[str, Served]:
        """Send all loads; returns the responses after the warm-up."""
        tasks = [asyncio.create_task(controller.run()) for controller in self.controllers]
        tasks.append(asyncio.create_task(self.engine.report()))
        for load in loads:
            for number in range(load.clients):
                controller = self.controllers[number % len(self.controllers)]
                work = self._run_client(controller, load, random.Random(number))
                tasks.append(asyncio.create_task(work))
        await asyncio.sleep(warm_up)
        self._served.clear()
        await asyncio.sleep(seconds)
        served = dict(self._served)
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
        return served

    async def _run_client(
        self, controller: AdmissionController, load: Load, rng: random.Random
    ) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.sleep(load.start)
        while loop.time() - began < load.end:
            prompt = TokenIds(b"[]", load.prompt)
            request = generation_request(prompt=prompt, stream=True)
            tenant = load.tenant
            request.context.principal = Principal(tenant, tenant, tenant, "", load.service_class)
            sent_at = loop.time()
            try:
                async with controller.admit(request) as lease:
                    # Without differences, all requests would end at the same time.
                    tokens = rng.randint(load.tokens // 2, load.tokens * 3 // 2)
                    first_token = await self.engine.generate(tokens)
                    lease.settle(Usage(load.prompt, tokens))
            except Refused as error:
                self._served[tenant].refused += 1
                await asyncio.sleep(error.retry_after or 0.0)
                continue
            served = self._served[tenant]
            served.responses += 1
            served.weighted_tokens += load.prompt + 2 * tokens
            served.first_tokens.append(first_token - sent_at)
            await asyncio.sleep(rng.uniform(0, 2 * load.pause))


def run_in_virtual_time(work: Callable[[], Awaitable[T]]) -> T:
    """Run a coroutine on a loop that does not wait; returns its result."""
    loop = VirtualTimeLoop()
    try:
        task = loop.create_task(_call(work))
        while not task.done():
            loop.advance(1.0)
        return task.result()
    finally:
        loop.close()


async def _call(work: Callable[[], Awaitable[T]]) -> T:
    return await work()


def simulate(
    *loads: Load,
    gateways: int = 1,
    batch: int = 8,
    is_known: bool = True,
    warm_up: float = 20.0,
    seconds: float = 60.0,
) -> dict[str, Served]:
    """Return the responses to these loads in a virtual minute after the warm-up."""

    async def send() -> dict[str, Served]:
        running = Gateways(gateways, batch, is_known=is_known)
        return await running.send(*loads, warm_up=warm_up, seconds=seconds)

    return run_in_virtual_time(send)
