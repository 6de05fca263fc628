"""The contract of every layer: it ends as its inner stream ends, and closes it at once."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import pytest

from maxgate.errors import UpstreamError
from maxgate.fan_out.layer import FanOutLayer
from maxgate.generation.backend import Backend
from maxgate.generation.catalog import Capabilities
from maxgate.generation.chunk import Chunk, Usage
from maxgate.generation.request import GenerationRequest, JsonOutput, Tool, ToolUse
from maxgate.pipeline import build_pipeline, layers
from maxgate.prompts.layer import PromptLayer
from maxgate.structured_output.layer import StructuredOutputLayer
from maxgate.telemetry.layer import TelemetryLayer
from maxgate.tool_calling.layer import ToolCallingLayer, ToolParserLayer
from tests.fakes.backend import FakeBackend
from tests.fakes.clock import FakeClock
from tests.fakes.guardrails import build_guardrails
from tests.fakes.requests import generation_request, served_model

FIRST, LAST = Chunk('{"a":'), Chunk(" 1}", "stop", Usage(1, 2))
WHOLE = Chunk('{"a": 1}', "stop", Usage(1, 2))
PLAIN = generation_request(stream=True)
JSON = PLAIN._replace(output=JsonOutput({}))
STRICT = PLAIN._replace(tool_use=ToolUse((Tool("f", "", {"type": "object"}, strict=True),)))
FORCED = PLAIN._replace(
    tool_use=ToolUse((Tool("f", "", {}),), forced=("f",)),
)
GRAMMAR = replace(served_model(), capabilities=Capabilities(grammar=True))
RETRY = replace(served_model(), structured_output="retry")


class Case(NamedTuple):
    """A layer and a request that it handles.

    `output` is the whole output for the inner chunks FIRST and LAST, `output_before_failure` the
    output if the inner stream fails after FIRST. `streams` is the number of inner streams.
    """

    layer: Callable[[Backend], Backend]
    request: GenerationRequest
    output: Sequence[Chunk] = (FIRST, LAST)
    output_before_failure: Sequence[Chunk] = (FIRST,)
    streams: int = 1


telemetry = partial(TelemetryLayer, clock=FakeClock())
prompts = partial(PromptLayer, formats={})
tool_calling = partial(ToolCallingLayer, formats={})
tool_parser = partial(ToolParserLayer, formats={})
guardrails = build_guardrails(
    {"kind": "words", "words": ["falcon"]}, {"name": "b", "kind": "secrets"}
).wrap_backend
whole_pipeline = partial(build_pipeline, layers(clock=FakeClock(), formats={}))
CASES = {
    "telemetry": Case(telemetry, PLAIN),
    "guardrails": Case(guardrails, PLAIN),
    "one choice": Case(FanOutLayer, PLAIN),
    "two choices": Case(
        FanOutLayer,
        PLAIN._replace(n=2),
        [FIRST, LAST, replace(FIRST, choice=1), replace(LAST, choice=1, usage=Usage(1, 4))],
        [FIRST, replace(FIRST, choice=1)],
        streams=2,
    ),
    "strict tools": Case(tool_calling, STRICT),
    "strict tools, not streamed": Case(
        tool_calling, STRICT._replace(stream=False), output_before_failure=()
    ),
    "forced tool": Case(tool_calling, FORCED._replace(model=GRAMMAR)),
    "tool parser": Case(tool_parser, STRICT),
    "tool parser without tools": Case(tool_parser, PLAIN),
    "structured output by grammar": Case(StructuredOutputLayer, JSON._replace(model=GRAMMAR)),
    "structured output by retry": Case(
        StructuredOutputLayer, JSON._replace(model=RETRY), [WHOLE], output_before_failure=()
    ),
    "prompts": Case(prompts, PLAIN),
    "prompts with stop strings": Case(prompts, generation_request(stream=True, stop=("never",))),
    "whole pipeline": Case(whole_pipeline, PLAIN),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    """Each layer in turn."""
    return CASES[request.param]


def test_all_layers() -> None:
    """A layer added to the pipeline must be added to this suite."""
    inner = FakeBackend([])
    built = {
        type(layer(inner)) for layer in layers(clock=FakeClock(), formats={}, guardrails=guardrails)
    }
    assert built == {type(case.layer(inner)) for case in CASES.values()}


@pytest.mark.parametrize(
    "layer", [FanOutLayer, tool_calling, StructuredOutputLayer, tool_parser, prompts]
)
async def test_pass_through(layer: Callable[[Backend], Backend]) -> None:
    """A layer with nothing to do returns the inner stream itself, at no cost per chunk."""
    stream = FakeBackend([]).stream(PLAIN)

    class FixedStream(Backend):
        def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
            assert request is PLAIN
            return stream

    assert layer(FixedStream()).stream(PLAIN) is stream
    await stream.aclose()


async def test_finish(case: Case) -> None:
    """The inner stream is closed by the time the last chunk has been read."""
    inner = FakeBackend([FIRST, LAST])
    async with aclosing(case.layer(inner).stream(case.request)) as chunks:
        output = [chunk async for chunk in chunks]
        assert inner.ended == case.streams
    assert sorted(output, key=lambda chunk: chunk.choice) == list(case.output)
    assert inner.ended == case.streams


async def test_failure(case: Case) -> None:
    """The inner error is raised after the chunks before it, with the inner stream closed."""
    inner = FakeBackend([FIRST, UpstreamError("gone")])
    output = []
    async with aclosing(case.layer(inner).stream(case.request)) as chunks:
        with pytest.raises(UpstreamError, match="gone"):
            async for chunk in chunks:
                output.append(chunk)  # noqa: PERF401  # a comprehension would lose them
        assert inner.ended == case.streams
    assert sorted(output, key=lambda chunk: chunk.choice) == list(case.output_before_failure)
    assert inner.ended == case.streams


async def test_early_close(case: Case) -> None:
    """Closing the layer's stream closes the inner one."""
    inner = FakeBackend([FIRST, LAST])
    async with aclosing(case.layer(inner).stream(case.request)) as chunks:
        await anext(chunks)
    assert inner.ended == case.streams


@pytest.mark.parametrize("before", [0, 1])
async def test_cancellation(case: Case, before: int) -> None:
    """Cancelling the reader closes the inner stream, before and after its first chunk."""
    inner = FakeBackend([*(FIRST, LAST)[:before], FakeBackend.SILENCE])

    async def read() -> None:
        async with aclosing(case.layer(inner).stream(case.request)) as chunks:
            async for _ in chunks:
                pass

    task = asyncio.create_task(read())
    await inner.waiting.wait()
    task.cancel()
    await asyncio.wait([task])
    assert (task.cancelled(), inner.ended) == (True, case.streams)
