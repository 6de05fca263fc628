"""The prompts layer: messages to token ids before, stop strings cut from the text after."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

from maxgate.errors import ContextLengthExceeded
from maxgate.generation.backend import Backend
from maxgate.generation.catalog import ServedModel
from maxgate.generation.events import Chunk
from maxgate.generation.request import GenerationRequest, Message, TokenIds
from maxgate.prompts.format import ChatFormat
from maxgate.prompts.stop import StopTrimmer

# Encoding runs at a few megabytes a second: this much takes a few milliseconds.
_CHARACTERS_ON_THE_LOOP = 16_000

FormatOf = Callable[[ServedModel], ChatFormat | None]


class PromptLayer:
    """Formats prompts for models that have a format here; passes the others on as they came.

    Raises ContextLengthExceeded where prompt and `max_tokens` do not fit, before any engine is
    asked.
    """

    def __init__(self, inner: Backend, format_of: FormatOf) -> None:
        self._inner = inner
        self._format_of = format_of

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        """The answer, without its stop string."""
        chat_format = self._format_of(request.model)
        if chat_format is not None:
            request = await _formatted(request, chat_format)
        stops = request.sampling.stop
        if stops:
            # Only a stream tells how many tokens came before the stop string, and lets the engine
            # go when it is reached.
            chunks = _trimmed(self._inner.stream(replace(request, stream=True)), stops)
        else:
            chunks = self._inner.stream(request)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk


async def _formatted(request: GenerationRequest, chat_format: ChatFormat) -> GenerationRequest:
    messages = request.messages
    if _is_quick(messages) or chat_format.characters_to_encode(messages) <= _CHARACTERS_ON_THE_LOOP:
        prompt = chat_format.encode(messages)
    else:
        prompt = await asyncio.to_thread(chat_format.encode, messages)
    _check_context(request, prompt)
    return replace(request, prompt=prompt, stop_token_ids=chat_format.stop_token_ids)


def _is_quick(messages: Sequence[Message]) -> bool:
    return sum([len(p) for m in messages for p in m.parts]) <= _CHARACTERS_ON_THE_LOOP


def _check_context(request: GenerationRequest, prompt: TokenIds) -> None:
    limit, asked = request.model.context_length, request.sampling.max_tokens
    if prompt.length + (asked or 1) > limit:
        raise ContextLengthExceeded(limit=limit, prompt_tokens=prompt.length, max_tokens=asked)


async def _trimmed(chunks: AsyncGenerator[Chunk], stops: Sequence[str]) -> AsyncGenerator[Chunk]:
    # MAX leaves the stop string in its answer and goes on for a few tokens after it.
    trimmer = StopTrimmer(stops)
    async with aclosing(chunks):
        async for chunk in chunks:
            text = trimmer.feed(chunk.text)
            if trimmer.stopped:
                yield Chunk(text, "stop", chunk.usage)
                return
            if chunk.finish_reason is not None:
                text += trimmer.flush()
            yield Chunk(text, chunk.finish_reason, chunk.usage, chunk.more)
