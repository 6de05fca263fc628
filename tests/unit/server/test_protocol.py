"""Bytes of a connection, below ASGI."""

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


async def silent(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.Event().wait()


async def empty(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204})
    await send({"type": "http.response.body"})


async def patient(scope: Any, receive: Any, send: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def answered(*reads: bytes) -> bytes:
    """What is written when these have been read, by an application that says nothing."""
    config = uvicorn.Config(silent, log_config=None, lifespan="off")
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
async def test_what_is_no_body_is_bounded(reads: list[bytes]) -> None:
    head, _, body = (await answered(*reads)).partition(b"\r\n\r\n")
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
async def test_bodies_are_bounded_by_who_reads_them(reads: list[bytes]) -> None:
    assert await answered(*reads) == b""


async def test_several_hosts_are_refused() -> None:
    head, _, body = (await answered(POST + b"host: y\r\n\r\n")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert json.loads(body)["error"] == {
        "message": "The Host header must name exactly one host.",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }


async def test_a_lost_connection_is_not_left_to_garbage_collection() -> None:
    config = uvicorn.Config(patient, log_config=None, lifespan="off")
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


async def test_a_connection_on_which_nothing_comes_any_more_is_closed() -> None:
    config = uvicorn.Config(empty, log_config=None, lifespan="off", timeout_keep_alive=0)
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
