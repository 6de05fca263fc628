"""The transport pools connections, and keeps those of cancelled requests until MAX notices."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from maxgate.errors import UpstreamOverloaded
from maxgate.upstream.errors import EngineUnreachable
from maxgate.upstream.http1.messages import EngineRequest, resolve_route
from maxgate.upstream.http1.transport import EngineTransport
from maxgate.upstream.settings import UpstreamSettings
from tests.fakes.max_server import FakeMax, Script
from tests.fakes.raw_server import RawServer, serving_bytes
from tests.fakes.server import serving

SILENT = Script(silent_after=0)
CLOSE = b""
EMPTY = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


async def send(transport: EngineTransport, url: str) -> int:
    """Send a request and return the status of its response, read to the end."""
    body = b'{"model":"m","prompt":[1],"stream":true}'
    request = EngineRequest(resolve_route(url, "/v1/completions"), body, 5, 5, 5)
    async with await transport.send(request) as response:
        await response.read()
        return response.status


async def test_connections_are_reused() -> None:
    """Requests one after the other share a connection."""
    server = RawServer([EMPTY] * 3, keep_alive=True)
    async with serving_bytes(server) as url, aclosing(EngineTransport(UpstreamSettings())) as one:
        assert [await send(one, url) for _ in range(3)] == [200] * 3
    assert (server.connections, server.requests) == (1, 3)


async def test_stale_connection() -> None:
    """A stale connection closes the other idle ones, and is not retried here."""
    server = RawServer([EMPTY, EMPTY, CLOSE, EMPTY], keep_alive=True)
    async with serving_bytes(server) as url, aclosing(EngineTransport(UpstreamSettings())) as one:
        await asyncio.gather(send(one, url), send(one, url))
        with pytest.raises(EngineUnreachable) as caught:
            await send(one, url)
        assert caught.value.failure == "stale"
        assert await send(one, url) == 200
    assert (server.connections, server.requests) == (3, 4)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "https://127.0.0.1:9"])
async def test_refused(url: str) -> None:
    """A port without a server refuses the connection, over HTTP and HTTPS."""
    async with aclosing(EngineTransport(UpstreamSettings())) as transport:
        with pytest.raises(EngineUnreachable) as caught:
            await send(transport, url)
    assert caught.value.failure == "refused"


@asynccontextmanager
async def cancelled_request(
    engine: FakeMax, **settings: float
) -> AsyncIterator[tuple[EngineTransport, str]]:
    """Yield a transport, and the engine's URL, whose first request was cancelled."""
    transport = EngineTransport(UpstreamSettings.model_validate(settings))
    async with serving(engine) as url, aclosing(transport):
        sending = asyncio.create_task(send(transport, url))
        await engine.arrived.wait()
        sending.cancel()
        await asyncio.wait([sending])
        yield transport, url


async def test_lingers_for_cancel_grace() -> None:
    """The connection stays open until MAX has had time to read the request."""
    engine = FakeMax(scripts=[SILENT])
    began = asyncio.get_running_loop().time()
    async with cancelled_request(engine, cancel_grace=0.2):
        assert engine.running == 1
        await engine.idle.wait()
    assert engine.aborted == 1
    assert 0.2 <= asyncio.get_running_loop().time() - began < 0.3


async def test_no_cancel_grace() -> None:
    """Once the grace period is over, a cancelled request's connection closes immediately."""
    engine = FakeMax(scripts=[SILENT])
    async with cancelled_request(engine, cancel_grace=0):
        await asyncio.wait_for(engine.idle.wait(), 0.1)
    assert engine.aborted == 1


async def test_lingers_until_first_byte() -> None:
    """A lingering connection closes when MAX begins to respond."""
    first_token = asyncio.Event()
    engine = FakeMax(scripts=[Script(silent_after=1, begins=first_token)])
    async with cancelled_request(engine, cancel_grace=60):
        first_token.set()
        await engine.idle.wait()
    assert engine.aborted == 1


async def test_lingering_counts_as_open() -> None:
    """A lingering connection counts towards `max_connections`."""
    engine = FakeMax(scripts=[SILENT])
    async with cancelled_request(engine, cancel_grace=0.1, max_connections=1) as (transport, url):
        with pytest.raises(UpstreamOverloaded):
            await send(transport, url)
        await engine.idle.wait()
        assert await send(transport, url) == 200


async def test_lingering_ends_with_transport() -> None:
    """Closing the transport closes lingering connections."""
    engine = FakeMax(scripts=[SILENT])
    async with cancelled_request(engine, cancel_grace=60) as (transport, _):
        await transport.aclose()
        await engine.idle.wait()
    assert engine.aborted == 1
