"""Merge concurrent streams into one."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from maxgate.generation.chunk import Chunk

_QUEUE_SIZE: Final = 16
_Queue = asyncio.Queue[tuple[int, Chunk] | None]


async def merge_streams(
    streams: Sequence[AsyncGenerator[Chunk]],
) -> AsyncGenerator[tuple[int, Chunk]]:
    """Yield the chunks of all streams as they arrive, each with the index of its stream.

    Chunks of one stream keep their order. The first failure closes all streams and is raised
    after the chunks that came before it; so does closing this stream.
    """
    chunks: _Queue = asyncio.Queue(_QUEUE_SIZE)
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
        asyncio.create_task(_pump(stream, index, chunks)) for index, stream in enumerate(streams)
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


async def _pump(stream: AsyncGenerator[Chunk], index: int, chunks: _Queue) -> None:
    async with aclosing(stream):
        async for chunk in stream:
            # The next chunk may belong to another stream, so it must not delay this one.
            await chunks.put((index, replace(chunk, has_more=False)))
