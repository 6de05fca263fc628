"""A connection to an engine goes when it is closed, and not when garbage collection finds it."""

import asyncio
import weakref
from collections.abc import Callable

import pytest

from maxgate.upstream.connection import Connection
from maxgate.writes import TurnWrites
from tests.fakes.garbage import without_collection
from tests.fakes.recorded_transport import RecordedTransport

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
    connection = Connection(asyncio.get_running_loop(), TurnWrites())
    connection.connection_made(RecordedTransport())
    connection.send(b"GET / HTTP/1.1\r\n\r\n")
    if answer:
        connection.data_received(answer)
    with without_collection():
        end(connection)
        alive = weakref.ref(connection)
        del connection
        assert alive() is None
