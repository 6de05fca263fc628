"""Connections that nobody has accepted when the gateway ends."""

import asyncio
import errno
import select
import socket
import sys

import pytest

from maxgate.server.backlog import BacklogRefuser
from maxgate.server.protocol import listening_socket

REQUEST = b"POST / HTTP/1.1\r\nhost: a\r\n\r\n"


async def test_waiting_connections() -> None:
    """Each gets a 503 that may be retried, and the end of its connection."""
    listener = listening_socket("127.0.0.1", 0)
    clients = [await asyncio.open_connection(*listener.getsockname()) for _ in range(3)]
    for _, writer in clients:
        writer.write(REQUEST + b"x" * 200_000)
    await asyncio.to_thread(BacklogRefuser(listener).close)
    for reader, writer in clients:
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert head == (
            b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n"
            b"retry-after: 5\r\nretry-after-ms: 5000\r\nx-should-retry: true\r\n"
            b"content-length: 137\r\nconnection: close"
        )
        assert b'"code":"server_shutting_down"' in body
        writer.close()


@pytest.mark.skipif(sys.platform != "linux", reason="needs a socket filter")
def test_late_connections() -> None:
    """Clients that connect while the socket is closed are refused, never reset."""
    listener = listening_socket("127.0.0.1", 0)
    address = listener.getsockname()
    refuser = BacklogRefuser(listener)
    with socket.socket() as client:
        client.setblocking(False)
        refuser.stop_connections()
        assert client.connect_ex(address) == errno.EINPROGRESS
        refuser.close()
        select.select([], [client], [], 5)
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
