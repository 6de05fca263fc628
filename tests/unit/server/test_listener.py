"""A listener keeps clients waiting rather than closing their connections."""

import asyncio
import errno
import os
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs
from typing_extensions import override

from maxgate.server.listener import DescriptorReserve, Listener
from maxgate.server.protocol import listening_socket

PLENTY = DescriptorReserve(float("inf"), float("inf"))
HOST = "127.0.0.1"


class Greeting(asyncio.Protocol):
    """Sends whether it was told to refuse, and closes the connection."""

    def __init__(self) -> None:
        self._word = b"welcome"

    def refuse_request(self) -> None:
        """Refuse."""
        self._word = b"refused"

    @override
    def connection_made(self, transport: Any) -> None:
        transport.write(self._word)
        transport.close()


class FullListening:
    """A listening socket whose `accept` fails a few times."""

    def __init__(self, inner: socket.socket, *failures: int) -> None:
        self._inner = inner
        self._failures = list(failures)

    def accept(self) -> Any:
        """Fail, or accept a connection."""
        if self._failures:
            number = self._failures.pop()
            raise OSError(number, os.strerror(number))
        return self._inner.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@asynccontextmanager
async def listen(reserve: DescriptorReserve, *failures: int) -> AsyncIterator[int]:
    """Run a listener and yield its port."""
    listening: Any = FullListening(listening_socket(HOST, 0), *failures)
    listener = Listener(listening, Greeting, reserve)  # type: ignore[arg-type]  # as much as it needs
    try:
        yield listening.getsockname()[1]
    finally:
        listener.close()
        listener.close()


async def greet(port: int) -> bytes:
    """Connect and read until the connection is closed."""
    reader, writer = await asyncio.open_connection(HOST, port)
    word = await reader.read()
    writer.close()
    return word


@pytest.mark.parametrize(
    ("reserve", "word"),
    [
        (PLENTY, b"welcome"),
        (DescriptorReserve(0, float("inf")), b"refused"),
        (DescriptorReserve(0, 0), b"refused"),
    ],
)
async def test_reserve(reserve: DescriptorReserve, word: bytes) -> None:
    """Every connection is accepted; one that takes a reserved descriptor is told to refuse."""
    async with listen(reserve) as port:
        assert await asyncio.gather(*(greet(port) for _ in range(10))) == [word] * 10


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EPERM])
async def test_failing_accept(number: int) -> None:
    """A client waits while its connection cannot be accepted, and the cause is logged."""
    with capture_logs() as logs:
        async with listen(PLENTY, number, errno.EAGAIN, errno.ECONNABORTED) as port:
            assert await greet(port) == b"welcome"
    assert all(log["log_level"] == "warning" for log in logs)


async def test_close() -> None:
    """After close, connections are refused."""
    async with listen(PLENTY) as port:
        assert await greet(port) == b"welcome"
    with pytest.raises(ConnectionRefusedError):
        await greet(port)


def test_choice() -> None:
    """A quarter of the limit is reserved, at most 256 descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    chosen = []
    for limit in (400, 2000):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        chosen.append(DescriptorReserve.choose())
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert chosen == [(300, 350), (1744, 1872)]
