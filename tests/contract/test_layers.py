"""What every layer promises: it ends as what it wraps ends, and gives back all it holds at once."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing

import pytest

from maxgate.errors import UpstreamError
from maxgate.generation.backend import Backend
from maxgate.generation.events import Chunk, Usage
from maxgate.generation.request import GenerationRequest, Tool, ToolUse
from maxgate.prompts.layer import PromptLayer
from maxgate.structured.strict_calls import StrictCallsLayer
from maxgate.telemetry.layer import TelemetryLayer
from tests.fakes.backend import FakeBackend
from tests.fakes.clock import FakeClock
from tests.fakes.requests import generation_request

LAYERS: dict[str, tuple[Callable[[Backend], Backend], GenerationRequest]] = {
    "telemetry": (
        lambda inner: TelemetryLayer(inner, FakeClock()),
        generation_request(stream=True),
    ),
    "prompts": (
        lambda inner: PromptLayer(inner, lambda _: None),
        generation_request(stream=True),
    ),
    "strict tools": (
        StrictCallsLayer,
        generation_request(stream=True)._replace(
            tool_use=ToolUse((Tool("f", "", {"type": "object"}, strict=True),))
        ),
    ),
    "prompts with stop strings": (
        lambda inner: PromptLayer(inner, lambda _: None),
        generation_request(stream=True, stop=("never",)),
    ),
}
CHUNKS = [Chunk("a"), Chunk("b", "stop", Usage(1, 2))]


@pytest.fixture(params=LAYERS)
def wrap(request: pytest.FixtureRequest) -> tuple[Callable[[Backend], Backend], GenerationRequest]:
    """A layer, and a request that goes through it."""
    return LAYERS[request.param]


async def test_it_finishes(wrap: tuple[Callable[[Backend], Backend], GenerationRequest]) -> None:
    layer, asked = wrap
    inner = FakeBackend(CHUNKS)
    async with aclosing(layer(inner).stream(asked)) as chunks:
        assert [chunk async for chunk in chunks] == CHUNKS
        assert inner.ended == 1


async def test_it_fails(wrap: tuple[Callable[[Backend], Backend], GenerationRequest]) -> None:
    layer, asked = wrap
    inner = FakeBackend([CHUNKS[0], UpstreamError("gone")])
    async with aclosing(layer(inner).stream(asked)) as chunks:
        assert await anext(chunks) == CHUNKS[0]
        with pytest.raises(UpstreamError, match="gone"):
            await anext(chunks)
        assert inner.ended == 1


async def test_it_is_left_early(
    wrap: tuple[Callable[[Backend], Backend], GenerationRequest],
) -> None:
    layer, asked = wrap
    inner = FakeBackend(CHUNKS)
    async with aclosing(layer(inner).stream(asked)) as chunks:
        await anext(chunks)
    assert inner.ended == 1


@pytest.mark.parametrize("before", [0, 1])
async def test_it_is_cancelled(
    wrap: tuple[Callable[[Backend], Backend], GenerationRequest], before: int
) -> None:
    layer, asked = wrap
    inner = FakeBackend([*CHUNKS[:before], FakeBackend.SILENCE])

    async def work() -> None:
        async with aclosing(layer(inner).stream(asked)) as chunks:
            async for _ in chunks:
                pass

    task = asyncio.create_task(work())
    await inner.waiting.wait()
    task.cancel()
    await asyncio.wait([task])
    assert (task.cancelled(), inner.ended) == (True, 1)
