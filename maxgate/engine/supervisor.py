"""Supervising an engine: start it, wait until it is ready, restart it when it exits."""

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import suppress
from itertools import chain, repeat
from typing import Final, NoReturn, Protocol

import httpx

from maxgate.clock import Clock
from maxgate.engine.failure_causes import find_cause, find_phase
from maxgate.engine.launcher import Launcher, RunningEngine, read_tail
from maxgate.errors import EngineError

_POLL_INTERVAL: Final = 0.5
_READY_TIMEOUT: Final = 2.0
# An engine that was ready this long starts again with the shortest delay.
_STABLE_AFTER: Final = 60.0
_RESTART_DELAYS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)


class Reporter(Protocol):
    """Receives the progress of an engine; times are in seconds."""

    def starting(self, phase: str, seconds: float) -> None:
        """Report a start in progress; called at each poll."""
        ...

    def ready(self, seconds: float) -> None:
        """Report that the engine is ready, and how long the start took."""
        ...

    def died(self, cause: str, delay: float) -> None:
        """Report that the engine exited and the delay before its restart."""
        ...


class Supervisor:
    """Supervises one engine, which listens on `url`; times are in seconds."""

    def __init__(
        self,
        launcher: Launcher,
        url: str,
        reporter: Reporter,
        *,
        clock: Clock,
        start_timeout: float,
        client: httpx.AsyncClient,
        poll_interval: float = _POLL_INTERVAL,
        restart_delays: Sequence[float] = _RESTART_DELAYS,
    ) -> None:
        self._launcher = launcher
        self._url = url
        self._reporter = reporter
        self._clock = clock
        self._start_timeout = start_timeout
        self._client = client
        self._poll_interval = poll_interval
        self._restart_delays = restart_delays
        self._ready_at: float | None = None

    async def run(self) -> NoReturn:
        """Run the engine until this is cancelled, then stop it.

        Raises EngineError if the first start fails, since another attempt would fail the same way.
        After a successful start, restarts the engine each time it exits, after the delays in
        `restart_delays`; the last one repeats.
        """
        delays = self._iterate_delays()
        was_ready = False
        while True:
            self._ready_at = None
            try:
                await self._run_once()
            except EngineError as error:
                was_ready = was_ready or self._ready_at is not None
                if not was_ready:
                    raise
                if self._ready_at and self._clock.monotonic() - self._ready_at >= _STABLE_AFTER:
                    delays = self._iterate_delays()
                delay = next(delays)
                self._reporter.died(str(error), delay)
                await asyncio.sleep(delay)

    def _iterate_delays(self) -> Iterator[float]:
        return chain(self._restart_delays, repeat(self._restart_delays[-1]))

    async def _run_once(self) -> NoReturn:
        engine = await self._launcher.start()
        try:
            await self._wait_until_ready(engine)
            raise self._build_error(await engine.wait())
        finally:
            await _finish(engine.stop())

    async def _wait_until_ready(self, engine: RunningEngine) -> None:
        began = self._clock.monotonic()
        exited = asyncio.ensure_future(engine.wait())
        try:
            while not await self._is_ready():
                seconds = self._clock.monotonic() - began
                if exited.done():
                    raise self._build_error(exited.result())
                if seconds > self._start_timeout:
                    raise EngineError(
                        f"it was not ready after {self._start_timeout:.0f} s (engine.start_timeout)"
                    )
                self._reporter.starting(find_phase(read_tail(self._launcher.log_file)), seconds)
                await asyncio.wait([exited], timeout=self._poll_interval)
            self._ready_at = self._clock.monotonic()
            self._reporter.ready(self._ready_at - began)
        finally:
            exited.cancel()
            await asyncio.wait([exited])

    async def _is_ready(self) -> bool:
        with suppress(httpx.HTTPError):
            response = await self._client.get(f"{self._url}/v1/models", timeout=_READY_TIMEOUT)
            return response.status_code == 200
        return False

    def _build_error(self, exit_code: int) -> EngineError:
        return EngineError(find_cause(read_tail(self._launcher.log_file), exit_code))


async def _finish(stop: Coroutine[None, None, None]) -> None:
    # Shielded from repeated Ctrl-C, which would leave part of the engine running.
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
