"""The slots of one model, and a request that holds one."""

import asyncio
import math
from types import TracebackType
from typing import Final, Protocol, Self, TypeAlias

from maxgate.admission.bounded_queue import BURST, BoundedQueue, Pace
from maxgate.admission.capacity import UNLIMITED, AdaptiveLimit, remove_spare
from maxgate.admission.queue import CLASSES, Account, Accounts
from maxgate.admission.settings import AdmissionSettings
from maxgate.generation.backend import EmbeddingRequest
from maxgate.generation.chunk import Usage
from maxgate.generation.request import GenerationRequest

RANKS: Final = {name: rank for rank, name in enumerate(CLASSES)}
PRIORITY: Final = CLASSES.index("priority")
DEFAULT: Final = CLASSES.index("default")
_RESERVE_SECONDS: Final = 60.0
_SMOOTHING: Final = 0.05
_TURN_AGE: Final = 60.0
# Expected length of a response before there is one.
_TYPICAL_TOKENS: Final = 100.0

Request: TypeAlias = GenerationRequest | EmbeddingRequest


class ModelSlots:
    """The slots and the queue of one model.

    `slots` is their number, UNLIMITED until a limit is known, and `in_use` that of running
    requests. `capacity` is the number of all processes, by the estimate of this one, and `batch`
    how many of them the engines work on without a queue, None if that is not known. With a ledger,
    `shared_capacity` is what all processes use. While there are free slots, nobody who may have one
    waits. `priority_requests` counts those that other processes do not know of yet.
    """

    def __init__(self, settings: AdmissionSettings) -> None:
        self.settings = settings
        self.slots = UNLIMITED
        self.capacity = UNLIMITED
        self.batch: int | None = None
        self.shared_capacity: int | None = None
        self.in_use = 0
        self.limit = AdaptiveLimit(estimates=settings.estimate)
        self.accounts = Accounts(settings.max_tenants)
        self.queue = BoundedQueue(settings, self.accounts)
        self.priority_at = float("-inf")
        self.priority_requests = 0
        self._priority_in_use = 0
        self._open = UNLIMITED  # slots for other classes than priority
        self._mean_seconds = 0.0
        self._mean_tokens = _TYPICAL_TOKENS
        # When a slot became free for a request that waited: no slot is idle until the next one.
        self.freed_at: float | None = None
        self._turn_seconds = 0.0
        self._turn_at = float("-inf")

    def take(self, rank: int) -> bool:
        """Take a slot if there is one."""
        if not self._has_slot(rank):
            return False
        self.in_use += 1
        self._priority_in_use += rank == PRIORITY
        return True

    def give_back(self, rank: int) -> None:
        """Give a slot back, and give it to whoever is next."""
        self.in_use -= 1
        if rank == PRIORITY:
            self._priority_in_use -= 1
        if self.queue.length:
            self.admit_waiting()

    def admit_waiting(self) -> None:
        """Give free slots to waiting requests."""
        while self.queue.length:
            ranks = len(CLASSES) if self._has_slot(DEFAULT) else PRIORITY + 1
            waiter = self.queue.pop(ranks) if self._has_slot(PRIORITY) else None
            if waiter is None:
                return
            if not waiter.turn.done():  # else it was just cancelled
                self.in_use += 1
                self._priority_in_use += waiter.rank == PRIORITY
                waiter.account.running += 1
                waiter.account.counter += waiter.cost
                waiter.turn.set_result(None)

    def _has_slot(self, rank: int) -> bool:
        if self.in_use >= self.slots:
            return False
        return rank == PRIORITY or self.in_use - self._priority_in_use < self._open

    def update(self, now: float, slots: int) -> None:
        """Use this number of slots from now on."""
        self.slots = self._open = slots
        if 1 < slots < UNLIMITED and now - self.priority_at < _RESERVE_SECONDS:
            self._open = self._limit_others(slots)
        self.admit_waiting()

    def _limit_others(self, slots: int) -> int:
        """Return how many of these slots other classes than priority may have.

        A slot is of use to priority only if the engines work on its request at once: the spare
        slots, which are for those that wait there, do not count.
        """
        capacity, batch = self.shared_capacity or self.capacity, self.batch
        if capacity >= UNLIMITED or batch is None:
            capacity, batch = slots, remove_spare(slots)
        reserved = math.ceil(batch * self.settings.priority_reserve) if batch > 1 else 0
        return max(1, slots * (batch - reserved) // capacity)

    def measure_pace(self, now: float) -> Pace:
        """Return how fast the queue moves."""
        # Before the first response, a slot is likely to come soon if none has been in use.
        response = self._mean_seconds or (1.0 if self.in_use else 0.0)
        turn = self._turn_seconds if now - self._turn_at < _TURN_AGE else None
        return Pace(
            self.in_use,
            response,
            measured_turn=turn,
            is_start=self.freed_at is None,
            burst=self.limit_burst(self.slots),
        )

    def limit_burst(self, slots: int) -> int:
        """Return how many requests of a burst may wait for this many slots."""
        # Estimated slots are often more than the engines work on: a burst would wait there, too.
        return 0 if self.limit.is_estimated else BURST * slots

    def measure_turn(self, now: float) -> None:
        """Measure the time between two free slots while requests wait.

        The time of a response says less: it contains the queue of the engine, which a lower limit
        has made shorter since.
        """
        if self.freed_at is not None:
            mean = self.measure_pace(now).turn
            self._turn_seconds = mean + (now - self.freed_at - mean) * _SMOOTHING
            self._turn_at = now
        self.freed_at = now if self.queue.length else None

    def estimate_cost(self, prompt_tokens: int) -> float:
        """Return the expected weighted tokens of a request."""
        settings = self.settings
        return prompt_tokens * settings.input_weight + self._mean_tokens * settings.output_weight

    def estimate_served(self, prompt_tokens: int, seconds: float) -> float:
        """Return the expected weighted tokens of a response that was cancelled after this time."""
        share = min(seconds / self._mean_seconds, 1.0) if self._mean_seconds else 1.0
        settings, tokens = self.settings, share * self._mean_tokens
        return prompt_tokens * settings.input_weight + tokens * settings.output_weight

    def weigh(self, usage: Usage, seconds: float) -> float:
        """Return the weighted tokens of a response, which took this time."""
        settings, limit, tokens = self.settings, self.limit, usage.completion
        self._mean_seconds += (seconds - self._mean_seconds) * (
            _SMOOTHING if self._mean_seconds else 1.0
        )
        self._mean_tokens += (tokens - self._mean_tokens) * _SMOOTHING
        served = usage.prompt * settings.input_weight + tokens * settings.output_weight
        self.accounts.mean_cost += (served - self.accounts.mean_cost) * _SMOOTHING
        limit.responses += 1
        limit.tokens += served or 1.0
        limit.seconds += seconds
        return served


class Controller(Protocol):
    """The slots of all models; see AdmissionController."""

    models: dict[str, ModelSlots]

    def slots(self, model: str) -> ModelSlots:
        """Return the slots of a model by its name at the engines."""
        ...

    async def wait(
        self, slots: ModelSlots, account: Account, request: Request, rank: int, cost: float
    ) -> None:
        """Wait for a slot; when this returns it is taken, and the tenant is charged."""
        ...


class Admission:
    """A slot for one request, from the start to the end of the context; see Lease.

    Without a settlement, the tenant is charged nothing if the request failed, and the tokens that
    were probably generated if it was cancelled, so that disconnecting does not evade fairness.
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

    def __init__(self, controller: Controller, request: Request) -> None:
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
        self._rank = rank = RANKS.get(principal.service_class, DEFAULT)
        now = asyncio.get_running_loop().time()
        if rank == PRIORITY:
            slots.priority_at = now
            slots.priority_requests += 1
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
        now = asyncio.get_running_loop().time()
        seconds = now - self._started_at
        served = 0.0
        if usage is not None:
            served = slots.weigh(usage, seconds)
        elif kind is not None and not issubclass(kind, Exception):
            served = slots.estimate_served(count_prompt_tokens(self._request), seconds)
        account.counter += served - self._charged
        account.unreported += served
        account.running -= 1
        if slots.queue.length or slots.freed_at is not None:
            slots.measure_turn(now)
        slots.give_back(self._rank)


def count_prompt_tokens(request: Request) -> int:
    """Return the length of the prompt, 0 if the engine formats it."""
    if isinstance(request, EmbeddingRequest):
        return sum([prompt.length for prompt in request.prompts])
    prompt = request.prompt_token_ids
    return 0 if prompt is None else prompt.length
