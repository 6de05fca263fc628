"""The choices layer: several answers to one request, which MAX does not give itself."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import reduce

from maxgate.generation.backend import Backend
from maxgate.generation.chunk import Chunk, Usage
from maxgate.generation.request import GenerationRequest

_WAITING_CHUNKS = 16
_Queue = asyncio.Queue[tuple[int, Chunk] | None]


async def merged(streams: Sequence[AsyncGenerator[Chunk]]) -> AsyncGenerator[tuple[int, Chunk]]:
    """The chunks of all streams as they come, each with the number of its stream.

    Those of one stream are in order. The first stream that fails ends them all, and so does
    leaving this one; its error is raised after what came before it.
    """
    chunks: _Queue = asyncio.Queue(_WAITING_CHUNKS)
    pumping = asyncio.create_task(_pump_all(streams, chunks))
    try:
        while (item := await chunks.get()) is not None:
            yield item
        await pumping
    finally:
        pumping.cancel()
        await asyncio.wait([pumping])


async def _pump_all(streams: Sequence[AsyncGenerator[Chunk]], chunks: _Queue) -> None:
    pumps = [
        asyncio.create_task(_pump(stream, number, chunks)) for number, stream in enumerate(streams)
    ]
    done: set[asyncio.Task[None]] = set()
    try:
        done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.wait(pumps)
    await chunks.put(None)
    for pump in done:
        pump.result()


async def _pump(stream: AsyncGenerator[Chunk], number: int, chunks: _Queue) -> None:
    async with aclosing(stream):
        async for chunk in stream:
            # What comes next may belong to another stream, so that nobody may wait for it.
            await chunks.put((number, replace(chunk, has_more=False)))


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
        async with aclosing(merged(streams)) as numbered:
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
