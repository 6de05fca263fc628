"""A stream is collected completely, or collecting raises."""

import pytest

from maxgate.errors import UpstreamError
from maxgate.generation.chunk import Chunk, Usage
from maxgate.generation.collect import CompletedChoice, Completion, collect
from tests.fakes.backend import FakeBackend
from tests.fakes.requests import generation_request


async def test_collect() -> None:
    """Texts are joined; the last usage counts."""
    backend = FakeBackend(
        [Chunk("a", usage=Usage(1, 1)), Chunk("b", "stop"), Chunk(usage=Usage(1, 3))]
    )
    assert await collect(backend, generation_request()) == Completion(
        (CompletedChoice("ab", "stop"),), Usage(1, 3)
    )


async def test_missing_finish_reason() -> None:
    """A stream without a finish reason is an error."""
    backend = FakeBackend([Chunk("a", usage=Usage(1, 1))])
    with pytest.raises(UpstreamError):
        await collect(backend, generation_request())


async def test_failure() -> None:
    """The stream is closed when it fails."""
    backend = FakeBackend([Chunk("a"), UpstreamError("gone")])
    with pytest.raises(UpstreamError, match="gone"):
        await collect(backend, generation_request())
    assert backend.ended == 1
