"""A disconnect ends the work for a request at once, in every phase, streamed or not."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.fakes.gateway import TLS, Gateway, StartGateway, start
from tests.fakes.max_server import FakeMax, Script
from tests.fakes.raw_client import connect
from tests.fakes.server import serving
from tests.fakes.waiting import until

TLS_FILES = Path(__file__).parents[1] / "data" / "tls"
BODY = {"messages": [{"role": "user", "content": "Hello"}]}


async def disconnect(gateway: Gateway, *, stream: bool, after: int) -> float:
    """Disconnect while the engine works; return the seconds until its request has ended."""
    reader, writer = await connect(gateway.url)
    body = json.dumps({**BODY, "stream": stream}).encode()
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b"
        % (len(body), body)
    )
    await gateway.engine.arrived.wait()
    if stream and after:
        await reader.readuntil(b"of")
    disconnected_at = time.perf_counter()
    writer.close()
    await gateway.engine.idle.wait()
    return time.perf_counter() - disconnected_at


@asynccontextmanager
async def start_behind_tls(engine: FakeMax) -> AsyncIterator[Gateway]:
    """Run a gateway in front of this engine, which is behind TLS."""
    files = {"ssl_keyfile": str(TLS_FILES / "key.pem"), "ssl_certfile": str(TLS_FILES / "ca.pem")}
    async with serving(engine, **files) as plain:
        url = plain.replace("http://", "https://")
        async with start(
            engine, engines=[{"url": url, "ca_file": TLS_FILES / "ca.pem"}]
        ) as gateway:
            yield gateway


async def read_metrics(gateway: Gateway) -> dict[str, str]:
    """Return the gateway's metrics by name and labels."""
    text = (await gateway.client.get("/metrics", headers={"accept": "text/plain"})).text
    return dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))


@pytest.mark.parametrize(("stream", "after", "grace"), [(True, 0, 0), (True, 3, 60), (False, 0, 0)])
async def test_engine_request_ends(
    start_gateway: StartGateway, *, stream: bool, after: int, grace: float
) -> None:
    """The engine's request ends within 100 ms of the disconnect, and nothing is left in flight."""
    engine = FakeMax(scripts=[Script(silent_after=after)])
    async with start_gateway(engine, upstream={"cancel_grace": grace}) as gateway:
        seconds = await disconnect(gateway, stream=stream, after=after)
        metrics = (await gateway.client.get("/metrics")).json()
        health = (await gateway.client.get("/health")).json()
    assert seconds < 0.1
    assert engine.aborted == 1
    assert metrics["requests"]["in_flight"] == 0
    assert metrics["requests"]["by_outcome"] == {"client_gone": 1}
    assert health["engines"][0]["in_flight"] == 0


@pytest.mark.parametrize(
    ("stream", "after", "grace", "least"), [(True, 3, 60, 0), (True, 0, 0.2, 0.2), (False, 0, 0, 0)]
)
async def test_duration_is_measured(
    start_gateway: StartGateway, *, stream: bool, after: int, grace: float, least: float
) -> None:
    """The time from the disconnect to the end of the engine call is a metric."""
    engine = FakeMax(scripts=[Script(silent_after=after)])
    async with start_gateway(engine, upstream={"cancel_grace": grace}) as gateway:
        await disconnect(gateway, stream=stream, after=after)
        lines = await read_metrics(gateway)
    assert float(lines["maxgate_cancel_duration_seconds_count"]) == 1
    assert least * 0.9 <= float(lines["maxgate_cancel_duration_seconds_sum"]) < least + 0.1


@pytest.mark.parametrize(("stream", "after"), [(True, 3), (True, 0), (False, 0)])
async def test_duration_over_https(*, stream: bool, after: int) -> None:
    """The time until a TLS connection to the engine is closed is measured, too."""
    engine = FakeMax(scripts=[Script(silent_after=after)])
    async with start_behind_tls(engine) as gateway:
        await disconnect(gateway, stream=stream, after=after)

        async def is_measured() -> bool:  # the engine may notice before httpx returns
            return "maxgate_cancel_duration_seconds_count" in await read_metrics(gateway)

        await until(is_measured)
        lines = await read_metrics(gateway)
    assert engine.aborted == 1
    assert float(lines["maxgate_cancel_duration_seconds_count"]) == 1
    assert 0 <= float(lines["maxgate_cancel_duration_seconds_sum"]) < 0.1


@pytest.mark.parametrize("start_any", [start, start_behind_tls])
async def test_complete_requests_are_not_measured(start_any: StartGateway) -> None:
    """A request that is complete, and a stream that ends at a stop string, are no cancellations."""
    async with start_any(FakeMax()) as gateway:
        await gateway.chat()
        await gateway.chat(stream=True)
        await gateway.chat(stream=True, stop=["of"])
        assert "maxgate_cancel_duration_seconds_count" not in await read_metrics(gateway)


async def test_many_disconnects(start_gateway: StartGateway) -> None:
    """No task and no request is left after many disconnects."""
    engine = FakeMax(scripts=[Script(silent_after=n % 4) for n in range(60)])

    async def most_requests_arrived() -> bool:
        return len(engine.requests) >= 40

    async with start_gateway(engine, upstream={"cancel_grace": 0.1}) as gateway:
        before = asyncio.all_tasks()

        async def all_tasks_ended() -> bool:
            return not asyncio.all_tasks() - before

        async with httpx.AsyncClient(base_url=gateway.url, verify=TLS) as client:
            tasks = [
                asyncio.create_task(
                    client.post("/v1/chat/completions", json={**BODY, "stream": n % 2 == 0})
                )
                for n in range(60)
            ]
            await until(most_requests_arrived)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        await engine.idle.wait()
        metrics = (await gateway.client.get("/metrics")).json()
        await until(all_tasks_ended)
    assert metrics["requests"]["in_flight"] == 0


async def test_disconnect_in_body(
    gateway: Gateway,
) -> None:
    """A disconnect before the end of the body causes no request to the engine."""
    _, writer = await connect(gateway.url)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n{")
    await writer.drain()
    writer.close()

    async def is_recorded() -> bool:
        metrics = (await gateway.client.get("/metrics")).json()
        return bool(metrics["requests"]["by_outcome"] == {"client_gone": 1})

    await until(is_recorded)
    assert gateway.engine.requests == []
