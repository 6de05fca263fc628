"""Texts to vectors: what is asked, what comes back, and who answers."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

from maxgate.generation.catalog import ServedModel
from maxgate.generation.request import TokenIds
from maxgate.generation.trace import RequestTrace

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
    trace: RequestTrace
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
