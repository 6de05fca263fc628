"""Detect that the client has disconnected while its request is running."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from starlette.types import Receive, Scope

from maxgate.api.connection import EXTENSION, ClientConnection
from maxgate.generation.context import RequestContext

CLIENT_CLOSED_REQUEST: Final = 499
"""Status in the log of a request whose client disconnected; nginx's convention."""


class ClientDisconnect(Exception):  # an event, not an error of ours
    """The client has closed its connection."""


class DisconnectWatch:
    """Cancels the enclosed work when the client disconnects, then raises ClientDisconnect.

    `keep_alive`, if given, is called every `interval` seconds while the client is connected.
    """

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        keep_alive: Callable[[], Awaitable[None]] | None = None,
        interval: float = 0,
    ) -> None:
        self._connection: ClientConnection | None = scope.get("extensions", {}).get(EXTENSION)
        self._scope = scope
        self._receive = receive
        self._keep_alive = keep_alive
        self._interval = interval
        self._disconnected = False
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._work = asyncio.current_task(self._loop)
        if self._connection is None:  # other servers report it through `receive` only
            self._tasks.append(asyncio.create_task(self._wait_for_disconnect()))
        else:
            self._connection.on_disconnect = self._cancel_work
            if self._connection.is_lost:
                self._cancel_work()
        if self._keep_alive is not None:
            self._timer = self._loop.call_later(self._interval, self._start_keep_alive)
        return self

    async def _wait_for_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._cancel_work()

    def _cancel_work(self) -> None:
        self._disconnected = True
        context: RequestContext | None = self._scope.get("state", {}).get("context")
        if context is not None and context.cancelled_at is None:
            context.cancelled_at = self._loop.time()
        if self._work is not None:
            self._work.cancel()

    def _start_keep_alive(self) -> None:
        self._tasks.append(asyncio.create_task(self._send_keep_alive()))
        self._timer = self._loop.call_later(self._interval, self._start_keep_alive)

    async def _send_keep_alive(self) -> None:
        if self._keep_alive is not None:
            await self._keep_alive()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._connection is not None:
            self._connection.on_disconnect = None
        if self._timer is not None:
            self._timer.cancel()
        if self._tasks:
            await self._end_tasks()
        if self._disconnected and (kind is None or issubclass(kind, asyncio.CancelledError)):
            await self._swallow_cancellation()
            raise ClientDisconnect from None

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        try:
            await asyncio.wait(self._tasks)
        except asyncio.CancelledError:
            # The work ended just as the client disconnected: its cancellation arrives here.
            if not self._disconnected:
                raise
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.result()

    async def _swallow_cancellation(self) -> None:
        # If the work had ended already, its cancellation is still pending.
        work = self._work
        if work is not None and work.cancelling():
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
            work.uncancel()
