"""The choices layer: several answers to one request, which MAX does not give itself."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from maxgate.generation.backend import Backend
from maxgate.generation.events import Chunk, Usage
from maxgate.generation.request import GenerationRequest

_WAITING_CHUNKS = 16


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
        return _merged([self._inner.stream(one) for one in _single_requests(request)])


def _single_requests(request: GenerationRequest) -> list[GenerationRequest]:
    sampling = request.sampling
    return [
        replace(
            request,
            choices=1,
            sampling=sampling
            if sampling.seed is None
            else replace(sampling, seed=sampling.seed + number),
        )
        for number in range(request.choices)
    ]


async def _merged(streams: Sequence[AsyncGenerator[Chunk]]) -> AsyncGenerator[Chunk]:
    chunks: asyncio.Queue[Chunk | None] = asyncio.Queue(_WAITING_CHUNKS)
    pumping = asyncio.ensure_future(_pump_all(streams, chunks))
    counted: dict[int, Usage] = {}
    try:
        while (chunk := await chunks.get()) is not None:
            if chunk.usage is not None:
                counted[chunk.choice] = chunk.usage
                chunk = chunk._replace(usage=_sum(counted))
            yield chunk
        await pumping
    finally:
        pumping.cancel()
        await asyncio.wait([pumping])


async def _pump_all(
    streams: Sequence[AsyncGenerator[Chunk]], chunks: "asyncio.Queue[Chunk | None]"
) -> None:
    pumps = [
        asyncio.ensure_future(_pump(stream, number, chunks))
        for number, stream in enumerate(streams)
    ]
    try:
        done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.wait(pumps)
    # What came before a failure is told before it.
    await chunks.put(None)
    for pump in done:
        pump.result()


async def _pump(
    stream: AsyncGenerator[Chunk], number: int, chunks: "asyncio.Queue[Chunk | None]"
) -> None:
    async with aclosing(stream):
        async for chunk in stream:
            # What comes next may belong to another answer, so that nobody may wait for it.
            await chunks.put(chunk._replace(choice=number, more=False))


def _sum(counted: dict[int, Usage]) -> Usage:
    usages = list(counted.values())
    return Usage(usages[0].prompt, sum(usage.completion for usage in usages), usages[0].cached)
