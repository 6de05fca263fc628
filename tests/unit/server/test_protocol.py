"""HTTP/1.1 connections below ASGI: limits, keep-alive and cleanup."""

import asyncio
import json
import weakref
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from maxgate.server.protocol import GatewayProtocol
from tests.fakes.garbage import without_collection
from tests.fakes.recorded_transport import RecordedTransport


async def never_respond(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.Event().wait()


async def respond_empty(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204})
    await send({"type": "http.response.body"})


async def wait_for_disconnect(scope: Any, receive: Any, send: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def receive(*reads: bytes) -> bytes:
    """Return what the protocol writes after these reads, before the application responds."""
    config = uvicorn.Config(never_respond, log_config=None, lifespan="off")
    config.load()
    state = ServerState()
    protocol = GatewayProtocol(config=config, server_state=state, app_state={})
    transport = RecordedTransport()
    protocol.connection_made(transport)
    for data in reads:
        if not transport.is_closing():
            protocol.data_received(data)
    protocol.connection_lost(None)
    for task in state.tasks:
        task.cancel()
    return b"".join(transport.written).removesuffix(b"closed")


POST = b"POST / HTTP/1.1\r\nhost: x\r\n"
CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "reads",
    [
        [b"GET /" + b"a" * 32_768 + b" HTTP/1.1\r\n\r\n"],
        [b"GET /", *[b"a" * 10_000] * 4],
        [POST + b"a: ", *[b"b" * 10_000] * 4],
        [POST, *[b"a: b\r\n" * 1_000] * 6],
        [POST, *[b"a: b\r\n" * 1_000] * 5, b"a: " + b"b" * 5_000 + b"\r\n\r\n"],
        [CHUNKED + b"2\r\n{}\r\n0\r\n", *[b"a: b\r\n" * 1_000] * 6],
        [CHUNKED + b"2;", *[b"a" * 10_000] * 4],
    ],
)
async def test_header_limits(reads: list[bytes]) -> None:
    """Request line, headers, trailers and chunk extensions are limited to 32 KiB."""
    head, _, body = (await receive(*reads)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert json.loads(body)["error"]["code"] == "headers_too_large"


@pytest.mark.parametrize(
    "reads",
    [
        [POST + b"content-length: 900000\r\n\r\n", *[b"a" * 100_000] * 9],
        [POST + b"content-length: 100000\r\n\r\n" + b"a" * 100_000 + POST, b"a: b\r\n"],
        [CHUNKED, *[b"2710\r\n" + b"a" * 10_000 + b"\r\n"] * 9],
        [POST[:20], POST[20:] + b"a: " + b"b" * 30_000 + b"\r\n\r\n"],
    ],
)
async def test_large_bodies(reads: list[bytes]) -> None:
    """Bodies do not count towards the header limit."""
    assert await receive(*reads) == b""


async def test_two_hosts() -> None:
    """A request with two Host headers gets 400."""
    head, _, body = (await receive(POST + b"host: y\r\n\r\n")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert json.loads(body)["error"] == {
        "message": "The Host header must name exactly one host.",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }


async def test_no_reference_cycles() -> None:
    """A lost connection is freed without garbage collection."""
    config = uvicorn.Config(wait_for_disconnect, log_config=None, lifespan="off")
    config.load()
    state = ServerState()
    protocol = GatewayProtocol(config=config, server_state=state, app_state={})
    protocol.connection_made(RecordedTransport())
    protocol.data_received(POST + b"content-length: 2\r\n\r\n{}")
    with without_collection():
        protocol.connection_lost(None)
        await asyncio.gather(*state.tasks)
        alive = weakref.ref(protocol)
        del protocol
        assert alive() is None


async def test_keep_alive_timeout() -> None:
    """A connection without a further request is closed after the keep-alive timeout."""
    config = uvicorn.Config(respond_empty, log_config=None, lifespan="off", timeout_keep_alive=0)
    config.load()
    state = ServerState()
    protocol = GatewayProtocol(config=config, server_state=state, app_state={})
    transport = RecordedTransport()
    protocol.connection_made(transport)
    protocol.data_received(b"GET / HTTP/1.1\r\n\r\n")
    await asyncio.gather(*state.tasks)
    await asyncio.wait_for(transport.closed.wait(), 1)
    protocol.connection_lost(None)
    assert transport.written[0].startswith(b"HTTP/1.1 204 No Content\r\n")
