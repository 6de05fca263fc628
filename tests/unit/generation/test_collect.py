"""A stream is folded into its result, or it is an error; never something in between."""

import pytest

from maxgate.errors import UpstreamError
from maxgate.generation.chunk import Chunk, Usage
from maxgate.generation.collect import CompletedChoice, Completion, collect
from tests.fakes.backend import FakeBackend
from tests.fakes.requests import generation_request


async def test_chunks_become_one_answer() -> None:
    backend = FakeBackend(
        [Chunk("a", usage=Usage(1, 1)), Chunk("b", "stop"), Chunk(usage=Usage(1, 3))]
    )
    assert await collect(backend, generation_request()) == Completion(
        (CompletedChoice("ab", "stop"),), Usage(1, 3)
    )


async def test_a_stream_that_does_not_say_why_it_ended_is_an_error() -> None:
    backend = FakeBackend([Chunk("a", usage=Usage(1, 1))])
    with pytest.raises(UpstreamError):
        await collect(backend, generation_request())


async def test_the_stream_is_closed_when_it_fails() -> None:
    backend = FakeBackend([Chunk("a"), UpstreamError("gone")])
    with pytest.raises(UpstreamError, match="gone"):
        await collect(backend, generation_request())
    assert backend.ended == 1
