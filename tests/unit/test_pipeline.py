"""The order of the layers is the list in pipeline.py."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

from maxgate.fan_out.layer import FanOutLayer
from maxgate.generation.backend import Backend
from maxgate.generation.chunk import Chunk
from maxgate.generation.request import GenerationRequest
from maxgate.pipeline import (
    build_embedding_pipeline,
    build_pipeline,
    embedding_layers,
    layers,
)
from maxgate.prompts.embeddings import EmbeddingPromptLayer
from maxgate.prompts.layer import PromptLayer
from maxgate.structured_output.layer import StructuredOutputLayer
from maxgate.telemetry.layer import EmbeddingTelemetryLayer, TelemetryLayer
from maxgate.tool_calling.strict import StrictCallsLayer
from maxgate.upstream.embedder import BatchingLayer
from maxgate.upstream.settings import UpstreamSettings
from tests.fakes.backend import FakeBackend
from tests.fakes.clock import FakeClock
from tests.fakes.embedder import FakeEmbedder
from tests.fakes.requests import generation_request


class TracingLayer:
    """Appends its name to `entered` for each request."""

    def __init__(self, inner: Backend, *, name: str, entered: list[str]) -> None:
        self._inner = inner
        self._name = name
        self._entered = entered

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        self._entered.append(self._name)
        async with aclosing(self._inner.stream(request)) as chunks:
            async for chunk in chunks:
                yield chunk


def test_layers() -> None:
    """The layers of generation, outermost first."""
    inner = FakeBackend([])
    built = layers(clock=FakeClock(), format_of=lambda _: None)
    assert [type(layer(inner)) for layer in built] == [
        TelemetryLayer,
        FanOutLayer,
        StrictCallsLayer,
        StructuredOutputLayer,
        PromptLayer,
    ]


def test_embedding_layers() -> None:
    """The layers of embeddings, outermost first."""
    inner = FakeEmbedder()
    built = embedding_layers(format_of=lambda _: None, upstream=UpstreamSettings())
    assert [type(layer(inner)) for layer in built] == [
        EmbeddingTelemetryLayer,
        EmbeddingPromptLayer,
        BatchingLayer,
    ]


async def test_build_pipeline() -> None:
    """A request passes the first layer of the list first, and the upstream backend last."""
    entered: list[str] = []
    upstream = FakeBackend([Chunk("a", "stop")])
    traced = [partial(TracingLayer, name=name, entered=entered) for name in ("outer", "inner")]
    async with aclosing(build_pipeline(traced, upstream).stream(generation_request())) as chunks:
        assert [chunk async for chunk in chunks] == [Chunk("a", "stop")]
    assert (entered, len(upstream.requests)) == (["outer", "inner"], 1)


def test_build_embedding_pipeline() -> None:
    """The first layer of the list is built last, around all others."""
    built: list[str] = []

    def name_layer(inner: FakeEmbedder, name: str) -> FakeEmbedder:
        built.append(name)
        return inner

    upstream = FakeEmbedder()
    named = [partial(name_layer, name=name) for name in ("outer", "inner")]
    assert build_embedding_pipeline(named, upstream) is upstream
    assert built == ["inner", "outer"]
