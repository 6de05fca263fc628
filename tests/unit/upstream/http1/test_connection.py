"""A connection delivers a response as it arrives and leaves nothing behind when it closes."""

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from maxgate.errors import UpstreamError, UpstreamTimeout
from maxgate.net.write_buffer import WriteBuffer
from maxgate.upstream.errors import EngineUnreachable
from maxgate.upstream.http1.connection import Connection, EngineResponse
from tests.fakes.garbage import without_collection
from tests.fakes.recorded_transport import RecordedTransport
from tests.fakes.timer_loop import FakeLoop

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


def send_request(
    loop: asyncio.AbstractEventLoop | None = None,
) -> tuple[Connection, asyncio.Future[EngineResponse]]:
    """Return a connection over a RecordedTransport, and the response to its first request."""
    connection = Connection(loop or asyncio.get_running_loop(), WriteBuffer(), lambda _: None)
    connection.connection_made(RecordedTransport())
    return connection, send(connection)


def send(connection: Connection) -> asyncio.Future[EngineResponse]:
    """Send a request with a head timeout of 9 s and a read timeout of 5 s."""
    return connection.send(b"GET / HTTP/1.1\r\n\r\n", head_timeout=9, read_timeout=5)


def lose(connection: Connection) -> None:
    connection.connection_lost(None)


def break_off(connection: Connection) -> None:
    connection.connection_lost(OSError("reset"))


def detach(connection: Connection) -> None:
    assert connection.detach() is not None


@pytest.mark.parametrize("received", [RESPONSE, b"", b"HTTP/1.1 200 OK\r\n"])
@pytest.mark.parametrize("end", [lose, break_off, detach])
async def test_no_reference_cycle(end: Callable[[Connection], None], received: bytes) -> None:
    """A connection that ends is freed without the garbage collector."""
    connection, _ = send_request()
    del _
    if received:
        connection.data_received(received)
    with without_collection():
        end(connection)
        alive = weakref.ref(connection)
        del connection
        assert alive() is None


async def test_response() -> None:
    """Status, headers and body of a response."""
    connection, head = send_request()
    connection.data_received(RESPONSE)
    response = await head
    assert (response.status, response.headers) == (200, [(b"content-length", b"2")])
    assert await response.read() == b"{}"
    assert connection.reusable


async def test_data_before_error() -> None:
    """Data that arrived before the connection was lost is delivered first."""
    connection, head = send_request()
    connection.data_received(HEAD + b"ab")
    connection.connection_lost(None)
    response = await head
    assert await anext(response) == b"ab"
    with pytest.raises(UpstreamError, match="cut off"):
        await anext(response)


@pytest.mark.parametrize("received", [b"", b"HTTP/1.1 200 OK\r\n", b"garbage\r\n\r\n"])
async def test_lost_before_head(received: bytes) -> None:
    """A connection that ends before the response head makes the engine unreachable."""
    connection, head = send_request()
    if received:
        connection.data_received(received)
    connection.connection_lost(None)
    with pytest.raises(EngineUnreachable) as caught:
        await head
    assert caught.value.failure == "disconnect"


@pytest.mark.parametrize(("seconds", "failure"), [(0.9, "stale"), (1.0, "disconnect")])
async def test_stale(seconds: float, failure: str) -> None:
    """A reused connection that is lost soon, before any byte arrived, is stale."""
    loop = FakeLoop()
    connection, head = send_request(loop)
    connection.data_received(RESPONSE)
    async with await head as response:
        await response.read()
    again = send(connection)
    loop.advance_to(seconds)
    connection.connection_lost(None)
    with pytest.raises(EngineUnreachable) as caught:
        await again
    assert caught.value.failure == failure


async def test_unread_pieces_are_joined() -> None:
    """Pieces that arrive while nothing is read are delivered as one."""
    connection, head = send_request()
    connection.data_received(HEAD + b"ab")
    response = await head
    connection.data_received(b"cd")
    assert await anext(response) == b"abcd"
    with pytest.raises(StopAsyncIteration):
        await anext(response)


async def test_is_waiting() -> None:
    """A response is waiting while a read waits for the engine, not while its reader is busy."""
    connection, head = send_request()
    connection.data_received(HEAD + b"a")
    response = await head
    await anext(response)
    assert not response.is_waiting
    piece = response.__anext__()
    assert response.is_waiting
    connection.data_received(b"b")
    assert not response.is_waiting
    await piece
    await response.aclose()
    assert not response.is_waiting


async def test_end_while_reading() -> None:
    """A read that waits at the end of the body is ended."""
    connection, head = send_request()
    connection.data_received(HEAD + b"abc")
    response = await head
    await anext(response)
    last = response.__anext__()
    connection.data_received(b"d")
    end = response.__anext__()
    assert await last == b"d"
    with pytest.raises(StopAsyncIteration):
        await end


async def test_read_timeout() -> None:
    """The read timeout runs only while something is read."""
    loop = FakeLoop()
    connection, head = send_request(loop)
    connection.data_received(HEAD)
    response = await head
    waiting: Any = response.__anext__()
    connection.data_received(b"ab")
    assert await waiting == b"ab"
    loop.advance_to(60)
    waiting = response.__anext__()
    loop.advance_to(64)
    assert not waiting.done()
    loop.advance_to(65)
    with pytest.raises(UpstreamTimeout):
        await waiting


async def test_head_timeout() -> None:
    """The response head must arrive within its own timeout."""
    loop = FakeLoop()
    _, head = send_request(loop)
    loop.advance_to(8)
    assert not head.done()
    loop.advance_to(9)
    with pytest.raises(UpstreamTimeout):
        await head


async def test_closed_response() -> None:
    """A closed response reads nothing more, and is closed once."""
    closed: list[int] = []
    connection, head = send_request()
    connection.data_received(HEAD + b"ab")
    response = await head
    response.on_close = lambda: closed.append(1)
    await response.aclose()
    await response.aclose()
    assert (await response.read(), closed, connection.closed) == (b"", [1], True)


async def test_cancelled_reader() -> None:
    """An error that a cancelled reader never sees is not logged."""
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
    connection, head = send_request()
    connection.connection_lost(None)
    del head
    gc.collect()
    assert reports == []
