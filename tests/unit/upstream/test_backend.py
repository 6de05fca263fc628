"""One request to one engine: what is passed on, what is tried again, and what is closed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

import httpx
import pytest
import respx

from maxgate.errors import (
    GatewayError,
    InvalidRequest,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from maxgate.generation.chunk import Chunk, Usage
from maxgate.generation.errors import ContextLengthExceeded
from maxgate.generation.request import GenerationRequest, TokenIds
from maxgate.upstream.backend import UpstreamBackend
from maxgate.upstream.http1.transport import EngineTransport
from maxgate.upstream.pool import ReplicaPool
from maxgate.upstream.replica import EngineModel, Replica
from maxgate.upstream.settings import UpstreamSettings
from tests.fakes.max_server import ANSWER, FakeMax, Script
from tests.fakes.raw_server import RawServer, serving_bytes
from tests.fakes.requests import generation_request
from tests.fakes.server import serving

PROMPT = TokenIds.of([1, 2, 3])
ENGINE = "http://engine:8080"
ROUTE = ENGINE + "/v1/completions"


def replica(url: str = ENGINE) -> Replica:
    one = Replica(url)
    one.mark_healthy({"small-on-max": EngineModel("small-on-max", 1, 100)})
    return one


@asynccontextmanager
async def backend_for(
    *replicas: Replica, settings: UpstreamSettings | None = None
) -> AsyncIterator[UpstreamBackend]:
    settings = settings or UpstreamSettings()
    async with EngineTransport(settings) as transport:
        yield UpstreamBackend(ReplicaPool(replicas, transport, settings))


def mocked(router: respx.Router) -> UpstreamBackend:
    """A backend whose engine is respx."""
    transport = httpx.MockTransport(router.async_handler)
    return UpstreamBackend(ReplicaPool([replica()], transport, UpstreamSettings()))


async def run(backend: UpstreamBackend, request: GenerationRequest) -> list[Chunk]:
    async with aclosing(backend.stream(request)) as chunks:
        # Which chunks come together is the network's affair.
        return [replace(chunk, has_more=False) async for chunk in chunks]


def request(*, stream: bool = True, stop: tuple[str, ...] = ()) -> GenerationRequest:
    return generation_request(prompt=PROMPT, stream=stream, stop=stop)


async def test_a_whole_answer_is_one_chunk() -> None:
    async with serving(FakeMax()) as url, backend_for(replica(url)) as backend:
        assert await run(backend, request(stream=False)) == [
            Chunk("".join(ANSWER), "stop", Usage(37, 8, 5))
        ]


async def test_an_engine_behind_another_transport_gets_the_same_request() -> None:
    # httpx's own transport, which serves https, sends what the headers announce and no more.
    router = respx.Router()
    route = router.post(ROUTE).respond(
        200,
        json={
            "choices": [{"text": "Paris", "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2},
        },
    )
    assert await run(mocked(router), request(stream=False)) == [Chunk("Paris", "stop", Usage(3, 2))]
    sent = route.calls.last.request
    assert sent.headers == {
        "host": "engine:8080",
        "content-type": "application/json",
        "content-length": str(len(sent.content)),
    }


async def test_a_stream_is_passed_on_chunk_by_chunk() -> None:
    async with serving(FakeMax()) as url, backend_for(replica(url)) as backend:
        assert await run(backend, request()) == [
            Chunk("The", usage=Usage(3, 1)),
            *(Chunk(token) for token in ANSWER[1:-1]),
            Chunk(".", "stop"),
            Chunk(usage=Usage(37, 8, 5)),
        ]


async def test_an_engine_that_does_not_count_is_counted_for() -> None:
    engine = FakeMax(scripts=[Script(with_usage=False, with_done=False)])
    async with serving(engine) as url, backend_for(replica(url)) as backend:
        assert (await run(backend, request()))[-1] == Chunk(usage=Usage(3, 7))


async def test_what_comes_after_the_end_is_not_text() -> None:
    # MAX goes on for a few tokens after a stop string, and says `stop` with each of them.
    body = (
        b'data: {"choices":[{"text":"a","finish_reason":null}]}\n\n'
        b'data: {"choices":[{"text":"b","finish_reason":"stop"}]}\n\n'
        b'data: {"choices":[{"text":"c","finish_reason":"stop"}]}\n\n'
        b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":3}}\n\n'
        b"data: [DONE]\n\n"
    )
    router = respx.Router()
    router.post(ROUTE).respond(200, content=body)
    assert await run(mocked(router), request()) == [
        Chunk("a", usage=Usage(3, 1)),
        Chunk("b", "stop"),
        Chunk(),
        Chunk(usage=Usage(3, 3)),
    ]


@pytest.mark.parametrize(
    "script",
    [Script(cut_after=3), Script(error_after=3), Script(finish_reason=None, with_done=True)],  # type: ignore[arg-type]
)
async def test_a_stream_that_does_not_end_well_is_an_error(script: Script) -> None:
    async with serving(FakeMax(scripts=[script])) as url, backend_for(replica(url)) as backend:
        seen: list[Chunk] = []
        with pytest.raises(UpstreamError):
            async with aclosing(backend.stream(request())) as chunks:
                async for chunk in chunks:
                    seen.append(chunk)  # noqa: PERF401  # it is the failure that ends it
        assert "".join(chunk.text for chunk in seen) in {"The capital of", "".join(ANSWER)}


WHOLE = (
    b"HTTP/1.1 200 OK\r\ncontent-length: 111\r\n\r\n"
    b'{"choices":[{"text":"Paris","finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":2}}        '
)
HANGS_UP = b""
HALF = WHOLE[:80]


async def test_an_engine_that_hangs_up_is_asked_once_more_on_a_fresh_connection() -> None:
    server = RawServer([HANGS_UP, WHOLE])
    async with serving_bytes(server) as url, backend_for(replica(url)) as backend:
        assert await run(backend, request(stream=False)) == [Chunk("Paris", "stop", Usage(3, 2))]
    assert server.connections == 2


async def test_an_engine_that_hangs_up_again_is_given_up() -> None:
    server = RawServer([HANGS_UP] * 3)
    async with serving_bytes(server) as url, backend_for(replica(url)) as backend:
        with pytest.raises(UpstreamUnavailable) as caught:
            await run(backend, request())
    assert (caught.value.retry_after, server.connections) == (2, 2)


async def test_half_an_answer_is_an_error_and_not_asked_for_again() -> None:
    server = RawServer([HALF, WHOLE])
    async with serving_bytes(server) as url, backend_for(replica(url)) as backend:
        with pytest.raises(UpstreamError):
            await run(backend, request(stream=False))
    assert server.connections == 1


async def test_another_engine_answers_where_one_refuses() -> None:
    gone = replica("http://127.0.0.1:9")
    engine = FakeMax(models=["small-on-max"])
    async with serving(engine) as url, backend_for(gone, replica(url)) as backend:
        assert (await run(backend, request(stream=False)))[0].text == "".join(ANSWER)
    assert (gone.state, gone.error) == ("unreachable", "The engine cannot be reached.")


async def test_without_an_engine_it_is_unavailable() -> None:
    async with backend_for(replica("http://127.0.0.1:9")) as backend:
        for _ in range(2):  # refused, then known to be away
            with pytest.raises(UpstreamUnavailable) as caught:
                await run(backend, request())
            assert caught.value.retry_after == 2


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
async def test_error_answers_are_translated_and_not_tried_again(
    status: int, content: bytes, error: type[GatewayError]
) -> None:
    router = respx.Router()
    route = router.post(ROUTE).respond(status, content=content)
    with pytest.raises(error) as caught:
        await run(mocked(router), request())
    assert route.call_count == 1
    assert "Value error" not in caught.value.message
    assert "/root" not in caught.value.message


@pytest.mark.parametrize(
    ("raised", "error", "calls"),
    [
        (httpx.ConnectTimeout("x"), UpstreamUnavailable, 1),
        (httpx.ReadTimeout("x"), UpstreamTimeout, 1),
        (httpx.PoolTimeout("x"), UpstreamOverloaded, 1),
        (httpx.ReadError("x"), UpstreamUnavailable, 2),
    ],
)
async def test_what_happens_on_the_way_is_translated(
    raised: Exception, error: type[GatewayError], calls: int
) -> None:
    router = respx.Router()
    route = router.post(ROUTE).mock(side_effect=raised)
    with pytest.raises(error):
        await run(mocked(router), request())
    assert route.call_count == calls


@pytest.mark.parametrize("silent_after", [0, 3])
async def test_silence_is_bounded_before_the_first_token_and_between_tokens(
    silent_after: int,
) -> None:
    engine = FakeMax(scripts=[Script(silent_after=silent_after)])
    settings = UpstreamSettings(first_token_timeout=0.05, idle_timeout=0.05)
    async with serving(engine) as url, backend_for(replica(url), settings=settings) as backend:
        with pytest.raises(UpstreamTimeout):
            await run(backend, request())
        await engine.idle.wait()
    assert engine.aborted == 1


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("silent_after", [0, 3])
async def test_the_engine_is_let_go_when_the_request_is_cancelled(
    *, stream: bool, silent_after: int
) -> None:
    engine = FakeMax(scripts=[Script(silent_after=silent_after if stream else 0)])
    one, at_once = None, UpstreamSettings(cancel_grace=0)
    async with (
        serving(engine) as url,
        backend_for(one := replica(url), settings=at_once) as backend,
    ):
        work = asyncio.create_task(run(backend, request(stream=stream)))
        await engine.arrived.wait()
        assert one.in_flight == 1
        work.cancel()
        await asyncio.wait([work])
        await engine.idle.wait()
    assert (engine.aborted, one.in_flight) == (1, 0)


async def test_the_engine_is_let_go_when_the_stream_is_closed_early() -> None:
    engine = FakeMax(scripts=[Script(silent_after=2)])
    one = None
    async with serving(engine) as url, backend_for(one := replica(url)) as backend:
        async with aclosing(backend.stream(request())) as chunks:
            await anext(chunks)
            assert one.in_flight == 1
        assert one.in_flight == 0
        await engine.idle.wait()
    assert engine.aborted == 1


async def test_a_connection_is_used_again_after_a_stream() -> None:
    connections: set[object] = set()
    engine = FakeMax()

    async def noting(scope: dict[str, object], receive: object, send: object) -> None:
        connections.add(scope.get("client"))
        await engine(scope, receive, send)

    async with serving(noting) as url, backend_for(replica(url)) as backend:
        for stream in (True, False, True):
            await run(backend, request(stream=stream))
    assert len(connections - {None}) == 1


async def test_chunks_that_came_together_say_so() -> None:
    chunk = b'data: {"choices":[{"text":"a"}]}\n\n'
    end = b'data: {"choices":[{"text":"b","finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    router = respx.Router()
    router.post(ROUTE).respond(200, content=chunk + chunk + end)
    async with aclosing(mocked(router).stream(request())) as chunks:
        assert [(chunk.text, chunk.has_more) async for chunk in chunks] == [
            ("a", True),
            ("a", True),
            ("b", False),
            ("", False),
        ]
