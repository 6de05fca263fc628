"""The layers that every request passes through, outermost first. Open this file first.

A request enters at `api/`, which validates it and calls `Backend.stream`. The backend is a stack of
layers: each wraps the next, and the innermost calls an engine. Embeddings have a shorter stack
around `Embedder`. docs/decisions/0002-order-of-layers.md gives the reason for each position. Guards
that are switched off are absent from the list.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce

from maxgate.clock import Clock
from maxgate.fan_out.layer import FanOutLayer
from maxgate.generation.backend import Backend, Embedder
from maxgate.generation.guard import EmbeddingGuardLayer, Guard, GuardLayer
from maxgate.prompts.chat_format import ChatFormat
from maxgate.prompts.embeddings import EmbeddingPromptLayer, FindEmbeddingFormat
from maxgate.prompts.layer import PromptLayer
from maxgate.structured_output.layer import StructuredOutputLayer
from maxgate.telemetry.layer import EmbeddingTelemetryLayer, TelemetryLayer
from maxgate.tool_calling.layer import ToolCallingLayer, ToolParserLayer
from maxgate.upstream.embedder import BatchingLayer
from maxgate.upstream.settings import UpstreamSettings

Layer = Callable[[Backend], Backend]
EmbeddingLayer = Callable[[Embedder], Embedder]


def layers(
    *,
    clock: Clock,
    formats: Mapping[str, ChatFormat],
    guards: Sequence[Guard] = (),
    tracing: Layer | None = None,
    guardrails: Layer | None = None,
    limits: Sequence[Layer] = (),
) -> Sequence[Layer]:
    """Return the layers around the upstream backend, outermost first.

    `formats` maps the engine's names of models to their chat formats. `limits` bound the output of
    requests.
    """
    return [
        partial(TelemetryLayer, clock=clock),  # start the clock / count tokens and times
        *([] if tracing is None else [tracing]),  # note parameters / note finish reasons
        *([] if guardrails is None else [guardrails]),  # check the input / filter the output
        FanOutLayer,  # one request per choice / merge their chunks
        partial(ToolCallingLayer, formats=formats),  # force a call / validate strict calls, retry
        StructuredOutputLayer,  # schema to grammar / or validate the JSON, retry
        partial(ToolParserLayer, formats=formats),  # tools to messages / parse calls
        partial(PromptLayer, formats=formats),  # messages to token ids / stop strings
        *limits,  # clamp the output / -
        *[partial(GuardLayer, guard=guard) for guard in guards],  # admit / settle or release
    ]


def build_pipeline(layers: Sequence[Layer], upstream: Backend) -> Backend:
    """Stack the layers on `upstream`, the backend that calls the engines."""
    return reduce(lambda inner, layer: layer(inner), reversed(layers), upstream)


def embedding_layers(
    *,
    find_format: FindEmbeddingFormat,
    upstream: UpstreamSettings,
    guards: Sequence[Guard] = (),
    guardrails: EmbeddingLayer | None = None,
) -> Sequence[EmbeddingLayer]:
    """Return the layers around the upstream embedder, outermost first."""
    return [
        EmbeddingTelemetryLayer,  # - / count tokens
        *([] if guardrails is None else [guardrails]),  # check the inputs / -
        partial(EmbeddingPromptLayer, find_format=find_format),  # inputs to token ids / -
        *[partial(EmbeddingGuardLayer, guard=guard) for guard in guards],  # admit / settle
        partial(BatchingLayer, settings=upstream),  # split into small calls / join the vectors
    ]


def build_embedding_pipeline(layers: Sequence[EmbeddingLayer], upstream: Embedder) -> Embedder:
    """Stack the layers on `upstream`, the embedder that calls the engines."""
    return reduce(lambda inner, layer: layer(inner), reversed(layers), upstream)
