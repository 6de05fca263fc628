"""Text completions: requests to the backend, their answers in OpenAI's shape."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import reduce

import orjson

from maxgate import ids
from maxgate.api.completions.converters import generation_requests
from maxgate.api.completions.schemas import (
    CompletionRequest,
    CompletionResponse,
    TextChoice,
    TextLogprobs,
)
from maxgate.api.event_stream import DONE, event
from maxgate.api.schemas import completion_usage
from maxgate.clock import Clock
from maxgate.errors import UpstreamError
from maxgate.fan_out.layer import merge_streams
from maxgate.generation.backend import Backend
from maxgate.generation.catalog import ModelCatalog
from maxgate.generation.chunk import Chunk, TokenLogprob, Usage
from maxgate.generation.collect import collect
from maxgate.generation.context import RequestContext
from maxgate.generation.request import GenerationRequest


class CompletionService:
    """Answers completion requests; texts are numbered by prompt, then by choice.

    Raises GatewayError as the catalog and the backend do.
    """

    def __init__(self, backend: Backend, catalog: ModelCatalog, clock: Clock) -> None:
        self._backend = backend
        self._catalog = catalog
        self._clock = clock

    async def complete(self, body: CompletionRequest, context: RequestContext) -> bytes:
        """All texts, as JSON."""
        requests = self._requests(body, context)
        first = requests[0]
        texts = _Texts(self._backend, requests)
        completion = await collect(texts, first._replace(n=first.n * len(requests)))
        choices = [
            TextChoice(
                text=_echo(body, first, number) + answer.text,
                index=number,
                logprobs=None if body.logprobs is None else _logprobs(answer.logprobs, 0),
                finish_reason=answer.finish_reason,
            )
            for number, answer in enumerate(completion.choices)
        ]
        envelope = self._envelope(first)
        return orjson.dumps(
            replace(envelope, choices=choices, usage=completion_usage(completion.usage))
        )

    async def stream(
        self, body: CompletionRequest, context: RequestContext
    ) -> AsyncGenerator[bytes]:
        """The pieces of all texts as events of a stream, ready to be sent."""
        requests = self._requests(body, context)
        first = requests[0]
        envelope, offsets = self._envelope(first), [0] * (first.n * len(requests))
        unfinished, usage = len(offsets), None
        begun: set[int] = set()
        texts = _Texts(self._backend, requests)
        async with aclosing(texts.stream(first)) as chunks:
            async for chunk in chunks:
                usage = chunk.usage or usage
                unfinished -= chunk.finish_reason is not None
                if chunk.choice not in begun:
                    begun.add(chunk.choice)
                    chunk = replace(chunk, text=_echo(body, first, chunk.choice) + chunk.text)  # noqa: PLW2901
                if chunk.text or chunk.finish_reason is not None:
                    choice = _piece(chunk, body, offsets[chunk.choice])
                    offsets[chunk.choice] += len(chunk.text)
                    yield event(orjson.dumps(replace(envelope, choices=[choice])))
        if unfinished or usage is None:
            raise UpstreamError("The engine's answer ended before it was complete.")
        if body.wants_usage:
            counted = replace(envelope, usage=completion_usage(usage))
            yield event(orjson.dumps(counted))
        yield DONE

    def _requests(
        self, body: CompletionRequest, context: RequestContext
    ) -> list[GenerationRequest]:
        context.record.stream = bool(body.stream)
        return generation_requests(body, self._catalog.find(body.model, "chat"), context)

    def _envelope(self, request: GenerationRequest) -> CompletionResponse:
        return CompletionResponse(
            id=ids.completion_id(),
            created=int(self._clock.wall()),
            model=request.model.name,
            choices=[],
            usage=None,
        )


@dataclass(frozen=True, slots=True)
class _Texts:
    """All prompts at once, as one stream."""

    backend: Backend
    requests: Sequence[GenerationRequest]

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:  # noqa: ARG002
        if len(self.requests) == 1:
            async with aclosing(self.backend.stream(self.requests[0])) as chunks:
                async for chunk in chunks:
                    yield chunk
            return
        per_prompt = self.requests[0].n
        counted: dict[int, Usage] = {}
        streams = [self.backend.stream(one) for one in self.requests]
        async with aclosing(merge_streams(streams)) as numbered:
            async for number, chunk in numbered:
                usage = chunk.usage
                if usage is not None:
                    counted[number] = usage
                    usage = reduce(Usage.with_prompt, counted.values())
                yield replace(chunk, choice=number * per_prompt + chunk.choice, usage=usage)


def _echo(body: CompletionRequest, first: GenerationRequest, number: int) -> str:
    if not body.echo:
        return ""
    prompt = body.prompt
    return prompt if isinstance(prompt, str) else str(prompt[number // first.n])


def _piece(chunk: Chunk, body: CompletionRequest, offset: int) -> TextChoice:
    return TextChoice(
        text=chunk.text,
        index=chunk.choice,
        logprobs=None if body.logprobs is None else _logprobs(chunk.logprobs, offset),
        finish_reason=chunk.finish_reason,
    )


def _logprobs(tokens: Sequence[TokenLogprob], offset: int) -> TextLogprobs:
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.token)
    return TextLogprobs(
        tokens=[token.token for token in tokens],
        token_logprobs=[token.logprob for token in tokens],
        top_logprobs=[dict(token.top) for token in tokens],
        text_offset=offsets,
    )
