"""`maxgate engine start` ends with whoever started it."""

import asyncio
import os

from maxgate.cli.engine import _call_when_closed


async def test_a_closed_pipe_is_noticed_once() -> None:
    """It stays readable, and a second cancellation would disturb the stopping."""
    reading, writing = os.pipe()
    calls: list[str] = []
    _call_when_closed(reading, lambda: calls.append("closed"))

    os.close(writing)
    for _ in range(20):  # turns of the loop
        await asyncio.sleep(0)

    os.close(reading)
    assert calls == ["closed"]
