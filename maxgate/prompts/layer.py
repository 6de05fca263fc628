"""The prompts layer: messages to token ids before the engine, stop strings after it."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from time import monotonic

from maxgate.generation.backend import Backend
from maxgate.generation.chunk import Chunk
from maxgate.generation.errors import ContextLengthExceeded
from maxgate.generation.request import GenerationRequest, TokenIds
from maxgate.prompts.chat_format import ChatFormat
from maxgate.prompts.encode import (
    MAX_CHARACTERS_ON_THE_LOOP,
    check_engine_can_format,
    check_stop_token_ids,
    encode_prompt,
)
from maxgate.prompts.stop_strings import trim_at_stop
from maxgate.prompts.token_bytes import add_token_bytes, complete_prompt_logprobs


class PromptLayer:
    """Encodes prompts, makes responses start with the request's prefix, and applies stop strings.

    With `echo`, they start with the raw prompt instead. Logprobs of tokens that are parts of a
    character get the tokens' bytes. `formats` maps the engine's names of models to their chat
    formats. Prompts of other models are formatted by the engine, without the prefix.

    Raises ContextLengthExceeded before the engine is called if prompt and `max_tokens` do not fit,
    and InvalidRequest for token ids outside the vocabulary.
    """

    def __init__(self, inner: Backend, formats: Mapping[str, ChatFormat]) -> None:
        self._inner = inner
        self._formats = formats

    def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        """Stream the response up to the first stop string."""
        model = request.model
        chat_format = None if model.prompt == "engine" else self._formats.get(model.engine_name)
        if request.sampling.stop or request.sampling.logprobs is not None or request.echo:
            return self._stream(request, chat_format)
        if chat_format is None:
            check_engine_can_format(request)
            return self._inner.stream(request)
        # Most requests: a short dialogue is encoded at once, and the response passes unchanged.
        if request.raw_prompt is None and not request.prefix:
            characters = sum([len(part) for m in request.messages for part in m.parts])
            if characters <= MAX_CHARACTERS_ON_THE_LOOP:
                return self._inner.stream(_with_prompt(request, chat_format))
        return self._stream(request, chat_format)

    async def _stream(
        self, request: GenerationRequest, chat_format: ChatFormat | None
    ) -> AsyncGenerator[Chunk]:
        stops, prefix = request.sampling.stop, request.prefix
        if chat_format is None:
            check_engine_can_format(request)
        else:
            prompt = await _encode(request, chat_format)
            request = _with_prompt(request, chat_format, prompt)
        # Only a stream can be left early with its tokens counted (ADR 3).
        chunks = self._inner.stream(request._replace(stream=True) if stops else request)
        if chat_format is not None and request.sampling.logprobs is not None:
            chunks = add_token_bytes(chunks, chat_format.token_to_bytes)
            if request.prompt_logprobs:
                first_token = prompt.to_list()[0]
                chunks = complete_prompt_logprobs(chunks, first_token, chat_format.token_to_bytes)
        if stops:
            chunks = trim_at_stop(chunks, stops)
        if prefix and chat_format is not None:
            chunks = _prepend(prefix, chunks)
        if request.echo:
            chunks = _prepend_prompt(request.raw_prompt, chunks)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk


def _with_prompt(
    request: GenerationRequest, chat_format: ChatFormat, prompt: TokenIds | None = None
) -> GenerationRequest:
    if prompt is None:
        began, trace = monotonic(), request.context.record.trace
        prompt = chat_format.encode(request.messages)
        if trace is not None:
            trace.add_step("prompt", monotonic() - began)
    if request.sampling.stop_token_ids:
        check_stop_token_ids(request, chat_format.vocabulary_size)
    limit, max_tokens = request.model.context_length, request.sampling.max_tokens
    if prompt.length + (max_tokens or 1) > limit:
        raise ContextLengthExceeded(
            limit=limit,
            prompt_tokens=prompt.length,
            max_tokens=max_tokens,
            param="messages" if request.raw_prompt is None else "prompt",
        )
    return request._replace(prompt_token_ids=prompt, stop_token_ids=chat_format.stop_token_ids)


async def _encode(request: GenerationRequest, chat_format: ChatFormat) -> TokenIds:
    began, trace = monotonic(), request.context.record.trace
    prompt = await encode_prompt(request, chat_format)
    if trace is not None:
        trace.add_step("prompt", monotonic() - began)
    return prompt


async def _prepend(prefix: str, chunks: AsyncGenerator[Chunk]) -> AsyncGenerator[Chunk]:
    async with aclosing(chunks):
        async for chunk in chunks:
            yield replace(chunk, text=prefix + chunk.text) if prefix else chunk
            prefix = ""


async def _prepend_prompt(
    prompt: str | tuple[int, ...] | None, chunks: AsyncGenerator[Chunk]
) -> AsyncGenerator[Chunk]:
    is_first = True
    async with aclosing(chunks):
        async for chunk in chunks:
            text = ""
            if is_first and isinstance(prompt, str):
                text = prompt
            elif is_first:  # token ids are only echoed with their logprobs
                encoded = b"".join([token.encoded for token in chunk.prompt_logprobs])
                text = encoded.decode(errors="replace")
            yield replace(chunk, text=text + chunk.text) if text else chunk
            is_first = False
