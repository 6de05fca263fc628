"""The order of the layers, and the bound on engine calls that they share."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import replace
from functools import partial

import pytest
from typing_extensions import override

from maxgate.fan_out.layer import FanOutLayer
from maxgate.generation.backend import Backend, Embedder
from maxgate.generation.chunk import Chunk, Usage
from maxgate.generation.errors import OutputValidationFailed
from maxgate.generation.request import GenerationRequest, JsonOutput, Tool, ToolUse
from maxgate.guardrails.layer import EmbeddingGuardrailLayer, GuardrailLayer
from maxgate.pipeline import (
    build_embedding_pipeline,
    build_pipeline,
    embedding_layers,
    layers,
)
from maxgate.prompts.chatml import ChatMLFormat
from maxgate.prompts.embeddings import EmbeddingPromptLayer
from maxgate.prompts.layer import PromptLayer
from maxgate.prompts.tokenizer import PromptTokenizer
from maxgate.structured_output.layer import StructuredOutputLayer
from maxgate.telemetry.layer import EmbeddingTelemetryLayer, TelemetryLayer
from maxgate.tool_calling.layer import ToolCallingLayer, ToolParserLayer
from maxgate.upstream.embedder import BatchingLayer
from maxgate.upstream.settings import UpstreamSettings
from tests.fakes.backend import FakeBackend
from tests.fakes.clock import FakeClock
from tests.fakes.embedder import FakeEmbedder
from tests.fakes.guardrails import build_guardrails
from tests.fakes.requests import generation_request, served_model

NUMBER = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
RETRY = replace(served_model(context_length=10_000), structured_output="retry")
TEXT = Chunk("No JSON here", "stop", Usage(9, 3))
CALL = Chunk('{"name": "f", "parameters": {"b": 1}}', "stop", Usage(9, 3))
STRICT = ToolUse((Tool("f", "", NUMBER, strict=True),))
JSON = JsonOutput(NUMBER)


class TracingLayer(Backend):
    """Appends its name to `entered` for each request."""

    def __init__(self, inner: Backend, *, name: str, entered: list[str]) -> None:
        self._inner = inner
        self._name = name
        self._entered = entered

    @override
    def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        self._entered.append(self._name)
        return self._inner.stream(request)


def test_layers() -> None:
    """The layers of generation, outermost first."""
    inner = FakeBackend([])
    assert [type(layer(inner)) for layer in layers(clock=FakeClock(), formats={})] == [
        TelemetryLayer,
        FanOutLayer,
        ToolCallingLayer,
        StructuredOutputLayer,
        ToolParserLayer,
        PromptLayer,
    ]


def test_guardrails() -> None:
    """Guardrails stand directly below telemetry, and are absent without rules."""
    guardrails = build_guardrails({"kind": "secrets"})
    inner, embedder = FakeBackend([]), FakeEmbedder()
    built = layers(clock=FakeClock(), formats={}, guardrails=guardrails.wrap_backend)
    assert [type(layer(inner)) for layer in built[:3]] == [
        TelemetryLayer,
        GuardrailLayer,
        FanOutLayer,
    ]
    around = embedding_layers(
        find_format=lambda _: None,
        upstream=UpstreamSettings(),
        guardrails=guardrails.wrap_embedder,
    )
    assert [type(layer(embedder)) for layer in around[:3]] == [
        EmbeddingTelemetryLayer,
        EmbeddingGuardrailLayer,
        EmbeddingPromptLayer,
    ]


def test_embedding_layers() -> None:
    """The layers of embeddings, outermost first."""
    inner = FakeEmbedder()
    built = embedding_layers(find_format=lambda _: None, upstream=UpstreamSettings())
    assert [type(layer(inner)) for layer in built] == [
        EmbeddingTelemetryLayer,
        EmbeddingPromptLayer,
        BatchingLayer,
    ]


async def test_build_pipeline() -> None:
    """The first layer in the list is the outermost, and the upstream backend the innermost."""
    entered: list[str] = []
    upstream = FakeBackend([TEXT])
    traced = [partial(TracingLayer, name=name, entered=entered) for name in ("outer", "inner")]
    async with aclosing(build_pipeline(traced, upstream).stream(generation_request())) as chunks:
        assert [chunk async for chunk in chunks] == [TEXT]
    assert (entered, len(upstream.requests)) == (["outer", "inner"], 1)


def test_build_embedding_pipeline() -> None:
    """The first layer in the list is built last, around all others."""
    built: list[str] = []

    def trace(inner: Embedder, name: str) -> Embedder:
        built.append(name)
        return inner

    upstream = FakeEmbedder()
    traced = [partial(trace, name=name) for name in ("outer", "inner")]
    assert build_embedding_pipeline(traced, upstream) is upstream
    assert built == ["inner", "outer"]


async def count_engine_calls(
    tokenizer: PromptTokenizer, request: GenerationRequest, *scripts: Iterable[Chunk]
) -> int:
    """Run a request that never validates through the whole pipeline."""
    engine = FakeBackend(*scripts)
    formats = {request.model.engine_name: ChatMLFormat(tokenizer)}
    backend = build_pipeline(layers(clock=FakeClock(), formats=formats), engine)
    with pytest.raises(OutputValidationFailed):
        async with aclosing(backend.stream(request)) as chunks:
            async for _ in chunks:
                pass
    return len(engine.requests)


@pytest.mark.parametrize(("n", "bound"), [(1, 4), (8, 12)])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("tool_use", "output", "scripts"),
    [
        pytest.param(None, JSON, [[TEXT]], id="structured output"),
        pytest.param(STRICT, None, [[CALL]], id="strict tools"),
        pytest.param(STRICT._replace(forced=("f",)), None, [[CALL]], id="forced strict tool"),
        pytest.param(STRICT, JSON, [[TEXT], [CALL]], id="both"),
        pytest.param(STRICT, JSON, [[CALL], [TEXT]], id="both, call first"),
    ],
)
async def test_retry_bound(
    small_tokenizer: PromptTokenizer,
    tool_use: ToolUse | None,
    output: JsonOutput | None,
    scripts: list[list[Chunk]],
    stream: bool,
    n: int,
    bound: int,
) -> None:
    """One client request causes at most n engine calls plus its allowance of retries."""
    request = generation_request(model=RETRY, stream=stream)._replace(
        tool_use=tool_use, output=output, n=n
    )
    assert n <= await count_engine_calls(small_tokenizer, request, *scripts) <= bound


async def test_forced_choice_among_strict_tools(small_tokenizer: PromptTokenizer) -> None:
    """The call that chooses the tool is made once, not once per attempt."""
    other = Tool("g", "", NUMBER, strict=True)
    use = ToolUse((*STRICT.tools, other), forced=("f", "g"))
    request = generation_request(model=RETRY)._replace(tool_use=use)
    script = [Chunk('"}}', "stop", Usage(9, 3))]
    assert await count_engine_calls(small_tokenizer, request, script) == 1 + 3
