"""Folding a stream into its result."""

from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NamedTuple

from maxgate.errors import UpstreamError
from maxgate.generation.backend import Backend
from maxgate.generation.chunk import Chunk, FinishReason, TokenLogprob, ToolCallDelta, Usage
from maxgate.generation.request import GenerationRequest


class CalledTool(NamedTuple):
    """A tool that the model wants to be called; `arguments` is a JSON object."""

    name: str
    arguments: str


class Answer(NamedTuple):
    """One finished answer."""

    text: str
    finish_reason: FinishReason
    tool_calls: tuple[CalledTool, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()

    def as_deltas(self) -> tuple[ToolCallDelta, ...]:
        """The calls as a stream has them, each in one piece."""
        return tuple(ToolCallDelta(n, *call) for n, call in enumerate(self.tool_calls))


class Completion(NamedTuple):
    """All answers to a request, in order of their numbers."""

    answers: tuple[Answer, ...]
    usage: Usage


async def collect(backend: Backend, request: GenerationRequest) -> Completion:
    """Run the request to its end.

    Raises GatewayError as the backend does, and UpstreamError where the stream ends without
    saying why: an answer that was cut is never passed on as a whole one.
    """
    growing = [_Growing() for _ in range(request.choices)]
    usage: Usage | None = None
    async with aclosing(backend.stream(request)) as chunks:
        async for chunk in chunks:
            growing[chunk.choice].add(chunk)
            usage = chunk.usage or usage
    if usage is None:
        raise UpstreamError("The engine's answer ended before it was complete.")
    return Completion(tuple([one.finished() for one in growing]), usage)


@dataclass(slots=True)
class _Growing:
    text: list[str] = field(default_factory=list)
    calls: list[list[str]] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: FinishReason | None = None

    def add(self, chunk: Chunk) -> None:
        self.text.append(chunk.text)
        self.finish_reason = chunk.finish_reason or self.finish_reason
        self.logprobs += chunk.logprobs
        for delta in chunk.tool_calls:
            self._add_call(delta)

    def _add_call(self, delta: ToolCallDelta) -> None:
        if delta.name is not None:
            self.calls.append([delta.name])
        self.calls[delta.call].append(delta.arguments)

    def finished(self) -> Answer:
        if self.finish_reason is None:
            raise UpstreamError("The engine's answer ended before it was complete.")
        calls = [CalledTool(name, "".join(pieces)) for name, *pieces in self.calls]
        return Answer("".join(self.text), self.finish_reason, tuple(calls), tuple(self.logprobs))
