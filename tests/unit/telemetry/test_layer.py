"""Telemetry layers fill in the request record, however the generation ends."""

import asyncio
from contextlib import aclosing

import pytest

from maxgate.errors import UpstreamError
from maxgate.generation.chunk import Chunk, Usage
from maxgate.generation.request import GenerationRequest
from maxgate.telemetry.layer import TelemetryLayer
from tests.fakes.backend import FakeBackend
from tests.fakes.clock import FakeClock
from tests.fakes.requests import generation_request

CHUNKS = [Chunk("", usage=Usage(9, 1)), Chunk("a"), Chunk("b", "stop"), Chunk(usage=Usage(9, 4, 3))]


async def read_stream(
    layer: TelemetryLayer, request: GenerationRequest, clock: FakeClock, *, close_after: int = 99
) -> None:
    """Read chunks, one per second."""
    async with aclosing(layer.stream(request)) as chunks:
        async for _ in chunks:
            clock.advance(1)
            close_after -= 1
            if close_after == 0:
                return


async def test_stream() -> None:
    """A stream has its model, token counts and times."""
    clock, request = FakeClock(), generation_request(stream=True)
    await read_stream(TelemetryLayer(FakeBackend(CHUNKS), clock), request, clock)
    record = request.context.record
    assert (record.model, record.prompt_tokens, record.completion_tokens, record.cached_tokens) == (
        "small", 9, 4, 3,
    )  # fmt: skip
    record.finish(clock.monotonic())
    assert (record.time_to_first_token, record.time_per_output_token) == (1.0, 1 / 3)


async def test_plain_response() -> None:
    """A response that is not streamed has no time to first token."""
    clock, request = FakeClock(), generation_request()
    layer = TelemetryLayer(FakeBackend([Chunk("ab", "stop", Usage(9, 3))]), clock)
    await read_stream(layer, request, clock)
    record = request.context.record
    record.finish(clock.monotonic())
    assert (record.time_to_first_token, record.completion_tokens) == (None, 3)


async def test_closed_stream() -> None:
    """A stream that is closed early counts at least one token per piece."""
    clock, request = FakeClock(), generation_request(stream=True)
    layer = TelemetryLayer(FakeBackend(CHUNKS), clock)
    await read_stream(layer, request, clock, close_after=3)
    record = request.context.record
    assert (record.prompt_tokens, record.completion_tokens) == (9, 2)


async def test_failed_stream() -> None:
    """A stream that fails counts what it had sent."""
    clock, request = FakeClock(), generation_request(stream=True)
    layer = TelemetryLayer(FakeBackend([*CHUNKS[:2], UpstreamError("gone")]), clock)
    with pytest.raises(UpstreamError):
        await read_stream(layer, request, clock)
    record = request.context.record
    assert (record.prompt_tokens, record.completion_tokens) == (9, 1)


async def test_several_choices() -> None:
    """Tokens of several choices are summed; the first token is the earliest."""
    clock, request = FakeClock(), generation_request(stream=True)
    layer = TelemetryLayer(FakeBackend(CHUNKS), clock)
    await read_stream(layer, request, clock)
    await read_stream(layer, request, clock)
    record = request.context.record
    assert (record.prompt_tokens, record.completion_tokens) == (18, 8)
    record.finish(clock.monotonic())
    assert record.time_to_first_token == 1.0


async def test_cancellation() -> None:
    """A cancelled stream closes its backend and keeps the count so far."""
    backend = FakeBackend([CHUNKS[0], FakeBackend.SILENCE])
    request = generation_request(stream=True)
    clock = FakeClock()
    task = asyncio.create_task(read_stream(TelemetryLayer(backend, clock), request, clock))
    await backend.waiting.wait()
    task.cancel()
    await asyncio.wait([task])
    assert (task.cancelled(), backend.ended, request.context.record.prompt_tokens) == (True, 1, 9)


@pytest.mark.parametrize(("engine_calls", "prompt_tokens"), [(1, 7), (0, 0)])
async def test_client_that_does_not_wait(engine_calls: int, prompt_tokens: int) -> None:
    """A request that is cancelled before its usage is known counts the prompt an engine got."""
    backend, request = FakeBackend([FakeBackend.SILENCE]), generation_request()
    record = request.context.record
    record.sent_tokens, record.engine_calls = 7, engine_calls
    clock = FakeClock()
    task = asyncio.create_task(read_stream(TelemetryLayer(backend, clock), request, clock))
    await backend.waiting.wait()
    task.cancel()
    await asyncio.wait([task])
    assert (record.prompt_tokens, record.completion_tokens) == (prompt_tokens, 0)
