"""The slots and the queue of one model.

The queue is as long as the number of slots, so that nobody waits much longer than a response takes;
a longer queue only makes every request late. A refusal says when its retry is likely to succeed,
and later refusals name later times, so that clients that honour Retry-After do not return all at
once.
"""

import math
from typing import Final

from maxgate.admission.capacity import UNLIMITED, AdaptiveLimit
from maxgate.admission.errors import ServerOverloaded, TenantQueueFull
from maxgate.admission.queue import CLASSES, Account, Accounts, FairQueue, Waiter
from maxgate.admission.settings import AdmissionSettings
from maxgate.errors import GatewayError
from maxgate.generation.chunk import Usage

MIN_QUEUE: Final = 8
_MAX_RETRY_AFTER: Final = 60.0
_RESERVE_SECONDS: Final = 60.0
_SMOOTHING: Final = 0.05
_PRIORITY: Final = CLASSES.index("priority")
_DEFAULT: Final = CLASSES.index("default")
# Expected length of a response before there is one.
_TYPICAL_TOKENS: Final = 100.0


class ModelSlots:
    """The slots and the queue of one model.

    `slots` is their number, UNLIMITED until a limit is known.
    """

    def __init__(self, settings: AdmissionSettings) -> None:
        self.settings = settings
        self.slots = UNLIMITED
        self.limit = AdaptiveLimit()
        self.accounts = Accounts(settings.max_tenants)
        self.queue = FairQueue(self.accounts)
        self.in_use = 0
        self.held_until: float | None = None
        self._priority_in_use = 0
        self._priority_at = float("-inf")
        self._open = UNLIMITED  # slots for other classes than priority
        self._mean_seconds = 0.0
        self._mean_tokens = _TYPICAL_TOKENS
        self._promised_until = 0.0

    # Taking and giving back slots

    def take(self, rank: int) -> bool:
        """Take a slot if there is one; then nobody who may have it waits."""
        if not self._has_slot(rank):
            return False
        self._count_in(rank)
        return True

    def give_back(self, rank: int) -> None:
        """Give a slot back, and give it to whoever is next."""
        self.in_use -= 1
        if rank == _PRIORITY:
            self._priority_in_use -= 1
        if len(self.queue):
            self.admit_waiting()

    def admit_waiting(self) -> None:
        """Give free slots to waiting requests."""
        while len(self.queue):
            ranks = len(CLASSES) if self._has_slot(_DEFAULT) else _PRIORITY + 1
            if not self._has_slot(_PRIORITY) or (waiter := self.queue.pop(ranks)) is None:
                return
            if not waiter.turn.done():  # else it was cancelled in this moment
                self._count_in(waiter.rank)
                waiter.turn.set_result(None)

    def update(self, now: float, slots: int) -> None:
        """Use this number of slots from now on."""
        self.slots = slots
        is_shared = slots >= 2 and now - self._priority_at < _RESERVE_SECONDS
        share = self.settings.priority_reserve
        reserved = math.ceil(slots * share) if is_shared and slots < UNLIMITED else 0
        self._open = slots - reserved
        self.admit_waiting()

    def note_priority(self, now: float) -> None:
        """Reserve slots for the class `priority` for some time."""
        self._priority_at = now

    def _has_slot(self, rank: int) -> bool:
        if self.in_use >= self.slots or self.held_until is not None:
            return False
        return rank == _PRIORITY or self.in_use - self._priority_in_use < self._open

    def _count_in(self, rank: int) -> None:
        self.in_use += 1
        if rank == _PRIORITY:
            self._priority_in_use += 1

    # Fairness

    def charge(self, account: Account, prompt_tokens: int) -> float:
        """Charge a request that begins with the tokens that are expected; returns the charge."""
        settings = self.settings
        expected = (
            prompt_tokens * settings.input_weight + self._mean_tokens * settings.output_weight
        )
        account.counter += expected
        account.running += 1
        return expected

    def settle(self, account: Account, charged: float, usage: Usage | None, seconds: float) -> None:
        """Replace the charge by the tokens that were served; None means none."""
        account.running -= 1
        settings, served = self.settings, 0.0
        if usage is not None:
            served = (
                usage.prompt * settings.input_weight + usage.completion * settings.output_weight
            )
            self._mean_seconds += (seconds - self._mean_seconds) * (
                _SMOOTHING if self._mean_seconds else 1.0
            )
            self._mean_tokens += (usage.completion - self._mean_tokens) * _SMOOTHING
            self.limit.add_response(seconds, usage.completion or 1)
        account.counter += served - charged

    # The queue

    @property
    def max_queue(self) -> int:
        """The number of requests that may wait."""
        if self.settings.max_queue is not None:
            return self.settings.max_queue
        return max(MIN_QUEUE, min(self.slots, self.in_use))

    def enqueue(self, waiter: Waiter, now: float) -> None:
        """Let a request wait; raises ServerOverloaded or TenantQueueFull without room for it."""
        queue, settings = self.queue, self.settings
        full = len(queue) >= self.max_queue or queue.size + waiter.size > settings.max_queue_bytes
        if full and not self._make_room(waiter, now):
            raise self._refuse(waiter, now)
        wait = self.estimate_wait(queue.count_ahead(waiter) + 1, now)
        if now + wait > waiter.expires_at:
            raise self._overloaded(wait - (waiter.expires_at - now), now)
        queue.push(waiter)

    def estimate_wait(self, turns: int, now: float) -> float:
        """Return the seconds until this many slots have been given."""
        held = 0.0 if self.held_until is None else max(self.held_until - now, 0.0)
        running = max(self.in_use, 1)
        return held + turns * (self._mean_seconds or 1.0) / running

    def _make_room(self, waiter: Waiter, now: float) -> bool:
        """Drop a request of the tenant with the most waiting, if it has more than the caller."""
        own = self.accounts.find(waiter.tenant).waiting
        name, account = max(self.accounts, key=lambda item: item[1].waiting)
        victim = self.queue.find_newest(name)
        if victim is None or victim.size < waiter.size:
            return False
        if account.waiting <= own + 1 and victim.rank <= waiter.rank:
            return False
        self.queue.remove(victim)
        if not victim.turn.done():
            victim.turn.set_exception(self._refuse(victim, now))
        return True

    def _refuse(self, waiter: Waiter, now: float) -> GatewayError:
        waiting = [account.waiting for _, account in self.accounts if account.waiting]
        own = self.accounts.find(waiter.tenant).waiting
        if len(waiting) > 1 and own * len(waiting) >= len(self.queue):
            seconds = self.promise(now)
            return TenantQueueFull(
                f"Too many requests of this caller are waiting ({own}); other callers are waiting, "
                "too. Send fewer requests at a time, or retry after the time in Retry-After.",
                retry_after=seconds,
            )
        return self._overloaded(0.0, now)

    def _overloaded(self, seconds: float, now: float) -> ServerOverloaded:
        return ServerOverloaded(
            f"The model is at capacity: {self.in_use} requests are running and {len(self.queue)} "
            "are waiting. Retry after the time in Retry-After.",
            retry_after=max(self.promise(now), seconds),
        )

    def promise(self, now: float) -> float:
        """Return the seconds until a retry is likely to succeed; each call promises a turn."""
        turn = self.estimate_wait(1, now)
        self._promised_until = max(self._promised_until, now) + turn
        return min(self._promised_until - now, _MAX_RETRY_AFTER)
