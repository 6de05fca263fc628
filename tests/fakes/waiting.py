"""Wait for a condition that has no event."""

import asyncio
from collections.abc import Awaitable, Callable


async def until(condition: Callable[[], Awaitable[bool]], *, within: float = 5) -> None:
    """Return once the condition holds; raises TimeoutError after `within` seconds."""
    async with asyncio.timeout(within):
        while not await condition():  # noqa: ASYNC110  # the other side is another process or server
            await asyncio.sleep(0.001)


async def until_holds(condition: Callable[[], bool], *, within: float = 5) -> None:
    """As `until`, for a condition without `await`."""

    async def check() -> bool:
        return condition()

    await until(check, within=within)
