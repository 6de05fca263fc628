"""Admission as a guard: a request runs with a slot, waits for one in the queue, or is refused."""

import asyncio
import math
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Protocol, Self

from maxgate.admission.bounded_queue import BoundedQueue, Pace
from maxgate.admission.capacity import UNLIMITED, AdaptiveLimit, EngineLoad, add_spare
from maxgate.admission.errors import QueueTimeout, ServerOverloaded, TenantQueueFull
from maxgate.admission.queue import CLASSES, Account, Accounts, Waiter
from maxgate.admission.settings import AdmissionSettings
from maxgate.errors import GatewayError, ShuttingDown
from maxgate.generation.backend import EmbeddingRequest
from maxgate.generation.chunk import Usage
from maxgate.generation.request import GenerationRequest
from maxgate.generation.request_record import Refusal

TICK: Final = 0.25
"""Interval at which limits are updated, in seconds."""
_RESERVE_SECONDS: Final = 60.0
_SMOOTHING: Final = 0.05
_RANKS: Final = {name: rank for rank, name in enumerate(CLASSES)}
_PRIORITY: Final = CLASSES.index("priority")
_DEFAULT: Final = CLASSES.index("default")
_REASONS: Final[Mapping[type[GatewayError], Refusal]] = {
    TenantQueueFull: "tenant_queue_full",
    QueueTimeout: "queue_timeout",
    ShuttingDown: "shutdown",
}
# Expected length of a response before there is one.
_TYPICAL_TOKENS: Final = 100.0

Request = GenerationRequest | EmbeddingRequest


class ModelSlots:
    """The slots and the queue of one model.

    `slots` is their number, UNLIMITED until a limit is known, and `in_use` that of running
    requests. While there are free slots, nobody who may have one waits.
    """

    def __init__(self, settings: AdmissionSettings) -> None:
        self.settings = settings
        self.slots = UNLIMITED
        self.in_use = 0
        self.limit = AdaptiveLimit()
        self.accounts = Accounts(settings.max_tenants)
        self.queue = BoundedQueue(settings, self.accounts)
        self.held_until: float | None = None
        self.priority_at = float("-inf")
        self._priority_in_use = 0
        self._open = UNLIMITED  # slots for other classes than priority
        self._mean_seconds = 0.0
        self._mean_tokens = _TYPICAL_TOKENS

    def take(self, rank: int) -> bool:
        """Take a slot if there is one."""
        if self.in_use >= self.slots or self.held_until is not None:
            return False
        if rank == _PRIORITY:
            self._priority_in_use += 1
        elif self.in_use - self._priority_in_use >= self._open:
            return False
        self.in_use += 1
        return True

    def give_back(self, rank: int) -> None:
        """Give a slot back, and give it to whoever is next."""
        self.in_use -= 1
        if rank == _PRIORITY:
            self._priority_in_use -= 1
        if self.queue.length:
            self.admit_waiting()

    def admit_waiting(self) -> None:
        """Give free slots to waiting requests."""
        while self.queue.length:
            if self.take(_DEFAULT):
                waiter = self.queue.pop()
                self.in_use -= 1
            elif self.queue.count_class(_PRIORITY) and self.take(_PRIORITY):
                waiter = self.queue.pop(_PRIORITY + 1)
                self.in_use -= 1
                self._priority_in_use -= 1
            else:
                return
            if waiter is not None and not waiter.turn.done():  # else it was just cancelled
                self.in_use += 1
                self._priority_in_use += waiter.rank == _PRIORITY
                waiter.account.running += 1
                waiter.account.counter += waiter.cost
                waiter.turn.set_result(None)

    def update(self, now: float, slots: int) -> None:
        """Use this number of slots from now on."""
        self.slots = slots
        is_shared = 1 < slots < UNLIMITED and now - self.priority_at < _RESERVE_SECONDS
        reserved = math.ceil(slots * self.settings.priority_reserve) if is_shared else 0
        self._open = slots - reserved
        self.admit_waiting()

    def measure_pace(self, now: float) -> Pace:
        """Return how fast the queue moves."""
        held = 0.0 if self.held_until is None else max(self.held_until - now, 0.0)
        return Pace(self.in_use, (self._mean_seconds or 1.0) / max(self.in_use, 1), held)

    def estimate_cost(self, prompt_tokens: int) -> float:
        """Return the expected weighted tokens of a request."""
        settings = self.settings
        return prompt_tokens * settings.input_weight + self._mean_tokens * settings.output_weight

    def weigh(self, usage: Usage, seconds: float) -> float:
        """Return the weighted tokens of a response, which took this time."""
        settings, limit, tokens = self.settings, self.limit, usage.completion
        self._mean_seconds += (seconds - self._mean_seconds) * (
            _SMOOTHING if self._mean_seconds else 1.0
        )
        self._mean_tokens += (tokens - self._mean_tokens) * _SMOOTHING
        limit.responses += 1
        limit.tokens += tokens or 1
        limit.seconds += seconds
        return usage.prompt * settings.input_weight + tokens * settings.output_weight


class SlotsSink(Protocol):
    """Takes the state of a model's slots, such as a metrics store."""

    def set_slots(self, model: str, slots: int, in_use: int, waiting: Mapping[str, int]) -> None:
        """Take slots, 0 without a limit, those in use, and the waiting requests by class."""
        ...


class AdmissionController:
    """Admits requests; see Guard.

    `read_load` returns the load of a model's engines, and `find_slots` how many requests they work
    on at a time, None if that is not configured. Both get the engines' name of the model.
    """

    def __init__(
        self,
        settings: AdmissionSettings,
        read_load: Callable[[str], EngineLoad],
        find_slots: Callable[[str], int | None],
        sink: SlotsSink | None = None,
    ) -> None:
        self._sink = sink
        self._settings = settings
        self._read_load = read_load
        self._find_slots = find_slots
        self._is_closed = False
        self.models: dict[str, ModelSlots] = {}

    def admit(self, request: Request) -> "Admission":
        """Wait for a slot.

        Entering raises ServerOverloaded, TenantQueueFull, QueueTimeout and ShuttingDown.
        """
        return Admission(self, request)

    def slots(self, model: str) -> ModelSlots:
        """Return the slots of a model by its name at the engines."""
        slots = self.models.get(model)
        if slots is None:
            slots = self.models[model] = ModelSlots(self._settings)
            self._update(model, slots, asyncio.get_running_loop().time())
        return slots

    async def run(self) -> None:
        """Update the limits until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(TICK)
            for model, slots in self.models.items():
                self._update(model, slots, loop.time())

    def _update(self, model: str, slots: ModelSlots, now: float) -> None:
        fixed, queue = self._find_slots(model), slots.queue
        if fixed is None:
            load = self._read_load(model)
            limit = slots.limit.update(now, load, in_use=slots.in_use, waiting=queue.length)
        else:
            limit = add_spare(fixed)
        slots.update(now, limit)
        if self._sink is not None:
            waiting = {name: queue.count_class(rank) for name, rank in _RANKS.items()}
            known = 0 if limit == UNLIMITED else limit
            self._sink.set_slots(model, known, slots.in_use, waiting)

    def hold(self, model: str, seconds: float) -> None:
        """Give no slots for a model, for about this time; requests wait."""
        self.slots(model).held_until = asyncio.get_running_loop().time() + seconds

    def resume(self, model: str) -> None:
        """Give slots again."""
        slots = self.slots(model)
        slots.held_until = None
        slots.admit_waiting()

    def waiting(self, model: str) -> int:
        """Return the number of requests that wait for a slot of a model."""
        slots = self.models.get(model)
        return 0 if slots is None else slots.queue.length

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
        record = request.context.record
        began = asyncio.get_running_loop().time()
        try:
            await self._wait(slots, account, request, rank, cost)
        except ServerOverloaded as error:
            record.refusal = "deadline" if error.is_late else "server_overloaded"
            raise
        except (TenantQueueFull, QueueTimeout, ShuttingDown) as error:
            record.refusal = _REASONS[type(error)]
            raise
        finally:
            record.queue_seconds += asyncio.get_running_loop().time() - began

    async def _wait(
        self, slots: ModelSlots, account: Account, request: Request, rank: int, cost: float
    ) -> None:
        if self._is_closed:
            raise ShuttingDown
        loop, context = asyncio.get_running_loop(), request.context
        now = loop.time()
        pace = slots.measure_pace(now)
        expires_at = now + self._settings.max_wait + pace.held
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
                    retry_after=slots.queue.promise(now, slots.measure_pace(now)),
                ) from None
            raise


class Admission:
    """A slot for one request, from the start to the end of the context; see Lease.

    Without a settlement, the tenant is charged nothing.
    """

    __slots__ = (
        "_account",
        "_charged",
        "_controller",
        "_rank",
        "_request",
        "_slots",
        "_started_at",
        "_usage",
    )

    def __init__(self, controller: AdmissionController, request: Request) -> None:
        self._controller = controller
        self._request = request
        self._usage: Usage | None = None

    def settle(self, usage: Usage) -> None:
        """Set the usage so far."""
        self._usage = usage

    async def __aenter__(self) -> Self:
        request, controller = self._request, self._controller
        name, principal = request.model.engine_name, request.context.principal
        self._slots = slots = controller.models.get(name) or controller.slots(name)
        self._rank = rank = _RANKS.get(principal.service_class, _DEFAULT)
        now = asyncio.get_running_loop().time()
        if rank == _PRIORITY:
            slots.priority_at = now
        accounts, tenant = slots.accounts, principal.tenant_id
        self._account = account = accounts.by_tenant.get(tenant) or accounts.find(tenant)
        self._charged = cost = slots.estimate_cost(count_prompt_tokens(request))
        if slots.take(rank):
            account.running += 1
            account.counter += cost
        else:
            await controller.wait(slots, account, request, rank, cost)
            now = asyncio.get_running_loop().time()
        self._started_at = now
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        slots, account, usage = self._slots, self._account, self._usage
        seconds = asyncio.get_running_loop().time() - self._started_at
        served = 0.0 if usage is None else slots.weigh(usage, seconds)
        account.counter += served - self._charged
        account.running -= 1
        slots.give_back(self._rank)


def count_prompt_tokens(request: Request) -> int:
    """Return the length of the prompt, 0 if the engine formats it."""
    if isinstance(request, EmbeddingRequest):
        return sum([prompt.length for prompt in request.prompts])
    prompt = request.prompt_token_ids
    return 0 if prompt is None else prompt.length


def count_bytes(request: Request) -> int:
    """Return the size of the prompt while the request waits."""
    if isinstance(request, EmbeddingRequest):
        return sum([len(prompt.json) for prompt in request.prompts])
    size = 0 if request.prompt_token_ids is None else len(request.prompt_token_ids.json)
    return size + sum([len(part) for message in request.messages for part in message.parts])
