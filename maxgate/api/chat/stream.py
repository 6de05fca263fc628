"""Encode chunks as chat completion events."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

import orjson

from maxgate import ids
from maxgate.api.chat.responses import convert_logprobs
from maxgate.api.event_stream import DONE
from maxgate.api.sampling import completion_usage
from maxgate.errors import GatewayError, UpstreamError
from maxgate.generation.chunk import Chunk, FinishReason, ToolCallDelta, Usage
from maxgate.generation.context import ServiceClass

_OPENING = b'{"role":"assistant","content":"","refusal":null}'
_AFTER_TEXT = b'},"logprobs":null,"finish_reason":null}]'
_CALLING = b'{"role":"assistant","content":null,"refusal":null}'


class ChatEventEncoder:
    """Encodes the chunks of one response as events.

    The parts common to all events are serialized once. Shapes follow
    `CreateChatCompletionStreamResponse` in OpenAI's API description: if usage is requested, it is
    null in every event but the last. With `running_usage`, every event has the usage so far.
    `commit_line` is called before the last event, and its result awaited.
    """

    def __init__(
        self,
        *,
        model: str,
        service_tier: ServiceClass,
        created: int,
        with_usage: bool,
        running_usage: bool = False,
        n: int = 1,
        commit_line: Callable[[], Awaitable[None] | None],
    ) -> None:
        self._commit_line = commit_line
        self._with_usage = with_usage
        self._running_usage = running_usage
        head = orjson.dumps(
            {
                "id": ids.chat_completion_id(),
                "object": "chat.completion.chunk",
                "created": created,
                "model": model,
                "service_tier": service_tier,
                "system_fingerprint": None,
            }
        )
        self._head = b"data: " + head[:-1]
        self._tail = b',"usage":null}\n\n' if with_usage else b"}\n\n"
        self._before_delta = [
            self._head + b',"choices":[{"index":%d,"delta":' % index for index in range(n)
        ]
        self._before_text = [start + b'{"content":' for start in self._before_delta]
        self._after_text = _AFTER_TEXT + self._tail

    async def encode_events(self, stream: AsyncGenerator[Chunk]) -> AsyncGenerator[bytes]:
        """Yield encoded events; chunks that arrived together are encoded together.

        Raises UpstreamError if a choice ends without a finish reason.
        """
        pending, unfinished, usage = b"", len(self._before_delta), None
        started: set[int] = set()
        try:
            async with aclosing(stream) as chunks:
                async for chunk in chunks:
                    usage = chunk.usage or usage
                    if self._running_usage and chunk.usage is not None:
                        self._set_usage(chunk.usage)
                    events = self._encode_chunk(chunk)
                    if events and chunk.choice not in started:
                        started.add(chunk.choice)
                        pending += self._encode_opening(chunk)
                    pending += events
                    unfinished -= chunk.finish_reason is not None
                    if pending and not chunk.has_more:
                        yield pending
                        pending = b""
            if unfinished or usage is None:
                raise UpstreamError("The engine's response ended before it was complete.")
        except GatewayError:
            if pending:  # chunks that arrived with the failure are not lost
                yield pending
            raise
        yield pending + await self._encode_end(usage)

    async def _encode_end(self, usage: Usage) -> bytes:
        # Clients stop reading at [DONE].
        if (durable := self._commit_line()) is not None:
            await durable
        return (self._encode_usage(usage) if self._with_usage else b"") + DONE

    def _set_usage(self, usage: Usage) -> None:
        self._tail = b',"usage":%b}\n\n' % orjson.dumps(completion_usage(usage))
        self._after_text = _AFTER_TEXT + self._tail

    def _encode_opening(self, first: Chunk) -> bytes:
        # Sent with the first content, since `content` is null if the message starts with a call.
        is_call = bool(first.tool_calls) and not first.text
        return self._encode_delta(first.choice, _CALLING if is_call else _OPENING)

    def _encode_chunk(self, chunk: Chunk) -> bytes:
        if chunk.logprobs:
            events = self._encode_text_and_logprobs(chunk)
        elif chunk.text:
            events = self._before_text[chunk.choice] + orjson.dumps(chunk.text) + self._after_text
        else:
            events = b""
        for delta in chunk.tool_calls:
            events += self._encode_delta(chunk.choice, _encode_tool_call(delta))
        if chunk.finish_reason is not None:
            events += self._encode_delta(chunk.choice, b"{}", finish_reason=chunk.finish_reason)
        return events

    def _encode_delta(
        self,
        choice: int,
        delta: bytes,
        *,
        logprobs: bytes = b"null",
        finish_reason: FinishReason | None = None,
    ) -> bytes:
        reason = b"null" if finish_reason is None else b'"%b"' % finish_reason.encode()
        return (
            self._before_delta[choice]
            + delta
            + b',"logprobs":%b,"finish_reason":%b}]' % (logprobs, reason)
            + self._tail
        )

    def _encode_text_and_logprobs(self, chunk: Chunk) -> bytes:
        delta = orjson.dumps({"content": chunk.text})
        logprobs = orjson.dumps(convert_logprobs(chunk.logprobs))
        return self._encode_delta(chunk.choice, delta, logprobs=logprobs)

    def _encode_usage(self, usage: Usage) -> bytes:
        encoded = orjson.dumps(completion_usage(usage))
        return self._head + b',"choices":[],"usage":%b}\n\n' % encoded


def _encode_tool_call(delta: ToolCallDelta) -> bytes:
    function = {"arguments": delta.arguments}
    call: dict[str, object] = {"index": delta.call, "function": function}
    if delta.name is not None:
        call = {
            "index": delta.call,
            "id": ids.tool_call_id(),
            "type": "function",
            "function": {"name": delta.name, **function},
        }
    return orjson.dumps({"tool_calls": [call]})
