"""The choices layer: several answers to one request, which MAX does not give itself."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from maxgate.choices.merging import merged
from maxgate.generation.backend import Backend
from maxgate.generation.events import Chunk, Usage
from maxgate.generation.request import GenerationRequest


class ChoicesLayer:
    """Asks once for each answer, all at the same time, and passes their chunks on as they come.

    Each answer has a seed of its own, derived from the request's. The first one that fails ends
    them all; so does leaving the stream. Usage is summed, with the prompt counted once.
    """

    def __init__(self, inner: Backend) -> None:
        self._inner = inner

    def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        """The chunks of all answers; those of one answer are in order."""
        if request.choices == 1:
            return self._inner.stream(request)
        return self._all(request)

    async def _all(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        streams = [self._inner.stream(one) for one in _single_requests(request)]
        counted: dict[int, Usage] = {}
        async with aclosing(merged(streams)) as numbered:
            async for number, chunk in numbered:
                usage = chunk.usage
                if usage is not None:
                    counted[number] = usage
                    usage = _sum(counted)
                yield replace(chunk, choice=number, usage=usage)


def _single_requests(request: GenerationRequest) -> list[GenerationRequest]:
    return [
        request._replace(choices=1, sampling=request.sampling.varied(number))
        for number in range(request.choices)
    ]


def _sum(counted: dict[int, Usage]) -> Usage:
    first, *others = counted.values()
    completion = first.completion + sum(usage.completion for usage in others)
    return Usage(first.prompt, completion, first.cached)
