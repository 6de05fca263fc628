"""Several streams as one."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from maxgate.generation.events import Chunk

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
            await chunks.put((number, replace(chunk, more=False)))
