"""Many inputs become calls of a few, and one that fails ends all."""

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
    prompts = tuple(TokenIds.of([1] * length) for length in lengths)
    return EmbeddingRequest(served_model(), [[1]] * len(prompts), request_context(), prompts)


def layer(inner: FakeEmbedder, *, concurrency: int = 2) -> BatchingLayer:
    settings = UpstreamSettings(embedding_batch_size=3, embedding_concurrency=concurrency)
    return BatchingLayer(inner, settings)


async def test_a_few_are_one_call() -> None:
    inner = FakeEmbedder()
    await layer(inner).embed(request([5, 1, 3]))
    assert inner.calls == [[5, 1, 3]]


async def test_many_are_sorted_by_length_and_come_back_in_order() -> None:
    inner = FakeEmbedder()
    lengths = [7, 1, 9, 2, 8, 1, 3]
    answer = await layer(inner).embed(request(lengths))
    assert inner.calls == [[1, 1, 2], [3, 7, 8], [9]]
    assert [vector[0] for vector in answer.vectors] == lengths


@pytest.mark.parametrize("concurrency", [1, 2, 5])
async def test_only_some_calls_run_at_once(concurrency: int) -> None:
    inner = FakeEmbedder()
    await layer(inner, concurrency=concurrency).embed(request([1] * 30))
    assert (inner.most, len(inner.calls)) == (concurrency, 10)


async def test_one_that_fails_ends_the_others() -> None:
    inner = FakeEmbedder(fails=2, hang=True)
    with pytest.raises(UpstreamError, match="boom"):
        await layer(inner).embed(request([1] * 30))
    assert (len(inner.calls), inner.cancelled, inner.running) == (2, 1, 0)


async def test_being_cancelled_ends_all() -> None:
    inner = FakeEmbedder(hang=True)
    work = asyncio.create_task(layer(inner).embed(request([1] * 30)))
    await inner.two_run.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert (inner.cancelled, inner.running) == (2, 0)
