"""Clients that ask for another protocol, close their sending side, or do not read."""

import asyncio
import socket
from typing import Any

import pytest

from tests.fakes.raw_client import connect, send_bytes
from tests.fakes.server import serving
from tests.fakes.waiting import until

# The JDK's HTTP client sends these with its first request.
H2C = (
    b"connection: Upgrade, HTTP2-Settings\r\nhttp2-settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAA\r\n"
    b"upgrade: h2c\r\n"
)
CLOSE = b"GET /last HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Respond with the path and the body of the request."""
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    content = f"{scope['method']} {scope['path']} {body.decode()};".encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": content})


@pytest.mark.parametrize(
    "request_",
    [
        b"POST /a HTTP/1.1\r\nhost: x\r\n" + H2C + b"content-length: 5\r\n\r\nhello",
        b"POST /a HTTP/1.1\r\nhost: x\r\n"
        + H2C
        + b"transfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\nt: v\r\n\r\n",
        b"POST /a HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        b"content-length: 5\r\n\r\nhello",
    ],
)
@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_upgrade(request_: bytes, size: int) -> None:
    """An upgrade is ignored, however the requests are cut into reads and pipelined."""
    content = 3 * request_ + CLOSE
    async with serving(echo) as url:
        reader, writer = await connect(url)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(content), size):
            writer.write(content[start : start + size])
            await asyncio.sleep(0)
        received = await reader.read()
        writer.close()
    assert [line for line in received.split(b"\r\n") if line.endswith(b";")] == [
        *[b"POST /a hello;"] * 3,
        b"GET /last ;",
    ]


async def test_many_upgrades() -> None:
    """Many requests for an upgrade in one read are all served."""
    upgrade = b"GET / HTTP/1.1\r\nhost: x\r\n" + H2C + b"\r\n"
    async with serving(echo) as url:
        head, body = await send_bytes(url, 300 * upgrade + CLOSE)
    assert (head[:15], body.count(b"GET / ;")) == (b"HTTP/1.1 200 OK", 300)


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_half_close(version: bytes) -> None:
    """A client that has closed its sending side gets its response, then the connection ends."""
    release = asyncio.Event()

    async def respond_late(scope: Any, receive: Any, send: Any) -> None:
        await (release.wait() if scope["type"] == "http" else asyncio.sleep(0))
        await echo(scope, receive, send)

    async with serving(respond_late) as url:
        reader, writer = await connect(url)
        writer.write(b"POST /a HTTP/%b\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello" % version)
        writer.write_eof()
        if version == b"1.1":
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        release.set()
        received = await reader.read()
        writer.close()
    assert (received[:15], b"POST /a hello;" in received) == (b"HTTP/1.1 200 OK", True)


async def test_half_closed_stream() -> None:
    """A half-closed client reads a comment in its stream of events, and then the rest."""
    started, release = asyncio.Event(), asyncio.Event()

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        started.set()
        await release.wait()
        await send({"type": "http.response.body", "body": b"data: 2\n\n"})

    async with serving(stream) as url:
        reader, writer = await connect(url)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await started.wait()
        writer.write_eof()
        before = await reader.readuntil(b":\n\n\r\n")
        release.set()
        after = await reader.read()
        writer.close()
    assert before.endswith(b"\r\n\r\n9\r\ndata: 1\n\n\r\n3\r\n:\n\n\r\n")
    assert after == b"9\r\ndata: 2\n\n\r\n0\r\n\r\n"


@pytest.mark.parametrize("size", [200_000_000, 1_500_000])
async def test_client_that_does_not_read(size: int) -> None:
    """A client that does not read is disconnected after the write timeout, at the end as well."""
    connections: set[Any] = set()

    async def respond(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        connections.add(scope["extensions"]["maxgate.connection"])
        headers = [(b"content-length", b"%d" % size), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(100):
            body = bytes(size // 100)
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def is_disconnected() -> bool:
        return all(connection.scope is None for connection in connections)

    async with serving(respond, write_timeout=0.05) as url:
        reader = socket.socket()
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.setblocking(False)
        host, _, port = url.removeprefix("http://").partition(":")
        loop = asyncio.get_running_loop()
        await loop.sock_connect(reader, (host, int(port)))
        await loop.sock_sendall(reader, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await loop.sock_recv(reader, 15)) == b"HTTP/1.1 200 OK"
        await until(is_disconnected)
        reader.close()
    assert len(connections) == 1
