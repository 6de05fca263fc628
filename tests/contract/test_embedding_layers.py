"""The contract of every embedding layer: it ends as its inner calls end, and none is left."""

import asyncio
from array import array
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import pytest

from maxgate.errors import UpstreamError
from maxgate.generation.backend import Embedder, EmbeddingRequest, Embeddings
from maxgate.generation.request import TokenIds
from maxgate.pipeline import build_embedding_pipeline, embedding_layers
from maxgate.prompts.embeddings import EmbeddingPromptLayer
from maxgate.telemetry.layer import EmbeddingTelemetryLayer
from maxgate.upstream.embedder import BatchingLayer
from maxgate.upstream.settings import UpstreamSettings
from tests.fakes.embedder import FakeEmbedder
from tests.fakes.requests import request_context, served_model

LENGTHS = (2, 1, 3)
VECTORS = tuple(array("f", [length]) for length in LENGTHS)
ONE_BY_ONE = UpstreamSettings(embedding_batch_size=1, embedding_concurrency=1)


class IdsFormat:
    """A format that accepts token ids unchanged."""

    def check(self, ids: Sequence[int], index: int) -> TokenIds:
        """Return the ids unchanged."""
        return TokenIds.of(list(ids))


def find_format(_: object) -> Any:
    """Return the same format for every model."""
    return IdsFormat()


def embedding_request() -> EmbeddingRequest:
    """One input of each of LENGTHS, prompts included."""
    inputs = [[7] * length for length in LENGTHS]
    return EmbeddingRequest(
        served_model(), inputs, request_context(), tuple(map(TokenIds.of, inputs))
    )


class Case(NamedTuple):
    """A layer, the number of inner calls it makes, and the tokens it counts."""

    layer: Callable[[Embedder], Embedder]
    calls: int = 1
    tokens: int = sum(LENGTHS)


LAYERS = embedding_layers(find_format=find_format, upstream=ONE_BY_ONE)
CASES = {
    "telemetry": Case(EmbeddingTelemetryLayer),
    "prompts": Case(partial(EmbeddingPromptLayer, find_format=find_format)),
    "one batch": Case(partial(BatchingLayer, settings=UpstreamSettings(embedding_batch_size=8))),
    "a batch for each input": Case(partial(BatchingLayer, settings=ONE_BY_ONE), calls=3, tokens=0),
    "whole pipeline": Case(partial(build_embedding_pipeline, LAYERS), calls=3),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    """Each layer in turn."""
    return CASES[request.param]


def test_all_layers() -> None:
    """A layer added to the pipeline must be added to this suite."""
    inner = FakeEmbedder()
    built = {type(layer(inner)) for layer in LAYERS}
    assert built == {type(case.layer(inner)) for case in CASES.values()}


async def test_finish(case: Case) -> None:
    """The vectors are returned in the order of the inputs."""
    inner = FakeEmbedder()
    response = await case.layer(inner).embed(embedding_request())
    assert response == Embeddings(VECTORS, case.tokens)
    assert (inner.ended, inner.running) == (case.calls, 0)


@pytest.mark.parametrize("number", [1, 2])
async def test_failure(case: Case, number: int) -> None:
    """The error of any inner call is raised, and no further call is made."""
    inner = FakeEmbedder(fails=min(number, case.calls))
    with pytest.raises(UpstreamError, match="boom"):
        await case.layer(inner).embed(embedding_request())
    assert (inner.ended, inner.running) == (min(number, case.calls), 0)


async def test_cancellation(case: Case) -> None:
    """Cancelling the caller cancels the inner call."""
    inner = FakeEmbedder(hang=True)
    task = asyncio.create_task(case.layer(inner).embed(embedding_request()))
    await inner.first_started.wait()
    task.cancel()
    await asyncio.wait([task])
    assert (task.cancelled(), inner.cancelled, inner.ended, inner.running) == (True, 1, 1, 0)
