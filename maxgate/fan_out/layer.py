"""The fan-out layer: `n` choices for one request, which MAX does not generate itself."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from functools import reduce

from maxgate.generation.backend import Backend
from maxgate.generation.chunk import Chunk, Usage
from maxgate.generation.merge import merge_streams
from maxgate.generation.request import GenerationRequest


class FanOutLayer:
    """Sends one request per choice, all at once, and merges their chunks as they arrive.

    Each choice has its own seed, derived from the request's. If one choice fails, all are
    cancelled; closing the stream cancels all. Usage is summed, with the prompt counted once.
    """

    def __init__(self, inner: Backend) -> None:
        self._inner = inner

    def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        """Stream the chunks of all choices; those of one choice are in order."""
        if request.n == 1:
            return self._inner.stream(request)
        return self._stream_all(request)

    async def _stream_all(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        context = request.context
        context.fans_out, context.choices = True, max(context.choices, request.n)
        singles = [
            request._replace(n=1, sampling=request.sampling.with_seed_offset(choice))
            for choice in range(request.n)
        ]
        usages: dict[int, Usage] = {}
        async with aclosing(merge_streams([self._inner.stream(one) for one in singles])) as merged:
            async for choice, chunk in merged:
                usage = chunk.usage
                if usage is not None:
                    usages[choice] = usage
                    usage = reduce(Usage.with_attempt, usages.values())
                yield replace(chunk, choice=choice, usage=usage)
