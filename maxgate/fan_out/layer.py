"""The choices layer: several answers to one request, which MAX does not give itself."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from functools import reduce

from maxgate.generation.backend import Backend
from maxgate.generation.chunk import Chunk, Usage
from maxgate.generation.merge import merge_streams
from maxgate.generation.request import GenerationRequest


class FanOutLayer:
    """Asks once for each answer, all at the same time, and passes their chunks on as they come.

    Each answer has a seed of its own, derived from the request's. The first one that fails ends
    them all; so does leaving the stream. Usage is summed, with the prompt counted once.
    """

    def __init__(self, inner: Backend) -> None:
        self._inner = inner

    def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        """The chunks of all answers; those of one answer are in order."""
        if request.n == 1:
            return self._inner.stream(request)
        return self._all(request)

    async def _all(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        streams = [self._inner.stream(one) for one in _single_requests(request)]
        counted: dict[int, Usage] = {}
        async with aclosing(merge_streams(streams)) as numbered:
            async for number, chunk in numbered:
                usage = chunk.usage
                if usage is not None:
                    counted[number] = usage
                    usage = reduce(Usage.with_attempt, counted.values())
                yield replace(chunk, choice=number, usage=usage)


def _single_requests(request: GenerationRequest) -> list[GenerationRequest]:
    return [
        request._replace(n=1, sampling=request.sampling.with_seed_offset(number))
        for number in range(request.n)
    ]
