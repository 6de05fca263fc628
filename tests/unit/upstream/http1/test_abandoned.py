"""A request that its client left before the engine began to answer is not ended too early."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from maxgate.upstream.http1.transport import EngineTransport
from maxgate.upstream.settings import UpstreamSettings
from tests.fakes.max_server import FakeMax, Script
from tests.fakes.server import serving

SILENT = Script(silent_after=0)


@asynccontextmanager
async def abandoned(engine: FakeMax, **settings: float) -> AsyncIterator[httpx.AsyncClient]:
    """A client whose first request was cancelled while the engine was silent."""
    chosen = UpstreamSettings.model_validate(settings)
    async with (
        serving(engine) as url,
        httpx.AsyncClient(base_url=url, transport=EngineTransport(chosen)) as client,
    ):
        asking = asyncio.create_task(ask(client))
        await engine.arrived.wait()
        asking.cancel()
        await asyncio.wait([asking])
        yield client


async def ask(client: httpx.AsyncClient) -> None:
    await client.post("/v1/completions", json={"model": "m", "prompt": [1], "stream": True})


async def test_it_stays_until_max_has_had_time_to_read_it() -> None:
    engine = FakeMax(scripts=[SILENT])
    began = asyncio.get_running_loop().time()
    async with abandoned(engine, cancel_grace=0.2):
        assert engine.running == 1
        await engine.idle.wait()
    assert engine.aborted == 1
    assert 0.2 <= asyncio.get_running_loop().time() - began < 0.3


async def test_it_ends_at_once_where_max_had_that_time() -> None:
    engine = FakeMax(scripts=[SILENT])
    async with abandoned(engine, cancel_grace=0):
        await asyncio.wait_for(engine.idle.wait(), 0.1)
    assert engine.aborted == 1


async def test_it_ends_when_max_begins_to_answer() -> None:
    first_token = asyncio.Event()
    engine = FakeMax(scripts=[Script(silent_after=1, begins=first_token)])
    async with abandoned(engine, cancel_grace=60):
        first_token.set()
        await engine.idle.wait()
    assert engine.aborted == 1


async def test_it_is_counted_among_the_connections() -> None:
    engine = FakeMax(scripts=[SILENT])
    async with abandoned(engine, cancel_grace=0.1, max_connections=1) as client:
        with pytest.raises(httpx.PoolTimeout):
            await ask(client)
        await engine.idle.wait()
        await ask(client)


async def test_it_ends_with_the_gateway() -> None:
    engine = FakeMax(scripts=[SILENT])
    async with abandoned(engine, cancel_grace=60) as client:
        await client.aclose()
        await engine.idle.wait()
    assert engine.aborted == 1
