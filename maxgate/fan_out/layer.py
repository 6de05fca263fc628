"""The fan-out layer: `n` choices for one request, which MAX does not generate itself."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import reduce
from typing import Final

from maxgate.generation.backend import Backend
from maxgate.generation.chunk import Chunk, Usage
from maxgate.generation.request import GenerationRequest

_MAX_WAITING_CHUNKS: Final = 16
_Queue = asyncio.Queue[tuple[int, Chunk] | None]


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


async def merge_streams(
    streams: Sequence[AsyncGenerator[Chunk]],
) -> AsyncGenerator[tuple[int, Chunk]]:
    """Yield the chunks of all streams as they arrive, each with the index of its stream.

    Chunks of one stream are in order. The first stream that fails cancels the others, and its
    error is raised after the chunks before it; closing this stream cancels all.
    """
    queue: _Queue = asyncio.Queue(_MAX_WAITING_CHUNKS)
    pumping = asyncio.create_task(_pump_all(streams, queue))
    try:
        while (item := await queue.get()) is not None:
            yield item
        await pumping
    finally:
        pumping.cancel()
        await asyncio.wait([pumping])


async def _pump_all(streams: Sequence[AsyncGenerator[Chunk]], queue: _Queue) -> None:
    pumps = [
        asyncio.create_task(_pump(stream, index, queue)) for index, stream in enumerate(streams)
    ]
    done: set[asyncio.Task[None]] = set()
    try:
        done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.wait(pumps)
    await queue.put(None)
    for pump in done:
        pump.result()


async def _pump(stream: AsyncGenerator[Chunk], index: int, queue: _Queue) -> None:
    async with aclosing(stream):
        async for chunk in stream:
            # The next chunk may belong to another stream, so this one must not wait for it.
            await queue.put((index, replace(chunk, has_more=False)))
