"""Noticing at once that a client has left."""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from maxgate.api.body import ClientGone, Receive


class ClientWatch:
    """Cancels the work inside it when the client leaves, and then raises ClientGone.

    `beat`, if given, is called every `interval` seconds while the client is there.
    """

    def __init__(
        self,
        receive: Receive,
        beat: Callable[[], Awaitable[None]] | None = None,
        interval: float | None = None,
    ) -> None:
        self._receive = receive
        self._beat = beat
        self._interval = interval
        self._gone = False

    async def __aenter__(self) -> Self:
        self._work = _current_task()
        self._task = asyncio.create_task(self._watch())
        return self

    async def _watch(self) -> None:
        while not self._gone:
            try:
                async with asyncio.timeout(self._interval):
                    message = await self._receive()
            except TimeoutError:
                if self._beat is not None:
                    await self._beat()
            else:
                self._gone = message["type"] == "http.disconnect"
        self._work.cancel()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._task.cancel()
        try:
            await asyncio.wait([self._task])
        except asyncio.CancelledError:
            # The work ended just as the client left: its cancellation arrives here instead.
            if not self._gone:
                raise
        if not self._task.cancelled():
            self._task.result()
        if self._gone and (kind is None or issubclass(kind, asyncio.CancelledError)):
            self._work.uncancel()
            raise ClientGone from None


def _current_task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    if task is None:  # pragma: no cover  # ASGI servers run each request in a task
        raise RuntimeError("a client can only be watched from a task")
    return task
