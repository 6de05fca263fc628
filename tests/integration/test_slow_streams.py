"""An engine whose tokens come far slower than those of its peers gets no more streams."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.fakes.gateway import Gateway, start
from tests.fakes.max_server import FakeMax, Script
from tests.fakes.server import serving
from tests.fakes.waiting import until

pytestmark = pytest.mark.timing

GAP = 0.02
STREAMS = 18


@asynccontextmanager
async def start_three(tokens: int) -> AsyncIterator[tuple[Gateway, Sequence[FakeMax]]]:
    """Run a gateway in front of three engines, the first of which has ten times the gaps."""
    gaps = (10 * GAP, GAP, GAP)
    engines = [FakeMax(scripts=[Script(tokens=["a"] * tokens, gap=g)] * 999) for g in gaps]
    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(serving(engine)) for engine in engines]
        gateway = start(engines=urls, breaker={"open_seconds": 60, "max_open_seconds": 60})
        yield await stack.enter_async_context(gateway), engines


async def stream(gateway: Gateway) -> None:
    """Send a request and read the whole stream."""
    assert (await gateway.chat(stream=True)).status_code == 200


async def is_ejected(gateway: Gateway) -> bool:
    """Whether a circuit breaker is open."""
    found = (await gateway.client.get("/health")).json()
    return any("open" in engine["breakers"].values() for engine in found["engines"])


async def has_all(engines: Sequence[FakeMax], count: int) -> bool:
    """Whether this many requests have arrived in all."""
    return sum(len(engine.requests) for engine in engines) >= count


@pytest.mark.parametrize("tokens", [15, 9999], ids=["finished", "running"])
async def test_slow_tokens(tokens: int) -> None:
    """It is ejected by streams that end, and by long ones that still run."""
    async with start_three(tokens) as (gateway, engines), asyncio.TaskGroup() as group:

        async def repeat() -> None:
            while True:
                await stream(gateway)

        clients = [group.create_task(repeat()) for _ in range(STREAMS)]
        await until(lambda: is_ejected(gateway), within=30)
        before = [len(engine.requests) for engine in engines]
        extra = [group.create_task(stream(gateway)) for _ in range(10)]
        await until(lambda: has_all(engines, sum(before) + 10))
        assert len(engines[0].requests) == before[0]
        for task in clients + extra:
            task.cancel()
