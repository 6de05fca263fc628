"""Work stops when its client leaves, and only then."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from maxgate.api.disconnect import EXTENSION, ClientDisconnect, DisconnectWatch


class Client:
    """The receiving end of an ASGI connection, on our own server or on another one."""

    def __init__(self, messages: Sequence[str] = (), *, own_server: bool = False) -> None:
        self._messages = list(messages)
        self.leaves = asyncio.Event()
        self._callback: Callable[[], None] | None = None
        self.scope: dict[str, object] = {"extensions": {EXTENSION: self}} if own_server else {}

    def on_disconnect(self, callback: Callable[[], None] | None) -> None:
        self._callback = callback
        if callback is not None and self.leaves.is_set():
            callback()

    def leave(self) -> None:
        self.leaves.set()
        if self._callback is not None:
            self._callback()

    async def receive(self) -> dict[str, object]:
        if self._messages:
            return {"type": self._messages.pop(0)}
        await self.leaves.wait()
        return {"type": "http.disconnect"}


@pytest.fixture(params=["own server", "another server"])
def client(request: pytest.FixtureRequest) -> Client:
    """A client that has sent its request."""
    return Client(["http.request"], own_server=request.param == "own server")


def cancellations() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


@pytest.mark.parametrize("before", [True, False])
async def test_work_is_cancelled_when_the_client_leaves(client: Client, *, before: bool) -> None:
    cleaned = False
    if before:
        client.leave()
    with pytest.raises(ClientDisconnect):
        async with DisconnectWatch(client.scope, client.receive):
            try:
                if not before:
                    asyncio.get_running_loop().call_soon(client.leave)
                await asyncio.Event().wait()
            finally:
                cleaned = True
    await asyncio.sleep(0)  # a cancellation left over would show here
    assert (cleaned, cancellations()) == (True, 0)


async def test_work_that_ends_leaves_nobody_watching(client: Client) -> None:
    before = asyncio.all_tasks()
    async with DisconnectWatch(client.scope, client.receive):
        pass
    assert asyncio.all_tasks() == before
    client.leave()
    await asyncio.sleep(0)
    assert cancellations() == 0


async def test_errors_pass_through(client: Client) -> None:
    with pytest.raises(ValueError, match="oops"):
        async with DisconnectWatch(client.scope, client.receive):
            raise ValueError("oops")


async def test_a_cancellation_from_elsewhere_is_not_taken_for_a_client(client: Client) -> None:
    started = asyncio.Event()

    async def work() -> None:
        async with DisconnectWatch(client.scope, client.receive):
            started.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_leaving_at_the_very_end_is_leaving(client: Client) -> None:
    with pytest.raises(ClientDisconnect):
        async with DisconnectWatch(client.scope, client.receive) as watch:
            client.leave()
            if watch._tasks:
                await asyncio.wait(watch._tasks)
    await asyncio.sleep(0)
    assert cancellations() == 0


async def test_the_beat_goes_on_while_the_client_is_there(client: Client) -> None:
    beats = asyncio.Semaphore(0)

    async def beat() -> None:
        beats.release()

    async with DisconnectWatch(client.scope, client.receive, beat, interval=0.001):
        for _ in range(3):
            await beats.acquire()


async def test_a_beat_that_fails_is_not_swallowed(client: Client) -> None:
    failed = asyncio.Event()

    async def beat() -> None:
        failed.set()
        raise OSError("socket")

    with pytest.raises(OSError, match="socket"):
        async with DisconnectWatch(client.scope, client.receive, beat, interval=0.001):
            await failed.wait()
