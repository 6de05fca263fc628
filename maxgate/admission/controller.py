"""Admission as a guard: a request runs with a slot, waits for one in the queue, or is refused."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Final, Protocol

import structlog

from maxgate.admission.bounded_queue import Pace
from maxgate.admission.capacity import UNLIMITED, EngineLoad, add_spare
from maxgate.admission.errors import QueueTimeout, Refused
from maxgate.admission.held import HeldRequests
from maxgate.admission.ledger import SlotLedger
from maxgate.admission.queue import Account, Waiter
from maxgate.admission.settings import AdmissionSettings
from maxgate.admission.sharing import SharedSlots
from maxgate.admission.slots import RANKS, Admission, ModelSlots, Request
from maxgate.errors import ShuttingDown, StackTrace
from maxgate.generation.backend import EmbeddingRequest

TICK: Final = 0.25
"""Interval at which limits are updated, in seconds."""

_log = structlog.get_logger("admission")


class SlotsSink(Protocol):
    """Takes the state of a model's slots, such as a metrics store."""

    def set_slots(self, model: str, slots: int, in_use: int, waiting: Mapping[str, int]) -> None:
        """Take slots, 0 without a limit, those in use, and the waiting requests by class."""
        ...


class AdmissionController:
    """Admits requests; see Guard.

    Entering an admission raises ServerOverloaded, TenantQueueFull, QueueTimeout and ShuttingDown.

    `read_load` returns the load of a model's engines, and `find_slots` how many requests they work
    on at a time, None if that is not configured. Both get the engines' name of the model.
    `list_models` returns the names of the models that engines serve.
    """

    def __init__(
        self,
        settings: AdmissionSettings,
        read_load: Callable[[str], EngineLoad],
        find_slots: Callable[[str], int | None],
        sink: SlotsSink | None = None,
        ledger: SlotLedger | None = None,
        *,
        held: HeldRequests | None = None,
        list_models: Callable[[], Collection[str]] = tuple,
    ) -> None:
        """With a `ledger`, the slots of each model are shared with other processes.

        `held` are the requests whose models are not running; they count as waiting. `list_models`
        returns the models whose leases begin before their first request.
        """
        self._held = held
        if held is not None:
            held.measure_pace = self.measure_pace
        self._sink = sink
        self._shared = None if ledger is None else SharedSlots(ledger, self._use_grant)
        # A partial adds no Python call to the path of each request.
        self.admit: Callable[[Request], Admission] = partial(Admission, self)
        self._settings = settings
        self._read_load = read_load
        self._find_slots = find_slots
        self._list_models = list_models
        self._is_closed = False
        self.models: dict[str, ModelSlots] = {}

    def slots(self, model: str) -> ModelSlots:
        """Return the slots of a model by its name at the engines."""
        slots = self.models.get(model)
        if slots is None:
            slots = self.models[model] = ModelSlots(self._settings)
            self._measure(model, slots)
            if self._shared is None:
                self._use(model, slots, slots.capacity)
            else:
                slots.slots = 0  # until the first grant
                self._shared.renew_soon(model, slots)
        return slots

    async def run(self) -> None:
        """Update the limits until cancelled."""
        try:
            while True:
                await asyncio.sleep(TICK)
                await self.update()
        finally:
            if self._shared is not None:
                await self._shared.release()

    async def update(self) -> None:
        """Update the limits of all models, and renew their leases."""
        try:
            await self._update_all()
        except Exception as error:  # noqa: BLE001  # the gateway must go on
            _log.error("update of slots failed", exception=StackTrace(error))

    async def _update_all(self) -> None:
        for model in self._list_models():
            self.slots(model)  # so that the first request has a slot
        for model, slots in list(self.models.items()):
            self._measure(model, slots)
            if self._shared is None:
                self._use(model, slots, slots.capacity)
            else:
                await self._shared.renew(model, slots)

    def _measure(self, model: str, slots: ModelSlots) -> None:
        fixed = self._find_slots(model)
        if fixed is not None:
            slots.batch, slots.capacity = fixed, add_spare(fixed)
            return
        load, waiting = self._read_load(model), slots.queue.length
        now, limit = asyncio.get_running_loop().time(), slots.limit
        is_full = slots.in_use >= slots.slots
        slots.capacity = limit.update(now, load, is_full=is_full, waiting=waiting)
        slots.batch = limit.batch

    def _use_grant(self, model: str, slots: int, *, unleased: int) -> None:
        self._use(model, self.slots(model), slots, unleased)

    def _use(self, model: str, slots: ModelSlots, number: int, unleased: int = 0) -> None:
        slots.update(asyncio.get_running_loop().time(), number)
        if self._sink is not None:
            waiting = {name: slots.queue.count_class(rank) for name, rank in RANKS.items()}
            if self._held is not None:
                for name, rank in RANKS.items():
                    waiting[name] += self._held.count_class(model, rank)
            known = 0 if number == UNLIMITED else number + unleased
            self._sink.set_slots(model, known, slots.in_use, waiting)

    def measure_pace(self, model: str) -> Pace:
        """Return how fast the queue of a model moves once all of its slots are in use.

        `running` and `response` are 0 if nothing limits the slots.
        """
        slots = self.slots(model)
        if slots.capacity >= UNLIMITED:
            return Pace(0, 0.0)
        pace = slots.measure_pace(asyncio.get_running_loop().time())
        return pace._replace(running=slots.capacity, burst=slots.limit_burst(slots.capacity))

    def close(self) -> None:
        """Refuse the requests that wait, and let none wait from now on."""
        self._is_closed = True
        for slots in self.models.values():
            while (waiter := slots.queue.pop()) is not None:
                if not waiter.turn.done():
                    waiter.turn.set_exception(ShuttingDown())

    async def wait(
        self, slots: ModelSlots, account: Account, request: Request, rank: int, cost: float
    ) -> None:
        """Wait for a slot; when this returns it is taken, and the tenant is charged."""
        if self._shared is not None and not self._is_closed:
            self._shared.renew_soon(request.model.engine_name, slots, account.tenant)
            if slots.take(rank):
                account.running += 1
                account.counter += cost
                return
        record = request.context.record
        began = asyncio.get_running_loop().time()
        try:
            await self._wait(slots, account, request, rank, cost)
        except Refused as error:
            record.refusal = error.reason
            raise
        except ShuttingDown:
            record.refusal = "shutdown"
            raise
        finally:
            waited = asyncio.get_running_loop().time() - began
            record.queue_seconds += waited
            if record.trace is not None:
                record.trace.add_step("queue", waited)

    async def _wait(
        self, slots: ModelSlots, account: Account, request: Request, rank: int, cost: float
    ) -> None:
        if self._is_closed:
            raise ShuttingDown
        loop, context = asyncio.get_running_loop(), request.context
        now = loop.time()
        pace = slots.measure_pace(now)
        expires_at = now + self._settings.max_wait
        waiter = Waiter(
            account,
            rank,
            context.priority,
            cost=cost,
            size=count_bytes(request),
            queued_at=now,
            expires_at=min(expires_at, context.deadline or expires_at),
            turn=loop.create_future(),
        )
        if context.was_held:
            slots.queue.push(waiter)  # accepted before; it must not be refused now
        else:
            slots.queue.enqueue(waiter, now, pace)
        try:
            async with asyncio.timeout_at(expires_at):
                await waiter.turn
        except BaseException as error:
            if waiter.is_queued:
                slots.queue.remove(waiter)
            elif not waiter.turn.cancelled() and waiter.turn.exception() is None:
                account.running -= 1  # the slot came at the same time
                account.counter -= cost
                slots.give_back(rank)
            if isinstance(error, TimeoutError):
                now = loop.time()
                raise QueueTimeout(
                    f"The request has waited for {now - waiter.queued_at:.1f} seconds and got no "
                    "slot. Retry after the time in Retry-After.",
                    retry_after=slots.queue.promise(account, now, slots.measure_pace(now)),
                ) from None
            raise


def count_bytes(request: Request) -> int:
    """Return the size of the prompt while the request waits."""
    if isinstance(request, EmbeddingRequest):
        return sum([len(prompt.json) for prompt in request.prompts])
    size = 0 if request.prompt_token_ids is None else len(request.prompt_token_ids.json)
    return size + sum([len(part) for message in request.messages for part in message.parts])
