"""Requests that wait for a model that is not running, in a queue like that for slots.

They wait before their prompts are formatted, because another model may serve them after a swap.
"""

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from maxgate.admission.bounded_queue import BoundedQueue, Pace
from maxgate.admission.errors import Refused, ServerOverloaded
from maxgate.admission.queue import Accounts, Waiter
from maxgate.admission.settings import AdmissionSettings
from maxgate.admission.slots import DEFAULT, RANKS
from maxgate.generation.context import RequestContext
from maxgate.generation.errors import ModelNotRunning


class HeldRequests:
    """The queues of the models that are not running, by the names of their cards.

    `engine_names` are the models' names at the engines, by those of their cards. `measure_pace`
    returns how fast the queue of a model moves while it runs, by its name at the engines.
    """

    def __init__(self, settings: AdmissionSettings, engine_names: Mapping[str, str]) -> None:
        self._settings = settings
        self._engine_names = engine_names
        self._queues: dict[str, BoundedQueue] = {}
        self.measure_pace: Callable[[str], Pace] = lambda _: Pace(0, 0.0)

    def count_class(self, engine_name: str, rank: int) -> int:
        """Return the number of requests of a class that wait for a model to start."""
        return sum(
            queue.count_class(rank)
            for model, queue in self._queues.items()
            if self._engine_names.get(model, model) == engine_name
        )

    @contextmanager
    def hold(
        self, model: str, context: RequestContext, *, size: int, seconds: float
    ) -> Iterator["asyncio.Future[None]"]:
        """Keep a request in the queue during the context; the future is done when it may go on.

        The model is expected to run in `seconds`; `size` is in bytes. Raises ModelNotRunning or
        TenantQueueFull, with the time until a retry is likely to succeed, if the queue is full or
        the request would wait beyond its deadline. The future may raise them, too.
        """
        loop, record = asyncio.get_running_loop(), context.record
        now, principal = loop.time(), context.principal
        queue = self._queues.get(model)
        if queue is None:
            accounts = Accounts(self._settings.max_tenants)
            queue = self._queues[model] = BoundedQueue(self._settings, accounts)
        waiter = Waiter(
            queue.accounts.find(principal.tenant_id),
            RANKS.get(principal.service_class, DEFAULT),
            context.priority,
            cost=1.0,  # the prompt is not formatted yet
            size=size,
            queued_at=now,
            expires_at=math.inf if context.deadline is None else context.deadline,
            turn=loop.create_future(),
        )
        pace = self.measure_pace(self._engine_names.get(model, model))
        is_start = queue.length >= pace.running  # they will take all slots
        try:
            queue.enqueue(waiter, now, pace._replace(held=seconds, is_start=is_start))
            yield waiter.turn
        except Refused as error:
            record.model, record.refusal = model, error.reason
            if isinstance(error, ServerOverloaded):
                raise ModelNotRunning(model, retry_after=error.retry_after or 0.0) from None
            raise
        finally:
            record.queue_seconds += loop.time() - now
            if record.trace is not None:
                record.trace.add_step("queue", loop.time() - now)
            if waiter.is_queued:
                queue.remove(waiter)

    def resume(self, model: str) -> None:
        """Let all requests for a model go on, in the order in which they get slots."""
        queue, released = self._queues.pop(model, None), list[Waiter]()
        while queue is not None and (waiter := queue.pop()) is not None:
            waiter.account.counter += waiter.cost
            released.append(waiter)
        for waiter in released:
            if not waiter.turn.done():
                waiter.turn.set_result(None)
