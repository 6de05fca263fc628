"""The way of a request, from the outside in. Open this file first.

A request enters at `api/`, which validates it and asks `Backend.stream` for the answer's chunks.
The backend it asks is the first of these layers; each wraps the next. Embeddings have a shorter
list of their own, around an `Embedder`. What a layer does before and
after stands in its own file, and why they stand in this order in
docs/decisions/0002-order-of-layers.md. A layer that is switched off is absent from the list.
"""

from collections.abc import Callable, Sequence
from functools import partial, reduce

from maxgate.clock import Clock
from maxgate.fan_out.layer import ChoicesLayer
from maxgate.generation.backend import Backend, Embedder
from maxgate.prompts.embeddings import EmbeddingFormatOf, EmbeddingPromptLayer
from maxgate.prompts.layer import FormatOf, PromptLayer
from maxgate.structured_output.layer import StructuredLayer
from maxgate.telemetry.layer import EmbeddingTelemetryLayer, TelemetryLayer
from maxgate.tool_calling.strict import StrictCallsLayer
from maxgate.upstream.embedder import BatchingLayer
from maxgate.upstream.settings import UpstreamSettings

Layer = Callable[[Backend], Backend]
EmbeddingLayer = Callable[[Embedder], Embedder]


def layers(*, clock: Clock, format_of: FormatOf) -> Sequence[Layer]:
    """The layers around the upstream, outermost first."""
    return [
        partial(TelemetryLayer, clock=clock),  # start the clock / note tokens and times
        ChoicesLayer,  # one request per answer / their chunks as one stream
        StrictCallsLayer,  # - / calls of strict tools checked, and asked for again
        StructuredLayer,  # the schema to the grammar / or answers checked, and asked for again
        partial(
            PromptLayer, format_of=format_of
        ),  # messages to token ids / stop strings and tool calls
    ]


def build_pipeline(layers: Sequence[Layer], upstream: Backend) -> Backend:
    """One backend of them all; `upstream` is the one that asks the engines."""
    return reduce(lambda inner, layer: layer(inner), reversed(layers), upstream)


def embedding_layers(
    *, format_of: EmbeddingFormatOf, upstream: UpstreamSettings
) -> Sequence[EmbeddingLayer]:
    """The layers around the upstream of embeddings, outermost first."""
    return [
        EmbeddingTelemetryLayer,  # note tokens
        partial(EmbeddingPromptLayer, format_of=format_of),  # inputs to token ids, checked
        partial(BatchingLayer, settings=upstream),  # many inputs in calls of a few
    ]


def build_embedding_pipeline(layers: Sequence[EmbeddingLayer], upstream: Embedder) -> Embedder:
    """One embedder of them all; `upstream` is the one that asks the engines."""
    return reduce(lambda inner, layer: layer(inner), reversed(layers), upstream)
