"""The prompts layer of embeddings: inputs to token ids, checked and counted."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from maxgate.generation.catalog import ServedModel
from maxgate.generation.embedding import Embedder, EmbeddingRequest, Embeddings
from maxgate.generation.request import TokenIds
from maxgate.prompts.embedding_format import EmbeddingFormat

# This much takes a few milliseconds; more would keep other requests waiting.
_ITEMS_ON_THE_LOOP: Final = 8_000

EmbeddingFormatOf = Callable[[ServedModel], EmbeddingFormat]


class EmbeddingPromptLayer:
    """Asks only for ids of the model's own vocabulary that fit into its context.

    Raises InvalidRequest and InputTooLong before any engine is asked, and what `format_of` raises.
    """

    def __init__(self, inner: Embedder, format_of: EmbeddingFormatOf) -> None:
        self._inner = inner
        self._format_of = format_of

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """The inner vectors, with the tokens counted here."""
        form = self._format_of(request.model)
        if sum(map(len, request.inputs)) <= _ITEMS_ON_THE_LOOP:
            prompts = _prompts(request, form)
        else:
            prompts = await asyncio.to_thread(_prompts, request, form)
        answer = await self._inner.embed(replace(request, prompts=prompts))
        return answer._replace(prompt_tokens=sum(prompt.length for prompt in prompts))


def _prompts(request: EmbeddingRequest, form: EmbeddingFormat) -> tuple[TokenIds, ...]:
    return tuple(
        form.encode(item, index) if isinstance(item, str) else form.take(item, index)
        for index, item in enumerate(request.inputs)
    )
