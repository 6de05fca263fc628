"""Lets the requests of one worker wait while their models are started, stopped or swapped."""

import asyncio
import math
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from typing_extensions import override

from maxgate.clock import Clock
from maxgate.generation.catalog import ModelStarts
from maxgate.generation.context import RequestContext
from maxgate.generation.errors import ModelNotRunning, ModelStartFailed
from maxgate.model_swap.settings import SwapSettings

# A refused request still needs its model: its client comes back for it.
_WANTED_SECONDS: Final = 60.0


class RequestHold(Protocol):
    """Holds the requests for models that are not ready; times in seconds."""

    def hold(self, model: str, seconds: float) -> None:
        """Let requests for a model wait, which is expected to be ready in `seconds`."""
        ...

    def resume(self, model: str) -> None:
        """Let the waiting requests go on."""
        ...

    def waiting(self, model: str) -> int:
        """Return the number of requests that wait for a model."""
        ...


class Demand(NamedTuple):
    """The requests that wait for a model, and the seconds that the oldest has waited."""

    waiting: int
    seconds: float


class _Failure(NamedTuple):
    cause: str
    until: float


class StartQueue(ModelStarts, RequestHold):
    """Requests that wait for their models, by the names of the models' cards.

    A request waits until its deadline or `max_wait`. One whose deadline is before the expected
    start is refused at once. `on_demand` is called when the demand for a model begins or ends.
    """

    def __init__(self, settings: SwapSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._waiters: dict[str, dict[asyncio.Future[None], float]] = {}
        self._wanted: dict[str, tuple[float, float]] = {}
        self._expected: dict[str, float] = {}
        self._failures: dict[str, _Failure] = {}
        self.on_demand: Callable[[], None] = lambda: None

    @override
    def hold(self, model: str, seconds: float) -> None:
        self._expected[model] = self._clock.monotonic() + seconds
        self._failures.pop(model, None)

    def fail(self, model: str, cause: str, seconds: float) -> None:
        """Refuse the waiting requests, and further ones for `seconds`."""
        self._failures[model] = _Failure(cause, self._clock.monotonic() + seconds)
        self._release(model)

    @override
    def resume(self, model: str) -> None:
        self._failures.pop(model, None)
        self._expected.pop(model, None)
        self._release(model)

    def _release(self, model: str) -> None:
        wanted = self._wanted.pop(model, None)
        waiters = self._waiters.pop(model, {})
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        if waiters or wanted:
            self.on_demand()

    @override
    def waiting(self, model: str) -> int:
        return len(self._waiters.get(model, ()))

    def list_demand(self) -> dict[str, Demand]:
        """Return the demand for each model that requests need."""
        now = self._clock.monotonic()
        demand = {}
        for model, (since, until) in self._wanted.items():
            if now < until:
                demand[model] = Demand(1, now - since)
        for model, waiters in self._waiters.items():
            if waiters:
                demand[model] = Demand(len(waiters), now - min(waiters.values()))
        return demand

    @override
    async def wait(self, model: str, context: RequestContext) -> None:
        now = self._clock.monotonic()
        failure = self._failures.get(model)
        if failure is not None and now < failure.until:
            raise ModelStartFailed(model, failure.cause, retry_after=_round(failure.until - now))
        loop, since = asyncio.get_running_loop(), context.record.started_at
        patience = self._settings.max_wait - (now - since)
        is_late = patience <= 0
        if context.deadline is not None:
            patience = min(patience, context.deadline - loop.time())
            is_late = is_late or patience < self._expect(model)
        waiters = self._waiters.setdefault(model, {})
        if is_late or len(waiters) >= self._settings.max_waiting:
            raise self._refuse(model)
        waiter: asyncio.Future[None] = loop.create_future()
        waiters[waiter] = since
        if len(waiters) == 1:
            self.on_demand()
        try:
            async with asyncio.timeout(patience):
                await waiter
        except TimeoutError:
            raise self._refuse(model) from None
        finally:
            del waiters[waiter]
            if not waiters and self._waiters.get(model) is waiters:  # not released together
                self.on_demand()

    def _report_expiry(self) -> None:
        self.on_demand()  # the clients of refused requests may not have come back

    def _expect(self, model: str) -> float:
        """Return the seconds until a model is expected to be ready."""
        return max(self._expected.get(model, 0.0) - self._clock.monotonic(), 0.0)

    def _refuse(self, model: str) -> ModelNotRunning:
        now, rest = self._clock.monotonic(), self._expect(model)
        since, _ = self._wanted.get(model, (now, 0))
        self._wanted[model] = (since, now + rest + _WANTED_SECONDS)
        self.on_demand()
        loop = asyncio.get_running_loop()
        loop.call_later(rest + _WANTED_SECONDS + 1, self._report_expiry)
        return ModelNotRunning(model, retry_after=_round(rest))


def _round(seconds: float) -> int:
    return max(math.ceil(seconds), 1)
