"""Fan-out: one request per choice, merged into one stream."""

from contextlib import aclosing

import pytest

from maxgate.errors import UpstreamError
from maxgate.fan_out.layer import FanOutLayer
from maxgate.generation.chunk import Chunk, Usage
from maxgate.generation.collect import CompletedChoice, Completion, collect
from tests.fakes.backend import FakeBackend
from tests.fakes.requests import generation_request


async def test_choices() -> None:
    """Each choice has its own seed; usage counts the prompt once."""
    inner = FakeBackend([Chunk("a", "stop", Usage(9, 2))], [Chunk("b", "stop", Usage(9, 3))])
    request = generation_request(seed=5)._replace(n=2)
    assert await collect(FanOutLayer(inner), request) == Completion(
        (CompletedChoice("a", "stop"), CompletedChoice("b", "stop")), Usage(9, 5)
    )
    assert [(one.n, one.sampling.seed) for one in inner.requests] == [(1, 5), (1, 6)]
    assert all(one.context is request.context for one in inner.requests)


async def test_one_choice() -> None:
    """A request for one choice passes unchanged."""
    inner = FakeBackend([Chunk("a", "stop", Usage(9, 2), has_more=True)])
    request = generation_request()
    async with aclosing(FanOutLayer(inner).stream(request)) as chunks:
        assert [chunk async for chunk in chunks] == [Chunk("a", "stop", Usage(9, 2), has_more=True)]
    assert inner.requests == [request]


async def test_has_more() -> None:
    """No chunk of several choices waits for the next one."""
    inner = FakeBackend([Chunk("a", has_more=True), Chunk("", "stop", Usage(9, 2))])
    request = generation_request()._replace(n=2)
    async with aclosing(FanOutLayer(inner).stream(request)) as chunks:
        assert not any([chunk.has_more async for chunk in chunks])


async def test_failure() -> None:
    """If one choice fails, the others are cancelled."""
    inner = FakeBackend([FakeBackend.SILENCE], [UpstreamError("gone")])
    with pytest.raises(UpstreamError, match="gone"):
        await collect(FanOutLayer(inner), generation_request()._replace(n=2))
    assert inner.ended == 2
