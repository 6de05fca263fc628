"""An answer on the wire: its framing is right, whatever it is made of."""

import asyncio
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from maxgate.server.protocol import GatewayProtocol, _parse_target
from tests.fakes.recorded_transport import RecordedTransport

JSON = (b"content-type", b"application/json")


async def answered(
    status: int,
    headers: list[tuple[bytes, bytes]],
    *bodies: bytes,
    asked: bytes = b"GET / HTTP/1.1",
) -> tuple[list[bytes], BaseException | None]:
    """What is written for this answer until the connection is lost, and what was raised."""
    raised: list[BaseException] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await send({"type": "http.response.start", "status": status, "headers": headers})
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
    protocol.data_received(asked + b"\r\n\r\n")
    await asyncio.gather(*state.tasks)
    protocol.connection_lost(None)
    return transport.written, raised[0] if raised else None


async def test_a_body_of_known_length_is_one_write_with_its_head() -> None:
    written, _ = await answered(200, [JSON, (b"content-length", b"2")], b"{}")
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n"
    assert written == [head + b"{}", b"closed"]


async def test_a_body_of_unknown_length_is_chunked() -> None:
    written, _ = await answered(200, [JSON], b"ab", b"", b"c", b"")
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    assert written == [head + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", b"closed"]


@pytest.mark.parametrize(
    ("status", "asked", "head"),
    [
        (204, b"GET / HTTP/1.1", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (200, b"HEAD / HTTP/1.1", b"HTTP/1.1 200 OK\r\n\r\n"),
    ],
)
async def test_some_answers_have_no_body(status: int, asked: bytes, head: bytes) -> None:
    assert await answered(status, [], b"", asked=asked) == ([head, b"closed"], None)


async def test_an_old_client_is_told_that_the_connection_closes() -> None:
    written, _ = await answered(200, [(b"content-length", b"0")], b"", asked=b"GET / HTTP/1.0")
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    assert written[:2] == [head, b"closed"]


async def test_a_head_answer_may_say_how_long_the_body_would_be() -> None:
    written, raised = await answered(
        200, [(b"content-length", b"9")], b"", asked=b"HEAD / HTTP/1.1"
    )
    assert (written[0], raised) == (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", None)


@pytest.mark.parametrize("bodies", [(b"abc",), (b"a",), (b"ab", b"c")])
async def test_a_body_that_is_not_as_long_as_said_is_an_error(bodies: tuple[bytes, ...]) -> None:
    _, raised = await answered(200, [(b"content-length", b"2")], *bodies)
    assert isinstance(raised, RuntimeError)


async def test_an_answer_that_asks_for_it_closes_the_connection() -> None:
    headers = [(b"content-length", b"0"), (b"connection", b"close")]
    written, _ = await answered(503, headers, b"")
    head = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    assert written[:2] == [head, b"closed"]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/v1/models?a=b", ("/v1/models", b"/v1/models", b"a=b")),
        (b"/v1/models/a%2Fb%20c", ("/v1/models/a/b c", b"/v1/models/a%2Fb%20c", b"")),
        (b"http://host/health", ("/health", b"/health", b"")),
    ],
)
def test_a_target_is_a_path_and_a_query(target: bytes, expected: tuple[str, bytes, bytes]) -> None:
    assert _parse_target(target) == expected
