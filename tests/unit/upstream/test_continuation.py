"""A stream whose engine fails goes on at another one, token by token."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from maxgate.errors import GatewayError, InvalidRequest, UpstreamError, UpstreamUnavailable
from maxgate.generation.chunk import Chunk, Usage
from maxgate.generation.request import GenerationRequest, TokenIds
from maxgate.upstream.backend import UpstreamBackend
from maxgate.upstream.continuation import Continuation, can_continue
from maxgate.upstream.http1.transport import EngineTransport
from maxgate.upstream.pool import ReplicaPool
from maxgate.upstream.replica import EngineModel, Replica
from maxgate.upstream.routing.policy import RoutingKey
from maxgate.upstream.settings import ContinuationSettings, FailoverSettings, UpstreamSettings
from tests.fakes.max_server import OUTPUT_TOKENS, FakeMax, Script
from tests.fakes.requests import generation_request
from tests.fakes.server import serving

PROMPT = TokenIds.of([1, 2, 3])
MODELS = {"small-on-max": EngineModel("small-on-max", 1, 100)}
WHOLE = "".join(OUTPUT_TOKENS)
RESPONSE = (
    b'{"choices":[{"text":"whole","finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":1}}'
)


class FirstReplica:
    """A policy that does not choose at random."""

    def choose(self, replicas: Sequence[Replica], key: RoutingKey) -> Replica:
        """Return the first replica."""
        del key
        return replicas[0]


@asynccontextmanager
async def serve_backend(
    *engines: FakeMax, attempts: int = 5, restart_window: float = 0.5
) -> AsyncIterator[UpstreamBackend]:
    """Serve the engines and yield a backend that prefers the first ones."""
    settings = UpstreamSettings(idle_timeout=0.2)
    failover = FailoverSettings(
        continuation=ContinuationSettings(attempts=attempts, restart_window=restart_window)
    )
    async with AsyncExitStack() as stack:
        replicas = [Replica(await stack.enter_async_context(serving(e))) for e in engines]
        for replica in replicas:
            replica.mark_healthy(MODELS)
        client = await stack.enter_async_context(aclosing(EngineTransport(settings)))
        yield UpstreamBackend(ReplicaPool(replicas, client, settings, failover, FirstReplica()))


def request(**sampling: Any) -> GenerationRequest:
    """Return a streamed request with a prompt of three tokens."""
    made = generation_request(prompt=PROMPT, stream=True)
    return made._replace(sampling=made.sampling._replace(**sampling))


async def run(backend: UpstreamBackend, request: GenerationRequest) -> list[Chunk]:
    """Return all chunks; `has_more` depends on the network and is cleared."""
    async with aclosing(backend.stream(request)) as chunks:
        return [replace(chunk, has_more=False) async for chunk in chunks]


@pytest.mark.parametrize(
    "script",
    [
        Script(cut_after=3),
        Script(silent_after=3),
        Script(error_after=3),
        Script(finish_reason="abort"),
        Script(finish_reason=None),  # type: ignore[arg-type]
    ],
    ids=["cut", "stall", "error event", "aborted", "no end"],
)
async def test_stream_goes_on(script: Script) -> None:
    """The client sees one stream with the text and usage of an uninterrupted one."""
    broken, working, sent = FakeMax(scripts=[script]), FakeMax(), request(max_tokens=50)
    async with serve_backend(broken, working) as backend:
        chunks = await run(backend, sent)
    assert "".join(chunk.text for chunk in chunks) == WHOLE
    assert [chunk.finish_reason for chunk in chunks if chunk.finish_reason] == ["stop"]
    assert chunks[-1].usage == Usage(3, 8, 3)
    done = len(working.requests[0]["prompt"]) - 3
    assert working.requests[0]["prompt"] == [1, 2, 3, *range(1000, 1000 + done)]
    assert working.requests[0]["max_tokens"] == 50 - done
    assert sent.context.record.continuations == 1


async def test_same_engine() -> None:
    """A single engine that cuts streams is asked again."""
    engine = FakeMax(scripts=[Script(cut_after=2), Script(cut_after=5)])
    async with serve_backend(engine) as backend:
        chunks = await run(backend, request())
    assert "".join(chunk.text for chunk in chunks) == WHOLE
    assert [len(sent["prompt"]) for sent in engine.requests] == [3, 5, 8]


class DyingEngine:
    """Closes connections without a response, the first one after `delay` seconds.

    The request with the number `works_at` gets the response, streamed or not.
    """

    def __init__(self, works_at: int, delay: float = 0.0) -> None:
        self._works_at = works_at
        self._delay = delay
        self.requests = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        await reader.readuntil(b"\r\n\r\n")
        self.requests += 1
        await asyncio.sleep(self._delay if self.requests == 1 else 0)
        if self.requests == self._works_at:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(RESPONSE))
            writer.write(RESPONSE)
        writer.close()


@asynccontextmanager
async def serve_dying(engine: DyingEngine) -> AsyncIterator[UpstreamBackend]:
    """Serve the engine and yield a backend; a probe succeeds after 1.4 s."""
    listener = await asyncio.start_server(engine.handle, "127.0.0.1", 0)
    settings = UpstreamSettings()
    async with listener, aclosing(EngineTransport(settings)) as client:
        replica = Replica(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}")
        replica.mark_healthy(MODELS)
        asyncio.get_running_loop().call_later(1.4, replica.mark_healthy, MODELS)
        yield UpstreamBackend(ReplicaPool([replica], client, settings))


async def test_engine_dies_before_its_response() -> None:
    """A request that its only engine worked on is sent again when the engine has restarted."""
    engine = DyingEngine(works_at=2, delay=1.1)
    async with serve_dying(engine) as backend:
        chunks = await run(backend, request()._replace(stream=False))
    assert [chunk.text for chunk in chunks] == ["whole"]
    assert engine.requests == 2


async def test_dead_engine() -> None:
    """A request that no engine has worked on does not wait."""
    engine = DyingEngine(works_at=5)
    async with serve_dying(engine) as backend:
        with pytest.raises(UpstreamUnavailable):
            await run(backend, request())
    assert engine.requests == 4


async def test_no_progress() -> None:
    """A stream that fails twice at the same token ends with the error."""
    engine = FakeMax(scripts=[Script(cut_after=2)] * 9)
    async with serve_backend(engine) as backend:
        with pytest.raises(UpstreamError):
            await run(backend, request())
    assert len(engine.requests) == 3


async def test_refusals_are_no_progress() -> None:
    """Engines that have no capacity or refuse the rest do not count as failures of its token."""
    broken = FakeMax(scripts=[Script(cut_after=3)])
    refusing = [FakeMax(scripts=[Script(status=status)] * 9) for status in (429, 503, 400)]
    async with serve_backend(broken, *refusing, FakeMax()) as backend:
        assert "".join(chunk.text for chunk in await run(backend, request())) == WHOLE


async def test_busy_engine() -> None:
    """A single engine that refuses the rest is asked again after its Retry-After."""
    engine = FakeMax(scripts=[Script(cut_after=3), Script(status=503)])
    async with serve_backend(engine, restart_window=5) as backend:
        assert "".join(chunk.text for chunk in await run(backend, request())) == WHOLE
    assert len(engine.requests) == 3


async def test_attempts_are_bounded() -> None:
    """A stream is moved at most as often as the setting says."""
    engine = FakeMax(scripts=[Script(cut_after=number) for number in range(1, 7)])
    async with serve_backend(engine, attempts=3) as backend:
        with pytest.raises(UpstreamError):
            await run(backend, request())
    assert len(engine.requests) == 4


async def test_refused_continuation() -> None:
    """A replica that refuses the rest is passed over, and the first error is the one reported."""
    broken = FakeMax(scripts=[Script(cut_after=3)])
    refusing = FakeMax(scripts=[Script(status=400)] * 9)
    async with serve_backend(broken, refusing, FakeMax()) as backend:
        assert "".join(chunk.text for chunk in await run(backend, request())) == WHOLE
    assert len(refusing.requests) == 1


async def test_only_the_end_is_missing() -> None:
    """A response that has all its tokens ends with `length` without another call."""
    broken, working = FakeMax(scripts=[Script(cut_after=4)]), FakeMax()
    async with serve_backend(broken, working) as backend:
        chunks = await run(backend, request(max_tokens=4))
    assert chunks[-1] == Chunk("", "length", Usage(3, 4))
    assert working.requests == []


@pytest.mark.parametrize(
    "changes",
    [{"frequency_penalty": 0.5}, {"presence_penalty": 0.5}, {"repetition_penalty": 1.1}],
)
async def test_penalties_are_not_continued(changes: dict[str, float]) -> None:
    """A new call would count no penalties for tokens of the earlier one, so it is an error."""
    broken, working = FakeMax(scripts=[Script(cut_after=3)]), FakeMax()
    async with serve_backend(broken, working) as backend:
        with pytest.raises(UpstreamError):
            await run(backend, request(**changes))
    assert working.requests == []


def test_exactness() -> None:
    """Only streams of prompts made of token ids, without a grammar, are continued."""
    assert can_continue(request())
    assert can_continue(request(temperature=1.0, seed=7, stop=("#",), logprobs=2))
    assert not can_continue(request()._replace(grammar={}))
    assert not can_continue(request()._replace(prompt_token_ids=None))
    assert not can_continue(request()._replace(stream=False))


def test_incomplete_character() -> None:
    """Tokens whose text has not been passed on are generated again."""
    continuation = Continuation(request(min_tokens=9), 50, attempts=1)
    continuation.add(b"7", 1, shown=True)
    continuation.add(b"8", 1, shown=False)
    continuation.add(b"9,10", 2, shown=True)
    continuation.add(b"11", 1, shown=False)
    rest = continuation.resume(UpstreamError("cut"))
    assert rest is not None
    assert rest.prompt_token_ids == TokenIds.of([1, 2, 3, 7, 8, 9, 10])
    assert (rest.sampling.max_tokens, rest.sampling.min_tokens) == (46, 5)


@pytest.mark.parametrize(
    ("error", "resumed"),
    [
        (UpstreamError("cut"), True),
        (InvalidRequest("refused", code="invalid_value"), True),
        (InvalidRequest("filtered", code="content_filter"), False),
    ],
)
def test_content_filter(error: GatewayError, *, resumed: bool) -> None:
    """An engine's content filter ends the response."""
    assert (Continuation(request(), None, 1).resume(error) is not None) is resumed
