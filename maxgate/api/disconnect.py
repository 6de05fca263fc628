"""Noticing at once that a client has left."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from maxgate.api.request_body import ClientDisconnect, Receive, Scope


class DisconnectWatch:
    """Cancels the work inside it when the client leaves, and then raises ClientDisconnect.

    `beat`, if given, is called every `interval` seconds while the client is there.
    """

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        beat: Callable[[], Awaitable[None]] | None = None,
        interval: float = 0,
    ) -> None:
        self._connection = scope.get("maxgate.connection")
        self._receive = receive
        self._beat = beat
        self._interval = interval
        self._gone = False
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._work = asyncio.current_task(self._loop)
        if self._connection is None:  # a server other than ours has only `receive` to tell
            self._tasks.append(asyncio.create_task(self._wait_for_disconnect()))
        else:
            self._connection.when_lost(self._client_left)
        if self._beat is not None:
            self._timer = self._loop.call_later(self._interval, self._ring)
        return self

    async def _wait_for_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._client_left()

    def _client_left(self) -> None:
        self._gone = True
        if self._work is not None:
            self._work.cancel()

    def _ring(self) -> None:
        self._tasks.append(asyncio.create_task(self._beat_once()))
        self._timer = self._loop.call_later(self._interval, self._ring)

    async def _beat_once(self) -> None:
        if self._beat is not None:
            await self._beat()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._connection is not None:
            self._connection.when_lost(None)
        if self._timer is not None:
            self._timer.cancel()
        if self._tasks:
            await self._end_tasks()
        if self._gone and (kind is None or issubclass(kind, asyncio.CancelledError)):
            await self._swallow_cancellation()
            raise ClientDisconnect from None

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        try:
            await asyncio.wait(self._tasks)
        except asyncio.CancelledError:
            # The work ended just as the client left: its cancellation arrives here instead.
            if not self._gone:
                raise
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.result()

    async def _swallow_cancellation(self) -> None:
        # Where the work had ended already, its cancellation is still to come.
        work = self._work
        if work is not None and work.cancelling():
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
            work.uncancel()
