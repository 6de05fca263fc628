"""The end of a response is held until its line of usage is durable."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from maxgate.api.connection import EXTENSION
from maxgate.server.control import ServingState
from maxgate.server.protocol import GatewayProtocol
from maxgate.server.shutdown import GatewayServer
from tests.fakes.raw_client import connect
from tests.fakes.recorded_transport import RecordedTransport
from tests.fakes.server import serving
from tests.fakes.waiting import until_holds

GET = b"GET /%b HTTP/1.1\r\nhost: x\r\n\r\n"


class Application:
    """Responds with the path, and holds the responses to all paths but `/free`."""

    def __init__(self) -> None:
        self.releases: list[Callable[[], None]] = []
        self.served: list[str] = []
        self.refused = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = f"{scope['path']};".encode()
        if scope["path"] != "/free":
            release = scope["extensions"][EXTENSION].hold_writes()
            if release is None:
                self.refused += 1
            else:
                self.releases.append(release)
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        self.served.append(scope["path"])

    def release(self) -> None:
        """Release all responses, as the spool does."""
        for release in self.releases:
            release()
        self.releases.clear()


@asynccontextmanager
async def connected(
    application: Application, **options: Any
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Serve the application, and connect a client."""
    async with serving(application, **options) as url:
        reader, writer = await connect(url)
        try:
            yield reader, writer
        finally:
            application.release()
            writer.close()


def build_config(application: Application) -> uvicorn.Config:
    """Return the configuration of a server."""
    config = uvicorn.Config(application, log_config=None, lifespan="off")
    config.load()
    return config


@asynccontextmanager
async def received(
    application: Application, request: bytes, state: ServerState | None = None
) -> AsyncIterator[tuple[GatewayProtocol, RecordedTransport]]:
    """Let the application respond to a request on a connection without a socket."""
    state = state or ServerState()
    protocol = GatewayProtocol(config=build_config(application), server_state=state, app_state={})
    transport = RecordedTransport()
    protocol.connection_made(transport)
    protocol.data_received(request)
    await asyncio.gather(*state.tasks)
    yield protocol, transport
    protocol.connection_lost(None)


async def read_now(reader: asyncio.StreamReader) -> bytes:
    """Return what a response that is not held would have brought by now."""
    await asyncio.sleep(0)
    return bytes(reader._buffer)  # type: ignore[attr-defined]


async def test_keep_alive() -> None:
    """Nothing leaves before the release; then all does, and the connection goes on."""
    application = Application()
    async with connected(application) as (reader, writer):
        for path in (b"a", b"b"):
            writer.write(GET % path)
            await until_holds(lambda: len(application.releases) == 1)
            assert await read_now(reader) == b""
            application.release()
            assert (await reader.readuntil(b";")).endswith(b"\r\n\r\n/%b;" % path)
    assert application.served == ["/a", "/b"]


async def test_pipeline() -> None:
    """A pipelined response waits for the one before it, and cannot be held as well."""
    application = Application()
    async with connected(application) as (reader, writer):
        writer.write(GET % b"a" + GET % b"free" + GET % b"b")
        await until_holds(lambda: len(application.served) == 3)
        assert (await read_now(reader), application.refused) == (b"", 1)
        application.release()
        responses = [await reader.readuntil(b";") for _ in range(3)]
    bodies = [response.partition(b"\r\n\r\n")[2] for response in responses]
    assert bodies == [b"/a;", b"/free;", b"/b;"]


@pytest.mark.parametrize(
    "last", [b"GET /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", b"GET /a HTTP/1.0\r\n\r\n"]
)
async def test_close(last: bytes) -> None:
    """A connection that ends with the response is closed after the release; no request follows."""
    application = Application()
    async with received(application, last) as (protocol, transport):
        protocol.data_received(GET % b"free")
        protocol.data_received(b"no HTTP\r\n\r\n")
        assert (transport.written, protocol.transport.is_closing()) == ([], True)
        application.release()
        [response, closed] = transport.written
    assert (response[-7:], closed) == (b"\r\n\r\n/a;", b"closed")
    assert application.served == ["/a"]


@pytest.mark.parametrize("rest", [b"", b"GET /b HT"])
async def test_half_close(rest: bytes) -> None:
    """A client that closes its sending side while its response is held gets all of it."""
    application = Application()
    async with connected(application) as (reader, writer):
        writer.write(GET % b"a" + rest)
        await until_holds(lambda: application.served == ["/a"])
        writer.write_eof()
        assert await read_now(reader) == b""
        application.release()
        assert (await reader.read()).endswith(b"\r\n\r\n/a;")


async def test_idle_timeout() -> None:
    """A connection is not closed for being idle before its response has left."""
    application = Application()
    async with connected(application, timeout_keep_alive=0) as (reader, writer):
        writer.write(GET % b"a")
        await until_holds(lambda: application.served == ["/a"])
        await asyncio.sleep(0)  # the timer fires
        application.release()
        assert (await reader.read()).endswith(b"\r\n\r\n/a;")


async def test_lost_connection() -> None:
    """The response of a client that is gone is dropped; releasing it does nothing."""
    application = Application()
    async with received(application, GET % b"a") as (_, transport):
        transport.abort()
    application.release()
    await asyncio.sleep(0)
    assert transport.written == [b"closed"]


async def test_end_of_file() -> None:
    """The end of file right after the release loses nothing that is about to leave."""
    application = Application()
    async with received(application, GET % b"a") as (protocol, transport):
        application.release()
        assert not protocol.eof_received()
        [response, closed] = transport.written
    assert (response[-7:], closed) == (b"\r\n\r\n/a;", b"closed")


async def test_shutdown() -> None:
    """A gateway that is told to stop at once lets held responses leave."""
    application = Application()
    control, parent = socket.socketpair()
    with control, parent:
        config = build_config(application)
        server = GatewayServer(config, control, ServingState())
        server.lifespan = config.lifespan_class(config)
        server.force_exit = True
        async with received(application, GET % b"a", server.server_state) as (_, transport):
            stopping = asyncio.create_task(server.shutdown())
            await asyncio.sleep(0)
            assert transport.written == []
            application.release()
            await stopping
    [response, closed] = transport.written
    assert (response[-7:], closed) == (b"\r\n\r\n/a;", b"closed")
