"""Work stops when its client leaves, and only then."""

import asyncio
from collections.abc import Sequence

import pytest

from maxgate.api.body import ClientGone
from maxgate.api.client_watch import ClientWatch


class Client:
    """The receiving end of an ASGI connection."""

    def __init__(self, messages: Sequence[str] = ()) -> None:
        self._messages = list(messages)
        self.leaves = asyncio.Event()

    async def receive(self) -> dict[str, object]:
        if self._messages:
            return {"type": self._messages.pop(0)}
        await self.leaves.wait()
        return {"type": "http.disconnect"}


async def test_work_is_cancelled_when_the_client_leaves() -> None:
    client, cleaned = Client(["http.request"]), False
    client.leaves.set()
    with pytest.raises(ClientGone):
        async with ClientWatch(client.receive):
            try:
                await asyncio.Event().wait()
            finally:
                cleaned = True
    assert cleaned
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


async def test_work_that_ends_leaves_nobody_watching() -> None:
    before = asyncio.all_tasks()
    async with ClientWatch(Client().receive):
        pass
    assert asyncio.all_tasks() == before


async def test_errors_pass_through() -> None:
    with pytest.raises(ValueError, match="oops"):
        async with ClientWatch(Client().receive):
            raise ValueError("oops")


async def test_a_cancellation_from_elsewhere_is_not_taken_for_a_client() -> None:
    started = asyncio.Event()

    async def work() -> None:
        async with ClientWatch(Client().receive):
            started.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_leaving_at_the_very_end_is_leaving() -> None:
    client = Client()
    with pytest.raises(ClientGone):
        async with ClientWatch(client.receive) as watch:
            client.leaves.set()
            await asyncio.wait([watch._task])
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
    await asyncio.sleep(0)  # a cancellation left over would show here


async def test_the_beat_goes_on_while_the_client_is_there() -> None:
    beats = asyncio.Semaphore(0)

    async def beat() -> None:
        beats.release()

    async with ClientWatch(Client().receive, beat, interval=0.001):
        for _ in range(3):
            await beats.acquire()


async def test_a_beat_that_fails_is_not_swallowed() -> None:
    async def beat() -> None:
        raise OSError("socket")

    with pytest.raises(OSError, match="socket"):
        async with ClientWatch(Client().receive, beat, interval=0.001) as watch:
            await asyncio.wait([watch._task])
