"""Requests with many inputs are split into small calls; one that fails cancels the others."""

import asyncio
from collections.abc import Sequence

import pytest

from maxgate.errors import UpstreamError
from maxgate.generation.backend import EmbeddingRequest
from maxgate.generation.request import TokenIds
from maxgate.upstream.embedder import BatchingLayer
from maxgate.upstream.settings import UpstreamSettings
from tests.fakes.embedder import FakeEmbedder
from tests.fakes.requests import request_context, served_model


def request(lengths: Sequence[int]) -> EmbeddingRequest:
    """Return a request for prompts of these lengths."""
    prompts = tuple(TokenIds.of([1] * length) for length in lengths)
    return EmbeddingRequest(served_model(), [[1]] * len(prompts), request_context(), prompts)


def layer(inner: FakeEmbedder, *, concurrency: int = 2) -> BatchingLayer:
    """Return a layer with a batch size of 3."""
    settings = UpstreamSettings(embedding_batch=3, embedding_concurrency=concurrency)
    return BatchingLayer(inner, settings)


async def test_small_request() -> None:
    """A small request is one call."""
    inner = FakeEmbedder()
    await layer(inner).embed(request([5, 1, 3]))
    assert inner.calls == [[5, 1, 3]]


async def test_batches() -> None:
    """Inputs are batched by length; vectors are returned in the order of the inputs."""
    inner = FakeEmbedder()
    lengths = [7, 1, 9, 2, 8, 1, 3]
    embeddings = await layer(inner).embed(request(lengths))
    assert inner.calls == [[1, 1, 2], [3, 7, 8], [9]]
    assert [vector[0] for vector in embeddings.vectors] == lengths


@pytest.mark.parametrize("concurrency", [1, 2, 5])
async def test_concurrency(concurrency: int) -> None:
    """At most `embedding_concurrency` calls run at once."""
    inner = FakeEmbedder()
    await layer(inner, concurrency=concurrency).embed(request([1] * 30))
    assert (inner.most, len(inner.calls)) == (concurrency, 10)


async def test_failed_call() -> None:
    """A failed call cancels the others."""
    inner = FakeEmbedder(fails=2, hang=True)
    with pytest.raises(UpstreamError, match="boom"):
        await layer(inner).embed(request([1] * 30))
    assert (len(inner.calls), inner.cancelled, inner.running) == (2, 1, 0)


async def test_cancelled() -> None:
    """Cancelling a request cancels all of its calls."""
    inner = FakeEmbedder(hang=True)
    work = asyncio.create_task(layer(inner).embed(request([1] * 30)))
    await inner.two_run.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert (inner.cancelled, inner.running) == (2, 0)
