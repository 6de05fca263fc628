"""Lets the requests of one worker wait while their models are started, stopped or swapped."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Final, NamedTuple, Protocol

from typing_extensions import override

from maxgate.clock import Clock
from maxgate.errors import GatewayError
from maxgate.generation.catalog import ModelStarts
from maxgate.generation.context import RequestContext
from maxgate.generation.errors import ModelNotRunning, ModelStartFailed
from maxgate.model_swap.settings import SwapSettings

# A refused request still needs its model: its client comes back for it.
_WANTED_SECONDS: Final = 60.0


class RequestHold(Protocol):
    """The queue of the requests for models that are not running."""

    def hold(
        self, model: str, context: RequestContext, *, size: int, seconds: float
    ) -> AbstractContextManager[Awaitable[None]]:
        """Keep a request in the queue during the context; what it yields ends when it may go on.

        The model is expected to run in `seconds`; `size` is in bytes. Raises errors with the time
        until a retry is likely to succeed if the queue is full or the request would wait beyond
        its deadline.
        """
        ...

    def resume(self, model: str) -> None:
        """Let all requests for a model go on, in the order in which they get slots."""
        ...


class Demand(NamedTuple):
    """The requests that wait for a model, and the seconds that the oldest has waited."""

    waiting: int
    seconds: float


class _Failure(NamedTuple):
    cause: str
    until: float


class StartQueue(ModelStarts):
    """Requests that wait for their models, by the names of the models' cards.

    `requests` keeps them, in order and within bounds. A request waits until its deadline or
    `max_wait`. `on_demand` is called when the demand for a model begins or ends. With
    `scale_up_time`, that is how long a start is expected to take from the first request on.
    """

    def __init__(self, settings: SwapSettings, clock: Clock, requests: RequestHold) -> None:
        self._settings = settings
        self._clock = clock
        self._requests = requests
        self._waiting: dict[str, dict[RequestContext, float]] = {}
        self._wanted: dict[str, tuple[float, float]] = {}
        self._expected: dict[str, float] = {}
        self._failures: dict[str, _Failure] = {}
        self.on_demand: Callable[[], None] = lambda: None

    def hold(self, model: str, seconds: float) -> None:
        """Let requests for a model wait, which is expected to be ready in `seconds`."""
        self._expected[model] = self._clock.monotonic() + seconds
        self._failures.pop(model, None)

    def fail(self, model: str, cause: str, seconds: float) -> None:
        """Refuse the waiting requests, and further ones for `seconds`."""
        self._failures[model] = _Failure(cause, self._clock.monotonic() + seconds)
        self._release(model)

    def resume(self, model: str) -> None:
        """Let the waiting requests go on."""
        self._failures.pop(model, None)
        self._expected.pop(model, None)
        self._release(model)

    def _release(self, model: str) -> None:
        wanted = self._wanted.pop(model, None)
        waiting = self._waiting.pop(model, {})
        self._requests.resume(model)
        if waiting or wanted:
            self.on_demand()

    def list_demand(self) -> dict[str, Demand]:
        """Return the demand for each model that requests need."""
        now = self._clock.monotonic()
        demand = {}
        for model, (since, until) in self._wanted.items():
            if now < until:
                demand[model] = Demand(1, now - since)
        for model, waiting in self._waiting.items():
            if waiting:
                demand[model] = Demand(len(waiting), now - min(waiting.values()))
        return demand

    @override
    async def wait(self, model: str, context: RequestContext, *, size: int) -> None:
        now = self._clock.monotonic()
        failure = self._failures.get(model)
        if failure is not None and now < failure.until:
            raise ModelStartFailed(model, failure.cause, retry_after=_round(failure.until - now))
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self._settings.max_wait - (now - context.record.started_at)
        if context.deadline is not None:
            ends_at = min(ends_at, context.deadline)
        if self._settings.scale_up_time is not None and model not in self.list_demand():
            self.hold(model, self._settings.scale_up_time)
        seconds = self._expect(model)
        try:
            with self._requests.hold(model, context, size=size, seconds=seconds) as turn:
                await self._wait(model, context, turn, ends_at)
        except GatewayError:
            self._note_unmet(model)
            raise
        context.was_held = True

    async def _wait(
        self, model: str, context: RequestContext, turn: Awaitable[None], ends_at: float
    ) -> None:
        waiting = self._waiting.setdefault(model, {})
        waiting[context] = context.record.started_at
        if len(waiting) == 1:
            self.on_demand()
        try:
            async with asyncio.timeout_at(ends_at):
                await turn
        except TimeoutError:
            record = context.record
            record.model, record.refusal = model, "queue_timeout"
            raise ModelNotRunning(model, retry_after=max(self._expect(model), 1.0)) from None
        finally:
            del waiting[context]
            if not waiting and self._waiting.get(model) is waiting:  # not released together
                self.on_demand()

    def _report_expiry(self) -> None:
        self.on_demand()  # the clients of refused requests may not have come back

    def _expect(self, model: str) -> float:
        """Return the seconds until a model is expected to be ready."""
        return max(self._expected.get(model, 0.0) - self._clock.monotonic(), 0.0)

    def _note_unmet(self, model: str) -> None:
        """Note that a request was refused, which still needs the model."""
        now, rest = self._clock.monotonic(), self._expect(model)
        since, _ = self._wanted.get(model, (now, 0))
        self._wanted[model] = (since, now + rest + _WANTED_SECONDS)
        self.on_demand()
        loop = asyncio.get_running_loop()
        loop.call_later(rest + _WANTED_SECONDS + 1, self._report_expiry)


def _round(seconds: float) -> int:
    return max(math.ceil(seconds), 1)
