"""Keeps an engine up: starts it, waits until it answers, starts it again when it dies."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from itertools import chain, repeat
from typing import NoReturn, Protocol

import httpx

from maxgate.clock import Clock
from maxgate.engine.failure_causes import cause_of, phase_of
from maxgate.engine.launcher import Launcher, RunningEngine, read_tail
from maxgate.errors import EngineError

_LOOK_EVERY = 0.5
_UP_FOR_GOOD = 60.0
_PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_LONGEST_PAUSE = 60.0


class Reporter(Protocol):
    """Someone who is told how it goes."""

    def starting(self, phase: str, seconds: float) -> None:
        """Called twice a second while the engine is not ready."""
        ...

    def ready(self, seconds: float) -> None:
        """The engine answers."""
        ...

    def died(self, cause: str, pause: float) -> None:
        """The engine has ended and will be started again after a pause."""
        ...


class Supervisor:
    """One engine's keeper; `url` is where it will answer."""

    def __init__(
        self,
        launcher: Launcher,
        url: str,
        reporter: Reporter,
        *,
        clock: Clock,
        start_timeout: float,
        client: httpx.AsyncClient,
    ) -> None:
        self._launcher = launcher
        self._url = url
        self._reporter = reporter
        self._clock = clock
        self._start_timeout = start_timeout
        self._client = client
        self._ready_at: float | None = None

    async def run(self) -> NoReturn:
        """Until cancelled; the engine is stopped then.

        Raises EngineError where the engine does not come up the first time: a second try would
        fail the same way. Once it has been up it is started again however often it dies, after
        pauses that grow from one second to a minute.
        """
        pauses = _growing_pauses()
        been_ready = False
        while True:
            self._ready_at = None
            try:
                await self._run_once()
            except EngineError as error:
                been_ready = been_ready or self._ready_at is not None
                if not been_ready:
                    raise
                if self._ready_at and self._clock.monotonic() - self._ready_at >= _UP_FOR_GOOD:
                    pauses = _growing_pauses()
                pause = next(pauses)
                self._reporter.died(str(error), pause)
                await asyncio.sleep(pause)

    async def _run_once(self) -> NoReturn:
        engine = await self._launcher.start()
        try:
            await self._until_ready(engine)
            raise self._failure(await engine.wait())
        finally:
            await _undisturbed(engine.stop())

    async def _until_ready(self, engine: RunningEngine) -> None:
        began = self._clock.monotonic()
        ended = asyncio.ensure_future(engine.wait())
        try:
            while not await self._answers():
                seconds = self._clock.monotonic() - began
                if ended.done():
                    raise self._failure(ended.result())
                if seconds > self._start_timeout:
                    raise EngineError(f"it was not ready after {self._start_timeout:.0f} s")
                self._reporter.starting(phase_of(read_tail(self._launcher.log_file)), seconds)
                await asyncio.wait([ended], timeout=_LOOK_EVERY)
            self._ready_at = self._clock.monotonic()
            self._reporter.ready(self._ready_at - began)
        finally:
            ended.cancel()
            await asyncio.wait([ended])

    async def _answers(self) -> bool:
        with suppress(httpx.HTTPError):
            response = await self._client.get(f"{self._url}/v1/models", timeout=_LOOK_EVERY * 4)
            return response.status_code == 200
        return False

    def _failure(self, exit_code: int) -> EngineError:
        return EngineError(cause_of(read_tail(self._launcher.log_file), exit_code))


def _growing_pauses() -> Iterator[float]:
    return chain(_PAUSES, repeat(_LONGEST_PAUSE))


async def _undisturbed(stop: Coroutine[None, None, None]) -> None:
    # More Ctrl-Cs, however many, must not leave half an engine behind.
    task = asyncio.create_task(stop)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
    task.result()
