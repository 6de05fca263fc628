"""When a client goes, its work ends at once; in both modes and in every phase."""

import asyncio
import json
import time

import httpx
import pytest

from tests.fakes.gateway import Gateway, StartGateway
from tests.fakes.max_server import FakeMax, Script
from tests.fakes.waiting import until

BODY = {"messages": [{"role": "user", "content": "Hello"}]}


async def leave(gateway: Gateway, *, stream: bool, after: int) -> float:
    """Ask, leave when the engine is at work, and say how long it took until it was let go."""
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = json.dumps({**BODY, "stream": stream}).encode()
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b"
        % (len(body), body)
    )
    await gateway.engine.arrived.wait()
    if stream and after:
        await reader.readuntil(b"of")
    left = time.perf_counter()
    writer.close()
    await gateway.engine.idle.wait()
    return time.perf_counter() - left


@pytest.mark.parametrize(("stream", "after", "grace"), [(True, 0, 0), (True, 3, 60), (False, 0, 0)])
async def test_the_engine_is_let_go_within_100_ms(
    start_gateway: StartGateway, *, stream: bool, after: int, grace: float
) -> None:
    """What an engine gets before, tests/unit/upstream/http1/test_transport.py says."""
    engine = FakeMax(scripts=[Script(silent_after=after)])
    async with start_gateway(engine, upstream={"cancel_grace": grace}) as gateway:
        seconds = await leave(gateway, stream=stream, after=after)
        metrics = (await gateway.client.get("/metrics")).json()
        health = (await gateway.client.get("/health")).json()
    assert seconds < 0.1
    assert engine.aborted == 1
    assert metrics["requests"]["in_flight"] == 0
    assert metrics["requests"]["by_outcome"] == {"client_gone": 1}
    assert health["engines"][0]["in_flight"] == 0


async def _true(value: object) -> bool:
    return bool(value)


async def test_nothing_is_left_of_many_that_left(start_gateway: StartGateway) -> None:
    engine = FakeMax(scripts=[Script(silent_after=n % 4) for n in range(60)])
    async with start_gateway(engine, upstream={"cancel_grace": 0.1}) as gateway:
        before = asyncio.all_tasks()
        async with httpx.AsyncClient(base_url=gateway.url) as client:
            tasks = [
                asyncio.create_task(
                    client.post("/v1/chat/completions", json={**BODY, "stream": n % 2 == 0})
                )
                for n in range(60)
            ]
            await until(lambda: _true(len(engine.requests) >= 40))
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        await engine.idle.wait()
        metrics = (await gateway.client.get("/metrics")).json()
        await until(lambda: _true(not asyncio.all_tasks() - before))
    assert metrics["requests"]["in_flight"] == 0


async def test_a_client_that_leaves_while_sending_is_no_request_to_the_engine(
    gateway: Gateway,
) -> None:
    host, port = gateway.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n{")
    await writer.drain()
    writer.close()

    async def it_is_noted() -> bool:
        metrics = (await gateway.client.get("/metrics")).json()
        return bool(metrics["requests"]["by_outcome"] == {"client_gone": 1})

    await until(it_is_noted)
    assert gateway.engine.requests == []
