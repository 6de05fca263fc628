"""What a generation took is on its record, however it ended."""

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


async def run(
    layer: TelemetryLayer, request: GenerationRequest, clock: FakeClock, *, leave_after: int = 99
) -> None:
    async with aclosing(layer.stream(request)) as chunks:
        async for _ in chunks:
            clock.advance(1)
            leave_after -= 1
            if leave_after == 0:
                return


async def test_tokens_and_times_of_a_stream() -> None:
    clock, request = FakeClock(), generation_request(stream=True)
    await run(TelemetryLayer(FakeBackend(CHUNKS), clock), request, clock)
    record = request.context.record
    assert (record.model, record.prompt_tokens, record.completion_tokens, record.cached_tokens) == (
        "small", 9, 4, 3,
    )  # fmt: skip
    assert (record.time_to_first_token, record.time_per_output_token) == (1.0, 1 / 3)


async def test_a_whole_answer_has_no_first_token() -> None:
    clock, request = FakeClock(), generation_request()
    layer = TelemetryLayer(FakeBackend([Chunk("ab", "stop", Usage(9, 3))]), clock)
    await run(layer, request, clock)
    assert (
        request.context.record.time_to_first_token,
        request.context.record.completion_tokens,
    ) == (None, 3)


async def test_a_stream_that_is_left_early_counts_what_was_seen() -> None:
    clock, request = FakeClock(), generation_request(stream=True)
    await run(TelemetryLayer(FakeBackend(CHUNKS), clock), request, clock, leave_after=3)
    record = request.context.record
    assert (record.prompt_tokens, record.completion_tokens) == (
        9,
        2,
    )


async def test_a_stream_that_fails_too() -> None:
    clock, request = FakeClock(), generation_request(stream=True)
    layer = TelemetryLayer(FakeBackend([*CHUNKS[:2], UpstreamError("gone")]), clock)
    with pytest.raises(UpstreamError):
        await run(layer, request, clock)
    record = request.context.record
    assert (record.prompt_tokens, record.completion_tokens) == (
        9,
        1,
    )


async def test_several_answers_of_one_request_are_summed() -> None:
    clock, request = FakeClock(), generation_request(stream=True)
    layer = TelemetryLayer(FakeBackend(CHUNKS), clock)
    await run(layer, request, clock)
    await run(layer, request, clock)
    record = request.context.record
    assert (record.prompt_tokens, record.completion_tokens) == (
        18,
        8,
    )
    assert request.context.record.time_to_first_token == 1.0


async def test_cancellation_passes_through() -> None:
    backend = FakeBackend([CHUNKS[0], FakeBackend.SILENCE])
    request = generation_request(stream=True)
    clock = FakeClock()
    work = asyncio.create_task(run(TelemetryLayer(backend, clock), request, clock))
    await backend.waiting.wait()
    work.cancel()
    await asyncio.wait([work])
    assert (work.cancelled(), backend.ended, request.context.record.prompt_tokens) == (True, 1, 9)
