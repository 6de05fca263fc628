"""Folding a stream into its result."""

from contextlib import aclosing
from dataclasses import dataclass

from maxgate.errors import UpstreamError
from maxgate.generation.backend import Backend
from maxgate.generation.events import FinishReason, Usage
from maxgate.generation.request import GenerationRequest


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished answer."""

    text: str
    finish_reason: FinishReason
    usage: Usage


async def collect(backend: Backend, request: GenerationRequest) -> Completion:
    """Run the request to its end.

    Raises GatewayError as the backend does, and UpstreamError where the stream ends without
    saying why: an answer that was cut is never passed on as a whole one.
    """
    text: list[str] = []
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    async with aclosing(backend.stream(request)) as chunks:
        async for chunk in chunks:
            text.append(chunk.text)
            finish_reason = chunk.finish_reason or finish_reason
            usage = chunk.usage or usage
    if finish_reason is None or usage is None:
        raise UpstreamError("The engine's answer ended before it was complete.")
    return Completion("".join(text), finish_reason, usage)
