"""The layer that adds the details of generations to their traces."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

import orjson

from maxgate.generation.backend import Backend
from maxgate.generation.chunk import Chunk
from maxgate.generation.request import GenerationRequest
from maxgate.generation.trace import RequestTrace

MAX_CONTENT: Final = 65_536
"""Characters of the input and of the output that a span has at most."""


class TracingLayer:
    """Notes sampling parameters and finish reasons and, with `captures_content`, all texts.

    Requests that are not sampled pass unchanged. Of several prompts in a request, the parameters
    are those of the last one, and finish reasons are in the order in which choices end.
    """

    def __init__(self, inner: Backend, *, captures_content: bool) -> None:
        self._inner = inner
        self._captures_content = captures_content

    def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        """Stream from the inner backend, unchanged."""
        trace = request.context.record.trace
        chunks = self._inner.stream(request)
        if trace is None or not trace.is_sampled:
            return chunks
        trace.details.update(describe_sampling(request))
        if not self._captures_content:
            return _note_ends(trace, chunks)
        trace.details["gen_ai.input.messages"] = serialize_input(request)
        return _note_texts(trace, chunks)


async def _note_ends(trace: RequestTrace, chunks: AsyncGenerator[Chunk]) -> AsyncGenerator[Chunk]:
    async with aclosing(chunks):
        async for chunk in chunks:
            if chunk.finish_reason is not None:
                trace.details.setdefault("gen_ai.response.finish_reasons", []).append(
                    chunk.finish_reason
                )
            yield chunk


async def _note_texts(trace: RequestTrace, chunks: AsyncGenerator[Chunk]) -> AsyncGenerator[Chunk]:
    texts: dict[int, list[str]] = {}
    reasons: dict[int, str] = {}
    try:
        async with aclosing(_note_ends(trace, chunks)) as noted:
            async for chunk in noted:
                calls = [call.name or call.arguments for call in chunk.tool_calls]
                texts.setdefault(chunk.choice, []).extend([chunk.text, *calls])
                if chunk.finish_reason is not None:
                    reasons[chunk.choice] = chunk.finish_reason
                yield chunk
    finally:
        messages = [
            {
                "role": "assistant",
                "parts": [{"type": "text", "content": "".join(pieces)[:MAX_CONTENT]}],
                "finish_reason": reasons.get(choice, "error"),
            }
            for choice, pieces in sorted(texts.items())
        ]
        trace.details["gen_ai.output.messages"] = orjson.dumps(messages).decode()


def describe_sampling(request: GenerationRequest) -> dict[str, Any]:
    """Return the attributes of a request's parameters; those with no effect are left out."""
    sampling = request.sampling
    attributes = {
        "gen_ai.request.temperature": sampling.temperature,
        "gen_ai.request.top_p": sampling.top_p,
        "gen_ai.request.top_k": sampling.top_k,
        "gen_ai.request.max_tokens": sampling.max_tokens,
        "gen_ai.request.seed": sampling.seed,
        "gen_ai.request.frequency_penalty": sampling.frequency_penalty or None,
        "gen_ai.request.presence_penalty": sampling.presence_penalty or None,
        "gen_ai.request.choice.count": request.n if request.n > 1 else None,
        "gen_ai.output.type": "json" if request.output is not None else "text",
    }
    return {name: value for name, value in attributes.items() if value is not None}


def serialize_input(request: GenerationRequest) -> str:
    """Return the prompt as the JSON of `gen_ai.input.messages`, cut after MAX_CONTENT characters.

    Prompts of token ids are left out.
    """
    raw = request.raw_prompt
    turns = [(message.role, "".join(message.parts)) for message in request.messages]
    if isinstance(raw, str):
        turns = [("user", raw)]
    messages, room = list[dict[str, Any]](), MAX_CONTENT
    for role, text in turns:
        messages.append({"role": role, "parts": [{"type": "text", "content": text[:room]}]})
        room = max(room - len(text), 0)
    return orjson.dumps(messages).decode()
