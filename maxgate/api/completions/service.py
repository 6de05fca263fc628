"""Run text completion requests and build OpenAI's responses."""

import codecs
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import reduce
from math import isnan

import orjson

from maxgate import ids
from maxgate.api.completions.converters import convert_requests
from maxgate.api.completions.schemas import (
    CompletionRequest,
    CompletionResponse,
    TextChoice,
    TextLogprobs,
)
from maxgate.api.event_stream import DONE, encode_event
from maxgate.api.model_access import restrict
from maxgate.api.principals import apply_fields
from maxgate.api.sampling import completion_usage
from maxgate.clock import Clock
from maxgate.errors import UpstreamError
from maxgate.generation.backend import Backend
from maxgate.generation.catalog import ModelCatalog
from maxgate.generation.chunk import Chunk, TokenLogprob, Usage
from maxgate.generation.collect import collect_stream
from maxgate.generation.context import RequestContext
from maxgate.generation.merge import merge_streams
from maxgate.generation.request import GenerationRequest


class CompletionService:
    """Runs completion requests; raises what the catalog and the backend raise.

    Choices are numbered by prompt, then by choice.
    """

    def __init__(self, backend: Backend, catalog: ModelCatalog, clock: Clock) -> None:
        self._backend = backend
        self._catalog = catalog
        self._clock = clock

    async def complete(self, body: CompletionRequest, context: RequestContext) -> bytes:
        """Return the whole response as JSON."""
        requests = self._convert(body, context)
        first = requests[0]
        completion = await collect_stream(self._stream_all(requests), first.n * len(requests))
        choices = [
            TextChoice(
                text=choice.text,
                index=index,
                logprobs=None
                if body.logprobs is None
                else convert_text_logprobs(choice.prompt_logprobs + choice.logprobs, 0),
                finish_reason=choice.finish_reason,
            )
            for index, choice in enumerate(completion.choices)
        ]
        usage = completion_usage(completion.usage)
        return orjson.dumps(replace(self._envelope(first), choices=choices, usage=usage))

    async def stream(
        self, body: CompletionRequest, context: RequestContext
    ) -> AsyncGenerator[bytes]:
        """Stream the response as encoded events.

        Raises UpstreamError if a choice ends without a finish reason.
        """
        requests = self._convert(body, context)
        first = requests[0]
        envelope, offsets = self._envelope(first), [0] * (first.n * len(requests))
        unfinished, usage = len(offsets), None
        async with aclosing(self._stream_all(requests)) as chunks:
            async for chunk in chunks:
                usage = chunk.usage or usage
                unfinished -= chunk.finish_reason is not None
                if chunk.text or chunk.finish_reason is not None:
                    offset = offsets[chunk.choice]
                    offsets[chunk.choice] += len(chunk.text)
                    tokens = chunk.prompt_logprobs + chunk.logprobs
                    logprobs = tokens if body.logprobs is not None else None
                    choice = TextChoice(
                        text=chunk.text,
                        index=chunk.choice,
                        logprobs=None
                        if logprobs is None
                        else convert_text_logprobs(logprobs, offset),
                        finish_reason=chunk.finish_reason,
                    )
                    running = usage if body.wants_running_usage and usage is not None else None
                    event = replace(
                        envelope,
                        choices=[choice],
                        usage=None if running is None else completion_usage(running),
                    )
                    yield encode_event(orjson.dumps(event))
        if unfinished or usage is None:
            raise UpstreamError("The engine's response ended before it was complete.")
        # Clients stop reading at [DONE].
        if (durable := context.commit_line()) is not None:
            await durable
        if body.wants_usage:
            final = replace(envelope, usage=completion_usage(usage))
            yield encode_event(orjson.dumps(final))
        yield DONE

    async def _stream_all(self, requests: Sequence[GenerationRequest]) -> AsyncGenerator[Chunk]:
        """Stream all prompts at once; choices are numbered by prompt, then by choice."""
        if len(requests) == 1:
            async with aclosing(self._backend.stream(requests[0])) as chunks:
                async for chunk in chunks:
                    yield chunk
            return
        context = requests[0].context
        context.fans_out, context.choices = True, len(requests) * requests[0].n
        counted: dict[int, Usage] = {}
        streams = [self._backend.stream(request) for request in requests]
        async with aclosing(merge_streams(streams)) as merged:
            async for index, chunk in merged:
                usage = chunk.usage
                if usage is not None:
                    counted[index] = usage
                    usage = reduce(Usage.with_prompt, counted.values())
                yield replace(chunk, choice=index * requests[0].n + chunk.choice, usage=usage)

    def _convert(self, body: CompletionRequest, context: RequestContext) -> list[GenerationRequest]:
        context.record.stream = bool(body.stream)
        context.session = context.session or body.user
        if body.user or body.service_tier or body.priority:
            apply_fields(context, body.user, body.service_tier, body.priority)
        catalog = self._catalog
        if context.models is not None or context.project_models is not None:
            catalog = restrict(catalog, context.models, context.project_models)
        model = catalog.find(body.model, "chat")
        context.model = model.name
        return convert_requests(body, model, context)

    def _envelope(self, request: GenerationRequest) -> CompletionResponse:
        return CompletionResponse(
            id=ids.completion_id(),
            created=int(self._clock.wall()),
            model=request.model.name,
            choices=[],
            usage=None,
        )


def convert_text_logprobs(tokens: Sequence[TokenLogprob], offset: int) -> TextLogprobs:
    """Convert token log probabilities to OpenAI's shape; the first token is at `offset`."""
    offsets = []
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for token in tokens:
        offsets.append(offset)
        offset += len(decoder.decode(token.encoded))  # a part of a character adds none
    return TextLogprobs(
        tokens=[token.token for token in tokens],
        token_logprobs=[None if isnan(token.logprob) else token.logprob for token in tokens],
        top_logprobs=[None if isnan(token.logprob) else dict(token.top) for token in tokens],
        text_offset=offsets,
    )
