"""Collect a stream into a complete response."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NamedTuple

from maxgate.errors import UpstreamError
from maxgate.generation.backend import Backend
from maxgate.generation.chunk import Chunk, FinishReason, TokenLogprob, ToolCallDelta, Usage
from maxgate.generation.request import GenerationRequest


class CalledTool(NamedTuple):
    """A tool call made by the model; `arguments` is a JSON object as text."""

    name: str
    arguments: str


class CompletedChoice(NamedTuple):
    """One finished choice."""

    text: str
    finish_reason: FinishReason
    tool_calls: tuple[CalledTool, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    prompt_logprobs: tuple[TokenLogprob, ...] = ()

    def as_deltas(self) -> tuple[ToolCallDelta, ...]:
        """Return the tool calls as stream deltas, one per call."""
        return tuple(ToolCallDelta(n, *call) for n, call in enumerate(self.tool_calls))


class Completion(NamedTuple):
    """A finished response; choices are in order of their index."""

    choices: tuple[CompletedChoice, ...]
    usage: Usage


async def collect(backend: Backend, request: GenerationRequest) -> Completion:
    """Run the request to completion.

    Raises what the backend raises, and UpstreamError if the stream ends without a finish reason:
    a truncated response is never returned as a complete one.
    """
    return await collect_stream(backend.stream(request), request.n)


async def collect_stream(stream: AsyncGenerator[Chunk], n: int) -> Completion:
    """Read a stream of `n` choices to its end; raises as `collect` does."""
    partial = [_PartialChoice() for _ in range(n)]
    usage: Usage | None = None
    async with aclosing(stream) as chunks:
        async for chunk in chunks:
            partial[chunk.choice].add(chunk)
            usage = chunk.usage or usage
    if usage is None:
        raise UpstreamError("The engine's response ended before it was complete.")
    return Completion(tuple([one.finish() for one in partial]), usage)


@dataclass(slots=True)
class _PartialChoice:
    text: list[str] = field(default_factory=list)
    calls: list[list[str]] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    prompt_logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None

    def add(self, chunk: Chunk) -> None:
        self.text.append(chunk.text)
        self.finish_reason = chunk.finish_reason or self.finish_reason
        self.logprobs += chunk.logprobs
        self.prompt_logprobs = chunk.prompt_logprobs or self.prompt_logprobs
        for delta in chunk.tool_calls:
            self._add_call(delta)

    def _add_call(self, delta: ToolCallDelta) -> None:
        if delta.name is not None:
            self.calls.append([delta.name])
        self.calls[delta.call].append(delta.arguments)

    def finish(self) -> CompletedChoice:
        if self.finish_reason is None:
            raise UpstreamError("The engine's response ended before it was complete.")
        calls = [CalledTool(name, "".join(pieces)) for name, *pieces in self.calls]
        return CompletedChoice(
            "".join(self.text),
            self.finish_reason,
            tuple(calls),
            tuple(self.logprobs),
            self.prompt_logprobs,
        )
