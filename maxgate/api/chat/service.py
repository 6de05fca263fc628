"""From OpenAI's words to ours and back."""

from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing

import orjson

from maxgate import ids
from maxgate.api.chat.wire import (
    AssistantMessage,
    ChatCompletionRequest,
    ChatCompletionResponse,
    ChatMessage,
    Choice,
    CompletionUsage,
    PromptTokensDetails,
)
from maxgate.api.sse import DONE
from maxgate.clock import Clock
from maxgate.errors import GatewayError, UpstreamError
from maxgate.generation.backend import Backend
from maxgate.generation.catalog import ModelCatalog, ServedModel
from maxgate.generation.collect import collect
from maxgate.generation.events import Chunk, FinishReason, Usage
from maxgate.generation.request import GenerationRequest, Message, Role, Sampling
from maxgate.generation.trace import RequestTrace

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}


class ChatService:
    """Answers chat completion requests.

    Raises GatewayError as the catalog and the backend do.
    """

    def __init__(self, backend: Backend, catalog: ModelCatalog, clock: Clock) -> None:
        self._backend = backend
        self._catalog = catalog
        self._clock = clock

    async def complete(self, body: ChatCompletionRequest, trace: RequestTrace) -> bytes:
        """The whole answer, as JSON."""
        request = self._request(body, trace)
        completion = await collect(self._backend, request)
        choice = Choice(
            index=0,
            message=AssistantMessage(content=completion.text),
            finish_reason=completion.finish_reason,
        )
        response = ChatCompletionResponse(
            id=ids.chat_completion_id(),
            created=int(self._clock.wall()),
            model=request.model.name,
            choices=[choice],
            usage=_usage(completion.usage),
        )
        return orjson.dumps(response)

    async def stream(
        self, body: ChatCompletionRequest, trace: RequestTrace
    ) -> AsyncGenerator[bytes]:
        """The answer as events of a stream, ready to be sent."""
        request = self._request(body, trace)
        options = body.stream_options
        envelope = ChunkEnvelope(
            model=request.model.name,
            created=int(self._clock.wall()),
            with_usage=options is not None and bool(options.include_usage),
        )
        async with aclosing(self._backend.stream(request)) as chunks:
            async for events in envelope.events(chunks):
                yield events

    def _request(self, body: ChatCompletionRequest, trace: RequestTrace) -> GenerationRequest:
        model = self._catalog.find(body.model, "chat")
        trace.stream = bool(body.stream)
        return GenerationRequest(
            model=model,
            messages=tuple(map(_message, body.messages)),
            sampling=_sampling(body, model),
            stream=trace.stream,
            trace=trace,
        )


class ChunkEnvelope:
    """One answer as a stream's events.

    The parts that are the same in all of them are written once.

    Shapes follow `CreateChatCompletionStreamResponse` in OpenAI's published API description: with
    usage asked for, every chunk but the last has a null in its place.
    """

    def __init__(self, *, model: str, created: int, with_usage: bool) -> None:
        self.with_usage = with_usage
        head = orjson.dumps(
            {
                "id": ids.chat_completion_id(),
                "object": "chat.completion.chunk",
                "created": created,
                "model": model,
                "system_fingerprint": None,
            }
        )
        self._head = b"data: " + head[:-1]
        self._tail = b',"usage":null}\n\n' if with_usage else b"}\n\n"
        self._before_text = self._head + b',"choices":[{"index":0,"delta":{"content":'
        self._after_text = b'},"logprobs":null,"finish_reason":null}]' + self._tail

    async def events(self, chunks: AsyncIterable[Chunk]) -> AsyncGenerator[bytes]:
        """The events of each chunk, of several chunks together where they came together.

        Raises UpstreamError where the chunks end before the answer does.
        """
        pending, finish_reason, usage = self.opening(), None, None
        begun = False
        try:
            async for chunk in chunks:
                begun = True
                usage = chunk.usage or usage
                if chunk.text:
                    pending += self.text(chunk.text)
                if chunk.finish_reason is not None:
                    finish_reason = chunk.finish_reason
                    pending += self.finish(finish_reason)
                if pending and not chunk.more:
                    yield pending
                    pending = b""
            if finish_reason is None or usage is None:
                raise UpstreamError("The engine's answer ended before it was complete.")
        except GatewayError:
            if begun and pending:  # what came with the failure is not lost
                yield pending
            raise
        yield pending + (self.usage(usage) if self.with_usage else b"") + DONE

    def opening(self) -> bytes:
        """The first chunk: whose turn it is."""
        return (
            self._head
            + b',"choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null}'
            + b',"logprobs":null,"finish_reason":null}]'
            + self._tail
        )

    def text(self, text: str) -> bytes:
        """A piece of the answer."""
        return self._before_text + orjson.dumps(text) + self._after_text

    def finish(self, reason: FinishReason) -> bytes:
        """The chunk that ends the answer."""
        return (
            self._head
            + b',"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"%b"}]'
            % reason.encode()
            + self._tail
        )

    def usage(self, usage: Usage) -> bytes:
        """The chunk after the last one, with the tokens counted."""
        return self._head + b',"choices":[],"usage":%b}\n\n' % orjson.dumps(_usage(usage))


def _message(message: ChatMessage) -> Message:
    content = message.content
    parts = (content,) if isinstance(content, str) else tuple(part.text for part in content)
    return Message(_ROLES[message.role], parts)


def _sampling(body: ChatCompletionRequest, model: ServedModel) -> Sampling:
    stop = body.stop or ()
    defaults = model.sampling
    return Sampling(
        temperature=defaults.temperature if body.temperature is None else body.temperature,
        top_p=defaults.top_p if body.top_p is None else body.top_p,
        max_tokens=body.max_tokens
        if body.max_completion_tokens is None
        else body.max_completion_tokens,
        seed=body.seed,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
    )


def _usage(usage: Usage) -> CompletionUsage:
    return CompletionUsage(
        prompt_tokens=usage.prompt,
        completion_tokens=usage.completion,
        total_tokens=usage.prompt + usage.completion,
        prompt_tokens_details=PromptTokensDetails(usage.cached),
    )
