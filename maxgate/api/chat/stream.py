"""One answer as a stream's events."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import orjson

from maxgate import ids
from maxgate.api.chat.responses import logprobs_of
from maxgate.api.event_stream import DONE
from maxgate.api.schemas import completion_usage
from maxgate.errors import GatewayError, UpstreamError
from maxgate.generation.chunk import Chunk, FinishReason, ToolCallDelta, Usage

_OPENING = b'{"role":"assistant","content":"","refusal":null}'
_CALLING = b'{"role":"assistant","content":null,"refusal":null}'


class ChunkEnvelope:
    """Chunks as the events of a stream.

    The parts that are the same in all of them are written once.

    Shapes follow `CreateChatCompletionStreamResponse` in OpenAI's published API description: with
    usage asked for, every chunk but the last has a null in its place.
    """

    def __init__(self, *, model: str, created: int, with_usage: bool, choices: int = 1) -> None:
        self._with_usage = with_usage
        head = orjson.dumps(
            {
                "id": ids.chat_completion_id(),
                "object": "chat.completion.chunk",
                "created": created,
                "model": model,
                "service_tier": "default",
                "system_fingerprint": None,
            }
        )
        self._head = b"data: " + head[:-1]
        self._tail = b',"usage":null}\n\n' if with_usage else b"}\n\n"
        self._before_delta = [
            self._head + b',"choices":[{"index":%d,"delta":' % number for number in range(choices)
        ]
        self._before_text = [start + b'{"content":' for start in self._before_delta]
        self._after_text = b'},"logprobs":null,"finish_reason":null}]' + self._tail

    async def events(self, answer: AsyncGenerator[Chunk]) -> AsyncGenerator[bytes]:
        """The events of each chunk, of several chunks together where they came together.

        Raises UpstreamError where the chunks end before the answer does.
        """
        pending, unfinished, usage = b"", len(self._before_delta), None
        begun: set[int] = set()
        try:
            async with aclosing(answer) as chunks:
                async for chunk in chunks:
                    usage = chunk.usage or usage
                    events = self._chunk(chunk)
                    if events and chunk.choice not in begun:
                        begun.add(chunk.choice)
                        pending += self._opening(chunk)
                    pending += events
                    unfinished -= chunk.finish_reason is not None
                    if pending and not chunk.has_more:
                        yield pending
                        pending = b""
            if unfinished or usage is None:
                raise UpstreamError("The engine's answer ended before it was complete.")
        except GatewayError:
            if pending:  # what came with the failure is not lost
                yield pending
            raise
        yield pending + (self._usage(usage) if self._with_usage else b"") + DONE

    def _opening(self, first: Chunk) -> bytes:
        """Comes with the first piece that tells anything: only then a call is known from text."""
        return self._delta(first.choice, _CALLING if _only_calls(first) else _OPENING)

    def _chunk(self, chunk: Chunk) -> bytes:
        if chunk.logprobs:
            events = self._text_and_logprobs(chunk)
        elif chunk.text:
            events = self._before_text[chunk.choice] + orjson.dumps(chunk.text) + self._after_text
        else:
            events = b""
        for delta in chunk.tool_calls:
            events += self._delta(chunk.choice, _tool_call(delta))
        if chunk.finish_reason is not None:
            events += self._delta(chunk.choice, b"{}", finish_reason=chunk.finish_reason)
        return events

    def _delta(
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

    def _text_and_logprobs(self, chunk: Chunk) -> bytes:
        delta = orjson.dumps({"content": chunk.text})
        logprobs = orjson.dumps(logprobs_of(chunk.logprobs))
        return self._delta(chunk.choice, delta, logprobs=logprobs)

    def _usage(self, usage: Usage) -> bytes:
        shown = orjson.dumps(completion_usage(usage))
        return self._head + b',"choices":[],"usage":%b}\n\n' % shown


def _only_calls(chunk: Chunk) -> bool:
    return bool(chunk.tool_calls) and not chunk.text


def _tool_call(delta: ToolCallDelta) -> bytes:
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
