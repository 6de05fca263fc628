"""Chunks of text to chunks of text and tool calls."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from maxgate.generation.chunk import Chunk, FinishReason, ToolCallDelta, Usage
from maxgate.tool_calling.arguments_reader import Event
from maxgate.tool_calling.parser import ToolCallParser


async def with_calls(
    chunks: AsyncGenerator[Chunk],
    parser: ToolCallParser,
    *,
    tag: int | None = None,
    opening: str = "",
    spent: int = 0,
) -> AsyncGenerator[Chunk]:
    """The chunks with the calls in them found.

    `tag` is the special token that announces a call, and which is not part of the text. `opening`
    is what the model was made to begin with, `spent` are the tokens that choosing it took. The
    stream ends early once nothing more is wanted.
    """
    called = ended = False
    held = parser.feed(opening) if opening else []
    async with aclosing(chunks):
        async for chunk in chunks:
            events = held + parser.feed(chunk.text, tagged=tag in chunk.token_ids)
            held = []
            if spent and chunk.usage is not None:
                usage = chunk.usage.with_attempt(Usage(0, spent))
                chunk = replace(chunk, usage=usage)  # noqa: PLW2901
            reason = chunk.finish_reason
            if reason is not None:
                ended = True  # what follows only counts tokens
                events += parser.finish(complete=reason == "stop")
            called = called or any(isinstance(event, ToolCallDelta) for event in events)
            if parser.enough and reason is None and not ended:
                yield _chunk(chunk, events, "tool_calls")
                return
            yield _chunk(chunk, events, "tool_calls" if called and reason == "stop" else reason)


def _chunk(chunk: Chunk, events: Sequence[Event], reason: FinishReason | None) -> Chunk:
    return replace(
        chunk,
        text="".join([event for event in events if isinstance(event, str)]),
        tool_calls=tuple([event for event in events if not isinstance(event, str)]),
        finish_reason=reason,
        token_ids=(),
    )
