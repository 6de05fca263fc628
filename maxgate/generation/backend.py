"""The one seam: everything that generates, and everything that wraps what generates."""

from array import array
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

from maxgate.generation.catalog import ServedModel
from maxgate.generation.chunk import Chunk
from maxgate.generation.context import RequestContext
from maxgate.generation.request import GenerationRequest, TokenIds


class Backend(Protocol):
    """Answers a request piece by piece."""

    def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        """The answer's chunks, in order; a request that does not stream gets one chunk.

        What the stream holds (a slot, a connection) it gives back when it ends, fails, is closed
        or is cancelled, before that call returns; so consumers close it with `aclosing`.

        Raises GatewayError, before the first chunk where at all possible.
        """
        ...


Vector: TypeAlias = "array[float]"
"""Float32 values, as many as the model has dimensions."""


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """Inputs to be embedded, each a text or the token ids of one.

    `prompts` are filled in by the prompts layer: the same inputs as the model sees them, with its
    special tokens.
    """

    model: ServedModel
    inputs: Sequence[str | Sequence[int]]
    context: RequestContext
    prompts: tuple[TokenIds, ...] = ()


class Embeddings(NamedTuple):
    """A vector of length 1 for each input, in order.

    `prompt_tokens` counts what the model saw, its special tokens included.
    """

    vectors: tuple[Vector, ...]
    prompt_tokens: int


class Embedder(Protocol):
    """Turns inputs into vectors; what wraps an Embedder is one, too."""

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """The vectors of all inputs, or none: one that fails, fails all.

        What the call holds it gives back before it ends, also where it is cancelled.

        Raises GatewayError.
        """
        ...
