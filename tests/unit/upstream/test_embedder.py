"""Requests with many inputs are split into small calls; one that fails cancels the others."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

import pytest

from maxgate.errors import UpstreamError, UpstreamUnavailable
from maxgate.generation.backend import EmbeddingRequest
from maxgate.generation.context import MAX_RETRIES
from maxgate.generation.request import TokenIds
from maxgate.upstream.embedder import BatchingLayer, UpstreamEmbedder
from maxgate.upstream.http1.transport import EngineTransport
from maxgate.upstream.pool import ReplicaPool
from maxgate.upstream.replica import EngineModel, Replica
from maxgate.upstream.settings import UpstreamSettings
from tests.fakes.embedder import FakeEmbedder
from tests.fakes.raw_server import RawServer, serving_bytes
from tests.fakes.requests import request_context, served_model


def request(lengths: Sequence[int]) -> EmbeddingRequest:
    """Return a request for prompts of these lengths."""
    prompts = tuple(TokenIds.of([1] * length) for length in lengths)
    return EmbeddingRequest(served_model(), [[1]] * len(prompts), request_context(), prompts)


def layer(inner: FakeEmbedder, *, concurrency: int = 2) -> BatchingLayer:
    """Return a layer with a batch size of 3."""
    settings = UpstreamSettings(embedding_batch_size=3, embedding_concurrency=concurrency)
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
    assert (inner.max_running, len(inner.calls)) == (concurrency, 10)


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
    await inner.second_started.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert (inner.cancelled, inner.running) == (2, 0)


async def test_shared_allowance() -> None:
    """All calls of a request draw on one retry allowance."""
    engine, settings = RawServer([b""] * 20), UpstreamSettings(embedding_batch_size=1)
    async with serving_bytes(engine) as url, aclosing(EngineTransport(settings)) as transport:
        replica = Replica(url)
        replica.mark_healthy({"small-on-max": EngineModel("small-on-max", 1, 100)})
        inner = UpstreamEmbedder(ReplicaPool([replica], transport, settings))
        sent = request([1] * 10)
        with pytest.raises(UpstreamUnavailable):
            await BatchingLayer(inner, settings).embed(sent)
    assert sent.context.record.engine_calls <= settings.embedding_concurrency + MAX_RETRIES
    assert sent.context.retries.remaining == 0
