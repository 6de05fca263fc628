"""The two seams: a Backend generates text, an Embedder makes vectors. Layers wrap either."""

from array import array
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

from maxgate.generation.catalog import ServedModel
from maxgate.generation.chunk import Chunk
from maxgate.generation.context import RequestContext
from maxgate.generation.request import GenerationRequest, TokenIds


class Backend(Protocol):
    """Generates responses."""

    def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        """Stream the response's chunks in order; without `request.stream` there is one chunk.

        The stream owns what it acquires (a slot, a connection) and releases it before the call
        returns that ends, closes or cancels the stream; so consumers close it with `aclosing`.

        Raises GatewayError, before the first chunk if at all possible.
        """
        ...


Vector: TypeAlias = "array[float]"
"""Float32 values, one per dimension of the model."""


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """Inputs to embed, each a text or its token ids.

    The prompts layer fills in `prompts`: the token ids of the inputs, special tokens included.
    """

    model: ServedModel
    inputs: Sequence[str | Sequence[int]]
    context: RequestContext
    prompts: tuple[TokenIds, ...] = ()


class Embeddings(NamedTuple):
    """A vector of length 1 for each input, in order.

    `prompt_tokens` includes the special tokens.
    """

    vectors: tuple[Vector, ...]
    prompt_tokens: int


class Embedder(Protocol):
    """Turns inputs into vectors."""

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Embed all inputs; if one fails, the call fails.

        The call releases what it acquires before it ends, even when it is cancelled.

        Raises GatewayError.
        """
        ...
