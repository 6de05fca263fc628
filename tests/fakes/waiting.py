"""Wait for a condition that has no event."""

import asyncio
from collections.abc import Awaitable, Callable
from time import thread_time


async def until(condition: Callable[[], Awaitable[bool]], *, within: float = 5) -> None:
    """Return once the condition holds; raises TimeoutError after `within` seconds.

    Checking takes at most a fifth of the CPU, which the other side needs to get there.
    """
    async with asyncio.timeout(within):
        began = thread_time()
        while not await condition():
            await asyncio.sleep(max(0.001, min(4 * (thread_time() - began), 0.1)))
            began = thread_time()


async def until_holds(condition: Callable[[], bool], *, within: float = 5) -> None:
    """As `until`, for a condition without `await`."""

    async def check() -> bool:
        return condition()

    await until(check, within=within)
