"""A connection to an engine: what it hands over and when, and that it goes when it is closed."""

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from maxgate.net.write_buffer import WriteBuffer
from maxgate.upstream.http1.connection import Connection
from tests.fakes.garbage import without_collection
from tests.fakes.recorded_transport import RecordedTransport
from tests.fakes.timer_loop import FakeLoop

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


def is_lost(connection: Connection) -> None:
    connection.connection_lost(None)


def breaks(connection: Connection) -> None:
    connection.connection_lost(OSError("reset"))


def is_abandoned(connection: Connection) -> None:
    now = asyncio.get_running_loop().time()
    connection.abandon(now + 60, lambda _: None).connection_lost(None)


@pytest.mark.parametrize("answer", [ANSWER, b"", b"HTTP/1.1 200 OK\r\n"])
@pytest.mark.parametrize("end", [is_lost, breaks, is_abandoned])
async def test_one_that_ends_leaves_nothing(
    end: Callable[[Connection], None], answer: bytes
) -> None:
    connection = Connection(asyncio.get_running_loop(), WriteBuffer())
    connection.connection_made(RecordedTransport())
    connection.send(b"GET / HTTP/1.1\r\n\r\n")
    if answer:
        connection.data_received(answer)
    with without_collection():
        end(connection)
        alive = weakref.ref(connection)
        del connection
        assert alive() is None


def asked(loop: asyncio.AbstractEventLoop | None = None) -> Connection:
    connection = Connection(loop or asyncio.get_running_loop(), WriteBuffer())
    connection.connection_made(RecordedTransport())
    connection.send(b"GET / HTTP/1.1\r\n\r\n")
    return connection


async def test_what_came_before_an_error_is_handed_over_first() -> None:
    connection = asked()
    connection.data_received(HEAD + b"ab")
    connection.connection_lost(None)
    assert (await connection.head(None)).status == 200
    assert await connection.body(None) == b"ab"
    with pytest.raises(httpx.ReadError):
        await connection.body(None)


async def test_pieces_that_nobody_waited_for_are_one() -> None:
    connection = asked()
    connection.data_received(HEAD + b"ab")
    connection.data_received(b"cd")
    assert await connection.body(None) == b"abcd"
    with pytest.raises(StopAsyncIteration):
        await connection.body(None)


async def test_whoever_waits_for_the_end_is_told() -> None:
    connection = asked()
    connection.data_received(HEAD + b"abc")
    await connection.body(None)
    last = connection.body(None)
    connection.data_received(b"d")
    end = connection.body(None)
    assert await last == b"d"
    with pytest.raises(StopAsyncIteration):
        await end


async def test_an_engine_may_be_silent_while_nobody_waits() -> None:
    loop = FakeLoop()
    connection = asked(loop)
    connection.data_received(HEAD)
    waiting = connection.body(5)
    connection.data_received(b"ab")
    assert await waiting == b"ab"
    loop.go_to(60)
    waiting = connection.body(5)
    loop.go_to(64)
    assert not waiting.done()
    loop.go_to(65)
    with pytest.raises(httpx.ReadTimeout):
        await waiting


async def test_an_error_that_a_cancelled_reader_does_not_see_is_not_logged() -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, one: complaints.append(one))
    connection = asked()
    reading = connection.head(None)
    connection.connection_lost(None)
    del reading
    gc.collect()
    assert complaints == []
