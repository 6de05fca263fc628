"""Responses are framed correctly, with known length, in chunks or without a body."""

import asyncio
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from maxgate.api.connection import HEADER_LINES
from maxgate.server.protocol import GatewayProtocol, _parse_target
from tests.fakes.recorded_transport import RecordedTransport

JSON = (b"content-type", b"application/json")


async def respond(
    status: int,
    headers: list[tuple[bytes, bytes]],
    *bodies: bytes,
    request_line: bytes = b"GET / HTTP/1.1",
    lines: bytes = b"",
) -> tuple[list[bytes], BaseException | None]:
    """Return the writes of this response until the connection is lost, and the exception raised."""
    raised: list[BaseException] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            start = {"type": "http.response.start", "status": status, "headers": headers}
            await send(start | ({HEADER_LINES: lines} if lines else {}))
            for left, body in zip(range(len(bodies) - 1, -1, -1), bodies, strict=True):
                await send({"type": "http.response.body", "body": body, "more_body": left > 0})
        except RuntimeError as error:
            raised.append(error)

    config = uvicorn.Config(app, log_config=None, lifespan="off")
    config.load()
    state = ServerState()
    protocol = GatewayProtocol(config=config, server_state=state, app_state={})
    transport = RecordedTransport()
    protocol.connection_made(transport)
    protocol.data_received(request_line + b"\r\n\r\n")
    await asyncio.gather(*state.tasks)
    protocol.connection_lost(None)
    return transport.written, raised[0] if raised else None


async def test_known_length() -> None:
    """Head and body are one write if the length is known."""
    written, _ = await respond(200, [JSON, (b"content-length", b"2")], b"{}")
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n"
    assert written == [head + b"{}", b"closed"]


async def test_unknown_length() -> None:
    """A body of unknown length is chunked, without empty chunks."""
    written, _ = await respond(200, [JSON], b"ab", b"", b"c", b"")
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    assert written == [head + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", b"closed"]


@pytest.mark.parametrize(
    ("status", "request_line", "head"),
    [
        (204, b"GET / HTTP/1.1", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (200, b"HEAD / HTTP/1.1", b"HTTP/1.1 200 OK\r\n\r\n"),
    ],
)
async def test_no_body(status: int, request_line: bytes, head: bytes) -> None:
    """204 and HEAD responses end with their head."""
    assert await respond(status, [], b"", request_line=request_line) == ([head, b"closed"], None)


async def test_http_1_0() -> None:
    """The connection is closed after a response to HTTP/1.0."""
    written, _ = await respond(
        200, [(b"content-length", b"0")], b"", request_line=b"GET / HTTP/1.0"
    )
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    assert written[:2] == [head, b"closed"]


async def test_http_1_0_unknown_length() -> None:
    """HTTP/1.0 has no chunks: closing the connection ends a body of unknown length."""
    written, raised = await respond(
        200, [JSON], b"ab", b"", b"c", b"", request_line=b"GET / HTTP/1.0"
    )
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n"
    assert (written[:2], raised) == ([head + b"abc", b"closed"], None)


async def test_head_content_length() -> None:
    """A HEAD response keeps the Content-Length of the body it leaves out."""
    written, raised = await respond(
        200, [(b"content-length", b"9")], b"", request_line=b"HEAD / HTTP/1.1"
    )
    assert (written[0], raised) == (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", None)


async def test_head_in_pieces() -> None:
    """The head of a HEAD response is sent once, however many body messages follow."""
    written, raised = await respond(
        200, [(b"content-length", b"9")], b"", b"", b"", request_line=b"HEAD / HTTP/1.1"
    )
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"
    assert (written, raised) == ([head, b"closed"], None)


@pytest.mark.parametrize("bodies", [(b"abc",), (b"a",), (b"ab", b"c")])
async def test_wrong_length(bodies: tuple[bytes, ...]) -> None:
    """A body shorter or longer than its Content-Length raises RuntimeError."""
    _, raised = await respond(200, [(b"content-length", b"2")], *bodies)
    assert isinstance(raised, RuntimeError)


async def test_connection_close() -> None:
    """`Connection: close` in the response closes the connection."""
    headers = [(b"content-length", b"0"), (b"connection", b"close")]
    written, _ = await respond(503, headers, b"")
    head = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    assert written[:2] == [head, b"closed"]


async def test_names_of_framing() -> None:
    """Headers whose names or values contain `content-length` or `connection` frame nothing."""
    headers = [
        (b"x-content-length", b"9"),
        (b"x-connection", b"close"),
        (b"x", b"content-length: 9"),
    ]
    written, raised = await respond(200, headers, b"a")
    lines = b"x-content-length: 9\r\nx-connection: close\r\nx: content-length: 9\r\n"
    head = b"HTTP/1.1 200 OK\r\n" + lines + b"transfer-encoding: chunked\r\n\r\n"
    assert (written, raised) == ([head + b"1\r\na\r\n0\r\n\r\n", b"closed"], None)


async def test_header_lines() -> None:
    """Lines that the application has encoded follow the status, before the other headers."""
    lines = b"content-length: 2\r\nx-a: 1\r\n"
    written, _ = await respond(200, [JSON], b"{}", lines=lines)
    head = b"HTTP/1.1 200 OK\r\n%bcontent-type: application/json\r\n\r\n" % lines
    assert written == [head + b"{}", b"closed"]


async def test_line_break() -> None:
    """A header with a line break raises RuntimeError, and nothing is written."""
    for header in [(b"x", b"a\r\ncontent-length: 0"), (b"x\nconnection", b"close")]:
        written, raised = await respond(200, [header], b"")
        assert isinstance(raised, RuntimeError)
        assert not any(part.startswith(b"HTTP") for part in written)


@pytest.mark.parametrize(
    ("target", "parsed"),
    [
        (b"/v1/models?a=b", ("/v1/models", b"/v1/models", b"a=b")),
        (b"/v1/models/a%2Fb%20c", ("/v1/models/a/b c", b"/v1/models/a%2Fb%20c", b"")),
        (b"http://host/health", ("/health", b"/health", b"")),
    ],
)
def test_parse_target(target: bytes, parsed: tuple[str, bytes, bytes]) -> None:
    """A target is split into decoded path, raw path and query."""
    assert _parse_target(target) == parsed
