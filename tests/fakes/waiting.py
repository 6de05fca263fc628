"""Waiting for what has no event of its own."""

import asyncio
from collections.abc import Awaitable, Callable


async def until(happened: Callable[[], Awaitable[bool]], *, within: float = 5) -> None:
    """Return as soon as it has happened.

    Raises TimeoutError where it does not.
    """
    async with asyncio.timeout(within):
        while not await happened():  # noqa: ASYNC110  # the other side is another process or server
            await asyncio.sleep(0.001)
