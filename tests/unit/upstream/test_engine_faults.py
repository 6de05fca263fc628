"""Responses of a faulty engine are bounded, and complete ones survive a bad end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from maxgate.errors import (
    GatewayError,
    InvalidRequest,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from maxgate.generation.chunk import Chunk, Usage
from maxgate.generation.request import TokenIds
from maxgate.upstream.backend import UpstreamBackend
from maxgate.upstream.http1.transport import EngineTransport
from maxgate.upstream.pool import ReplicaPool
from maxgate.upstream.replica import EngineModel, Replica
from maxgate.upstream.settings import UpstreamSettings
from tests.fakes.requests import generation_request

SETTINGS = UpstreamSettings(
    first_token_timeout=0.2, idle_timeout=0.2, response_timeout=0.2, max_response_bytes=100_000
)
PATIENT = UpstreamSettings(max_response_bytes=100_000)
STREAM = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\ncontent-length: 9999999999\r\n\r\n"
FAILED = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 9999999999\r\n\r\n"


def event(data: bytes) -> bytes:
    """Return one event as a chunk of the transfer encoding."""
    return b"%x\r\ndata: %b\n\n\r\n" % (len(data) + 8, data)


A = event(b'{"choices":[{"text":"a"}]}')
EMPTY = event(b'{"choices":[{"delta":{"role":"assistant","content":""}}]}')
FINISHED = event(b'{"choices":[{"text":"b","finish_reason":"stop"}]}')
DONE = event(b"[DONE]")


class RepeatingEngine:
    """Sends `head`, then `repeated` until the client leaves, with a pause after each piece.

    An empty `repeated` closes the connection; None keeps it open and silent.
    """

    def __init__(self, head: bytes, repeated: bytes | None = b"", *, pause: float = 0) -> None:
        self._head, self._repeated, self._pause = head, repeated, pause
        self.calls = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.calls += 1
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(self._head)
            if self._repeated is None:
                await reader.read()
            while self._repeated and not writer.is_closing():
                writer.write(self._repeated)
                await writer.drain()
                await asyncio.sleep(self._pause)
        except OSError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serve(
    engine: RepeatingEngine, settings: UpstreamSettings
) -> AsyncIterator[UpstreamBackend]:
    """Serve the engine and yield a backend for it."""
    listener = await asyncio.start_server(engine.handle, "127.0.0.1", 0)
    async with listener, aclosing(EngineTransport(settings)) as transport:
        replica = Replica(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}")
        replica.mark_healthy({"small-on-max": EngineModel("small-on-max", 1, 100)})
        yield UpstreamBackend(ReplicaPool([replica], transport, settings))


async def run(
    engine: RepeatingEngine, *, stream: bool, settings: UpstreamSettings = SETTINGS
) -> list[Chunk]:
    """Return the chunks of one request to the engine."""
    request = generation_request(prompt=TokenIds.of([1, 2, 3]), stream=stream)
    async with (
        asyncio.timeout(5),
        serve(engine, settings) as backend,
        aclosing(backend.stream(request)) as chunks,
    ):
        return [chunk async for chunk in chunks]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("head", "repeated", "message"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"x: " + b"y" * 8000 + b"\r\n", "is larger than 65536 bytes"),
        (b"HTTP/1.1 200 OK\r\nx: ", b"y" * 8000, "is larger than 65536 bytes"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100, "is larger than 65536 bytes"),
        (FAILED, b"x" * 8000, "failed to respond"),
    ],
)
async def test_endless_head_or_error(
    head: bytes, repeated: bytes, message: str, *, stream: bool
) -> None:
    """Headers and error bodies are bounded, and the request is not sent again."""
    engine = RepeatingEngine(head, repeated)
    with pytest.raises(UpstreamError, match=message):
        await run(engine, stream=stream, settings=PATIENT)
    assert engine.calls == 1


@pytest.mark.parametrize(
    ("stream", "head", "repeated", "message"),
    [
        (False, PLAIN, b"x" * 8000, "is larger than 100000 bytes"),
        (True, STREAM, b"%x\r\n%b\r\n" % (99_999, b"x" * 99_999), "is larger than 4194304 bytes"),
        (True, STREAM + A, b"1;" + b"x" * 8000, "cut off"),
    ],
)
async def test_endless_body(*, stream: bool, head: bytes, repeated: bytes, message: str) -> None:
    """Plain bodies, single events and chunk extensions are bounded."""
    with pytest.raises(UpstreamError, match=message):
        await run(RepeatingEngine(head, repeated), stream=stream, settings=PATIENT)


@pytest.mark.parametrize(
    ("stream", "head", "repeated"),
    [
        (False, PLAIN, b" "),
        (True, STREAM, b"8\r\n: ping\n\n\r\n"),
        (True, STREAM, EMPTY),
        (True, STREAM + A, b"8\r\n: ping\n\n\r\n"),
        (True, STREAM + A, EMPTY),
        (True, STREAM, None),
        (True, STREAM + A, None),
    ],
)
async def test_no_tokens(*, stream: bool, head: bytes, repeated: bytes | None) -> None:
    """Bytes without a token extend no timeout, and a plain response has one for the whole."""
    with pytest.raises(UpstreamTimeout):
        await run(RepeatingEngine(head, repeated, pause=0.01), stream=stream)


async def test_slow_tokens() -> None:
    """A stream may take longer than its timeouts in all, if tokens keep coming."""
    engine = RepeatingEngine(STREAM, A + EMPTY, pause=0.05)
    request = generation_request(prompt=TokenIds.of([1]), stream=True)
    tokens = 0
    async with serve(engine, SETTINGS) as backend, aclosing(backend.stream(request)) as chunks:
        async for chunk in chunks:
            tokens += bool(chunk.text)
            if tokens == 10:
                break
    assert tokens == 10


@pytest.mark.parametrize(
    ("end", "repeated"),
    [
        (b"", b""),
        (DONE, b""),
        (DONE, None),
        (DONE + A, b""),
        (DONE + b"0\r\n\r\n", b""),
        (b"zz", b""),
        (event(b'{"error":{"message":"shutting down"}}'), b""),
    ],
)
async def test_complete_stream(end: bytes, repeated: bytes | None) -> None:
    """A stream with its finish reason is complete, however its connection ends."""
    chunks = await run(RepeatingEngine(STREAM + A + FINISHED + end, repeated), stream=True)
    assert [(chunk.text, chunk.finish_reason) for chunk in chunks if chunk.text] == [
        ("a", None),
        ("b", "stop"),
    ]
    assert chunks[-1].usage == Usage(3, 2)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("fields", "kind", "code"),
    [
        (b'"choices":[{"text":"a","finish_reason":"abort"}]', UpstreamError, "upstream_error"),
        (b'"choices":[{"text":"a","finish_reason":"error"}]', UpstreamError, "upstream_error"),
        (b'"choices":[{"text":"a","finish_reason":["x"]}]', UpstreamError, "upstream_error"),
        (b'"choices":[{"text":7,"finish_reason":"stop"}]', UpstreamError, "upstream_error"),
        (
            b'"choices":[{"text":"a","finish_reason":"stop"}],"error":{"code":502}',
            UpstreamError,
            "upstream_error",
        ),
        (
            b'"error":{"code":"context_length_exceeded"}',
            InvalidRequest,
            "context_length_exceeded",
        ),
        (b'"error":{"code":"content_filter"}', InvalidRequest, "content_filter"),
    ],
)
async def test_failed_response(
    fields: bytes, kind: type[GatewayError], code: str, *, stream: bool
) -> None:
    """Errors in a response with status 200, and finish reasons of failures, are errors."""
    usage = b'"usage":{"prompt_tokens":3,"completion_tokens":1}'
    body = b"{%b,%b}" % (fields, usage)
    plain = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    head = STREAM + event(b"{%b}" % fields) + DONE + b"0\r\n\r\n" if stream else plain
    with pytest.raises(kind) as caught:
        await run(RepeatingEngine(head), stream=stream)
    assert caught.value.code == code


async def test_content_filter() -> None:
    """The finish reason `content_filter` is passed on."""
    head = STREAM + event(b'{"choices":[{"text":"a","finish_reason":"content_filter"}]}') + DONE
    chunks = await run(RepeatingEngine(head + b"0\r\n\r\n"), stream=True)
    assert chunks[0].finish_reason == "content_filter"


async def test_retry_after() -> None:
    """A 503 of the engine stays one, with its Retry-After."""
    head = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 17\r\ncontent-length: 0\r\n\r\n"
    with pytest.raises(UpstreamUnavailable) as caught:
        await run(RepeatingEngine(head), stream=True)
    assert caught.value.retry_after == 17
