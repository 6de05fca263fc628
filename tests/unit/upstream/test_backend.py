"""Responses of an engine become chunks or errors, and every connection is released."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest
import respx
from structlog.testing import capture_logs

from maxgate.errors import (
    GatewayError,
    InvalidRequest,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from maxgate.generation.chunk import Chunk, Usage
from maxgate.generation.context import MAX_RETRIES
from maxgate.generation.errors import ContextLengthExceeded
from maxgate.generation.request import GenerationRequest, TokenIds
from maxgate.upstream.backend import UpstreamBackend
from maxgate.upstream.client import HttpxEngineClient
from maxgate.upstream.http1.transport import EngineTransport
from maxgate.upstream.pool import ReplicaPool
from maxgate.upstream.replica import EngineModel, Replica
from maxgate.upstream.settings import ContinuationSettings, FailoverSettings, UpstreamSettings
from tests.fakes.max_server import OUTPUT_TOKENS, FakeMax, Script
from tests.fakes.raw_server import RawServer, serving_bytes
from tests.fakes.requests import generation_request
from tests.fakes.server import serving

PROMPT = TokenIds.of([1, 2, 3])
ENGINE = "http://engine:8080"
NO_CONTINUATION = FailoverSettings(continuation=ContinuationSettings(attempts=0))
ROUTE = ENGINE + "/v1/completions"


def create_replica(url: str = ENGINE) -> Replica:
    """Return a healthy replica."""
    replica = Replica(url)
    replica.mark_healthy({"small-on-max": EngineModel("small-on-max", 1, 100)})
    return replica


@asynccontextmanager
async def serve_backend(
    engine: Any, settings: UpstreamSettings | None = None
) -> AsyncIterator[tuple[UpstreamBackend, Replica]]:
    """Serve an ASGI engine; yield a backend over real connections to it, and its replica."""
    settings = settings or UpstreamSettings()
    async with serving(engine) as url, aclosing(EngineTransport(settings)) as transport:
        replica = create_replica(url)
        yield UpstreamBackend(ReplicaPool([replica], transport, settings, NO_CONTINUATION)), replica


def create_mock_backend(router: respx.Router) -> UpstreamBackend:
    """Return a backend whose engine is respx, through httpx."""
    client = HttpxEngineClient(httpx.MockTransport(router.async_handler))
    return UpstreamBackend(ReplicaPool([create_replica()], client, UpstreamSettings()))


async def run(backend: UpstreamBackend, request: GenerationRequest) -> list[Chunk]:
    """Return all chunks; `has_more` depends on the network and is cleared."""
    async with aclosing(backend.stream(request)) as chunks:
        return [replace(chunk, has_more=False) async for chunk in chunks]


def request(*, stream: bool = True, stop: tuple[str, ...] = ()) -> GenerationRequest:
    """Return a request with a prompt of three tokens."""
    return generation_request(prompt=PROMPT, stream=stream, stop=stop)


async def test_plain_response() -> None:
    """A response that is not streamed is one chunk."""
    async with serve_backend(FakeMax()) as (backend, _):
        assert await run(backend, request(stream=False)) == [
            Chunk("".join(OUTPUT_TOKENS), "stop", Usage(37, 8, 5))
        ]


async def test_httpx_request() -> None:
    """Through httpx an engine gets the same headers, without httpx's own."""
    router = respx.Router()
    route = router.post(ROUTE).respond(
        200,
        json={
            "choices": [{"text": "Paris", "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2},
        },
    )
    assert await run(create_mock_backend(router), request(stream=False)) == [
        Chunk("Paris", "stop", Usage(3, 2))
    ]
    sent = route.calls.last.request
    assert sent.headers == {
        "host": "engine:8080",
        "content-type": "application/json",
        "content-length": str(len(sent.content)),
        "x-request-id": "req_1",
    }


async def test_stream() -> None:
    """A stream yields one chunk per event; the first one has the usage so far."""
    async with serve_backend(FakeMax()) as (backend, _):
        assert await run(backend, request()) == [
            Chunk("The", usage=Usage(3, 1)),
            *(Chunk(token) for token in OUTPUT_TOKENS[1:-1]),
            Chunk(".", "stop"),
            Chunk(usage=Usage(37, 8, 5)),
        ]


async def test_usage_not_reported() -> None:
    """Tokens are counted for an engine that does not report usage."""
    engine = FakeMax(scripts=[Script(with_usage=False, with_done=False)])
    async with serve_backend(engine) as (backend, _):
        assert (await run(backend, request()))[-1] == Chunk(usage=Usage(3, 7))


async def test_tokens_after_finish_reason() -> None:
    """Text after the finish reason is dropped: MAX continues for a few tokens after a stop."""
    body = (
        b'data: {"choices":[{"text":"a","finish_reason":null}]}\n\n'
        b'data: {"choices":[{"text":"b","finish_reason":"stop"}]}\n\n'
        b'data: {"choices":[{"text":"c","finish_reason":"stop"}]}\n\n'
        b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":3}}\n\n'
        b"data: [DONE]\n\n"
    )
    router = respx.Router()
    router.post(ROUTE).respond(200, content=body)
    assert await run(create_mock_backend(router), request()) == [
        Chunk("a", usage=Usage(3, 1)),
        Chunk("b", "stop"),
        Chunk(),
        Chunk(usage=Usage(3, 3)),
    ]


@pytest.mark.parametrize(
    "script",
    [Script(cut_after=3), Script(error_after=3), Script(finish_reason=None, with_done=True)],  # type: ignore[arg-type]
)
async def test_incomplete_stream(script: Script) -> None:
    """A stream that ends early or with an error raises after the chunks that arrived."""
    async with serve_backend(FakeMax(scripts=[script])) as (backend, _):
        seen: list[Chunk] = []
        with pytest.raises(UpstreamError):
            async with aclosing(backend.stream(request())) as chunks:
                async for chunk in chunks:
                    seen.append(chunk)  # noqa: PERF401  # ended by the error
        assert "".join(chunk.text for chunk in seen) in {"The capital of", "".join(OUTPUT_TOKENS)}


HALF = b'HTTP/1.1 200 OK\r\ncontent-length: 111\r\n\r\n{"choices":[{"text":"Paris","finish_rea'


async def test_response_cut_off() -> None:
    """An incomplete response is an error and not retried."""
    server, settings = RawServer([HALF, HALF]), UpstreamSettings()
    async with serving_bytes(server) as url, aclosing(EngineTransport(settings)) as transport:
        backend = UpstreamBackend(ReplicaPool([create_replica(url)], transport, settings))
        with pytest.raises(UpstreamError, match="cut off"):
            await run(backend, request(stream=False))
    assert server.connections == 1


@pytest.mark.parametrize(
    ("status", "content", "error"),
    [
        (429, b"{}", UpstreamOverloaded),
        (500, b"<html>Internal Server Error</html>", UpstreamError),
        (404, b'{"error":{"message":"no such model /root/x"}}', UpstreamError),
        (400, b'{"error":{"message":"Value error."}}', InvalidRequest),
        (
            400,
            b'{"error":{"message":"Prompt is too long: 9000 tokens exceeds the configured maximum '
            b'context length of 8192 tokens."}}',
            ContextLengthExceeded,
        ),
    ],
)
async def test_error_response(status: int, content: bytes, error: type[GatewayError]) -> None:
    """Error responses are translated, without MAX's text, which is logged, and not retried."""
    router = respx.Router()
    route = router.post(ROUTE).respond(status, content=content)
    with pytest.raises(error) as caught, capture_logs() as logs:
        await run(create_mock_backend(router), request())
    assert [(log["event"], log["status"], log["response"]) for log in logs] == [
        ("the engine refused a request", status, content.decode())
    ]
    assert route.call_count == 1
    assert "Value error" not in caught.value.message
    assert "/root" not in caught.value.message


@pytest.mark.parametrize(
    ("raised", "error", "calls"),
    [
        (httpx.ConnectTimeout("x"), UpstreamUnavailable, 1),
        (httpx.ReadTimeout("x"), UpstreamTimeout, 1),
        (httpx.PoolTimeout("x"), UpstreamOverloaded, 1),
        (httpx.ReadError("x"), UpstreamUnavailable, 1 + MAX_RETRIES),
    ],
)
async def test_httpx_error(raised: Exception, error: type[GatewayError], calls: int) -> None:
    """Exceptions of httpx are translated; only a closed connection is retried."""
    router = respx.Router()
    route = router.post(ROUTE).mock(side_effect=raised)
    with pytest.raises(error):
        await run(create_mock_backend(router), request())
    assert route.call_count == calls


@pytest.mark.parametrize("silent_after", [0, 3])
async def test_timeouts(silent_after: int) -> None:
    """The wait for the first token and between two tokens is bounded."""
    engine = FakeMax(scripts=[Script(silent_after=silent_after)])
    settings = UpstreamSettings(first_token_timeout=0.05, idle_timeout=0.05)
    async with serve_backend(engine, settings) as (backend, _):
        with pytest.raises(UpstreamTimeout):
            await run(backend, request())
        await engine.idle.wait()
    assert engine.aborted == 1


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("silent_after", [0, 3])
async def test_cancelled(*, stream: bool, silent_after: int) -> None:
    """Cancelling a request ends it in the engine."""
    engine = FakeMax(scripts=[Script(silent_after=silent_after if stream else 0)])
    async with serve_backend(engine, UpstreamSettings(cancel_grace=0)) as (backend, replica):
        work = asyncio.create_task(run(backend, request(stream=stream)))
        await engine.arrived.wait()
        assert replica.in_flight == 1
        work.cancel()
        await asyncio.wait([work])
        await engine.idle.wait()
    assert (engine.aborted, replica.in_flight) == (1, 0)


async def test_closed_early() -> None:
    """Closing a stream early ends the request in the engine."""
    engine = FakeMax(scripts=[Script(silent_after=2)])
    async with serve_backend(engine) as (backend, replica):
        async with aclosing(backend.stream(request())) as chunks:
            await anext(chunks)
            assert replica.in_flight == 1
        assert replica.in_flight == 0
        await engine.idle.wait()
    assert engine.aborted == 1


async def test_connection_reused() -> None:
    """A connection is reused after plain responses and streams."""
    connections: set[object] = set()
    engine = FakeMax()

    async def record_client(scope: dict[str, object], receive: object, send: object) -> None:
        connections.add(scope.get("client"))
        await engine(scope, receive, send)

    async with serve_backend(record_client) as (backend, _):
        for stream in (True, False, True):
            await run(backend, request(stream=stream))
    assert len(connections - {None}) == 1


async def test_has_more() -> None:
    """All but the last chunk of events that arrived together have `has_more`."""
    chunk = b'data: {"choices":[{"text":"a"}]}\n\n'
    end = b'data: {"choices":[{"text":"b","finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    router = respx.Router()
    router.post(ROUTE).respond(200, content=chunk + chunk + end)
    async with aclosing(create_mock_backend(router).stream(request())) as chunks:
        assert [(chunk.text, chunk.has_more) async for chunk in chunks] == [
            ("a", True),
            ("a", True),
            ("b", False),
            ("", False),
        ]
