"""Admission as a guard: a request runs with a slot, waits for one in the queue, or is refused."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from maxgate.admission.capacity import EngineLoad, add_spare
from maxgate.admission.errors import QueueTimeout
from maxgate.admission.queue import CLASSES, Account, Waiter
from maxgate.admission.settings import AdmissionSettings
from maxgate.admission.slots import ModelSlots
from maxgate.errors import ShuttingDown
from maxgate.generation.backend import EmbeddingRequest
from maxgate.generation.chunk import Usage
from maxgate.generation.request import GenerationRequest

TICK: Final = 0.25
"""Interval at which limits are updated, in seconds."""
_RANKS: Final = {name: rank for rank, name in enumerate(CLASSES)}
_DEFAULT: Final = CLASSES.index("default")

Request = GenerationRequest | EmbeddingRequest


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
    ) -> None:
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
        fixed = self._find_slots(model)
        if fixed is not None:
            slots.update(now, add_spare(fixed))
            return
        load = self._read_load(model)
        waiting = len(slots.queue)
        slots.update(now, slots.limit.update(now, load, in_use=slots.in_use, waiting=waiting))

    def hold(self, model: str, seconds: float) -> None:
        """Give no slots for a model, for about this time; requests wait."""
        slots = self.slots(model)
        slots.held_until = asyncio.get_running_loop().time() + seconds

    def resume(self, model: str) -> None:
        """Give slots again."""
        slots = self.slots(model)
        slots.held_until = None
        slots.admit_waiting()

    def waiting(self, model: str) -> int:
        """Return the number of requests that wait for a slot of a model."""
        slots = self.models.get(model)
        return 0 if slots is None else len(slots.queue)

    def close(self) -> None:
        """Refuse the requests that wait, and let none wait from now on."""
        self._is_closed = True
        for slots in self.models.values():
            while (waiter := slots.queue.pop()) is not None:
                if not waiter.turn.done():
                    waiter.turn.set_exception(ShuttingDown())

    def max_wait(self, slots: ModelSlots, now: float) -> float:
        """Return how long a request may wait; while slots are held, that time is added."""
        held = 0.0 if slots.held_until is None else max(slots.held_until - now, 0.0)
        return self._settings.max_wait + held

    async def wait(self, slots: ModelSlots, waiter: Waiter) -> None:
        """Wait for a slot; it is taken when this returns."""
        if self._is_closed:
            raise ShuttingDown
        loop, turn = asyncio.get_running_loop(), waiter.turn
        slots.enqueue(waiter, loop.time())
        try:
            async with asyncio.timeout_at(waiter.expires_at):
                await turn
        except BaseException as error:
            if waiter.is_queued:
                slots.queue.remove(waiter)
            elif not turn.cancelled() and turn.exception() is None:
                slots.give_back(waiter.rank)  # the slot came at the same time
            if isinstance(error, TimeoutError):
                raise QueueTimeout(
                    f"The request waited for {loop.time() - waiter.queued_at:.1f} seconds and got "
                    "no slot. Retry after the time in Retry-After.",
                    retry_after=slots.promise(loop.time()),
                ) from None
            raise


class Admission:
    """A slot for one request, from the start to the end of the context.

    `settle` sets the usage; without it, the tenant is charged nothing.
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
        """Report the usage so far; see Lease."""
        self._usage = usage

    async def __aenter__(self) -> Self:
        request, controller = self._request, self._controller
        name = request.model.engine_name
        self._slots = slots = controller.models.get(name) or controller.slots(name)
        principal = request.context.principal
        self._rank = rank = _RANKS.get(principal.service_class, _DEFAULT)
        loop = asyncio.get_running_loop()
        if rank < _DEFAULT:
            slots.note_priority(loop.time())
        tenant = slots.accounts.resolve(principal.tenant_id)
        if not slots.take(rank):
            began = loop.time()
            await controller.wait(slots, self._build_waiter(tenant, began))
            request.context.record.queue_seconds += loop.time() - began
        self._started_at = loop.time()
        self._account: Account = slots.accounts.find(tenant)
        self._charged = slots.charge(self._account, count_prompt_tokens(request))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        slots = self._slots
        seconds = asyncio.get_running_loop().time() - self._started_at
        slots.settle(self._account, self._charged, self._usage, seconds)
        slots.give_back(self._rank)

    def _build_waiter(self, tenant: str, now: float) -> Waiter:
        context = self._request.context
        expires_at = now + self._controller.max_wait(self._slots, now)
        if context.deadline is not None:
            expires_at = min(expires_at, context.deadline)
        return Waiter(
            tenant,
            self._rank,
            context.priority,
            size=count_bytes(self._request),
            queued_at=now,
            expires_at=expires_at,
            turn=asyncio.get_running_loop().create_future(),
        )


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
