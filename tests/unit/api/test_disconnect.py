"""Work is cancelled if its client disconnects, and only then."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from maxgate.api.connection import EXTENSION
from maxgate.api.disconnect import ClientDisconnect, DisconnectWatch


class Client:
    """The client of an ASGI connection, on our own server or on another one."""

    is_shutting_down = refuses_requests = lacks_descriptors = False

    def __init__(self, messages: Sequence[str] = (), *, own_server: bool = False) -> None:
        self._messages = list(messages)
        self.disconnected = asyncio.Event()
        self.on_disconnect: Callable[[], None] | None = None
        self.scope: dict[str, object] = {"extensions": {EXTENSION: self}} if own_server else {}

    @property
    def is_lost(self) -> bool:
        return self.disconnected.is_set()

    def disconnect(self) -> None:
        self.disconnected.set()
        if self.on_disconnect is not None:
            self.on_disconnect()

    async def receive(self) -> dict[str, object]:
        if self._messages:
            return {"type": self._messages.pop(0)}
        await self.disconnected.wait()
        return {"type": "http.disconnect"}


@pytest.fixture(params=["own server", "another server"])
def client(request: pytest.FixtureRequest) -> Client:
    """A client that has sent its request."""
    return Client(["http.request"], own_server=request.param == "own server")


def pending_cancellations() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


@pytest.mark.parametrize("before", [True, False])
async def test_work_is_cancelled(client: Client, *, before: bool) -> None:
    """A disconnect before or during the work cancels it once, and runs its cleanup."""
    cleaned = False
    if before:
        client.disconnect()
    with pytest.raises(ClientDisconnect):
        async with DisconnectWatch(client.scope, client.receive):
            try:
                if not before:
                    asyncio.get_running_loop().call_soon(client.disconnect)
                await asyncio.Event().wait()
            finally:
                cleaned = True
    await asyncio.sleep(0)  # a pending cancellation would be raised here
    assert (cleaned, pending_cancellations()) == (True, 0)


async def test_work_ends(client: Client) -> None:
    """No task is left when the work ends, and a later disconnect cancels nothing."""
    before = asyncio.all_tasks()
    async with DisconnectWatch(client.scope, client.receive):
        pass
    assert asyncio.all_tasks() == before
    client.disconnect()
    await asyncio.sleep(0)
    assert pending_cancellations() == 0


async def test_work_fails(client: Client) -> None:
    """An exception of the work is raised unchanged."""
    with pytest.raises(ValueError, match="oops"):
        async with DisconnectWatch(client.scope, client.receive):
            raise ValueError("oops")


async def test_other_cancellation(client: Client) -> None:
    """A cancellation by another task is raised as CancelledError."""
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


async def test_disconnect_at_end(client: Client) -> None:
    """A disconnect at the very end of the work still raises ClientDisconnect."""
    before = asyncio.all_tasks()
    with pytest.raises(ClientDisconnect):
        async with DisconnectWatch(client.scope, client.receive):
            watchers = asyncio.all_tasks() - before
            client.disconnect()
            if watchers:
                await asyncio.wait(watchers)
    await asyncio.sleep(0)
    assert pending_cancellations() == 0


async def test_keep_alive(client: Client) -> None:
    """`keep_alive` is called again and again while the client is connected."""
    calls = asyncio.Semaphore(0)

    async def keep_alive() -> None:
        calls.release()

    async with DisconnectWatch(client.scope, client.receive, keep_alive, interval=0.001):
        for _ in range(3):
            await calls.acquire()


async def test_keep_alive_fails(client: Client) -> None:
    """An exception of `keep_alive` is raised."""
    failed = asyncio.Event()

    async def keep_alive() -> None:
        failed.set()
        raise OSError("socket")

    with pytest.raises(OSError, match="socket"):
        async with DisconnectWatch(client.scope, client.receive, keep_alive, interval=0.001):
            await failed.wait()
