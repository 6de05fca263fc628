"""The bounds of the queue of one model, and the refusals of requests beyond them.

By default nobody waits much longer than a response takes, or half a second if that is longer: a
longer queue only makes every request late. A refusal says when its retry is likely to succeed, and
later refusals name later times, so that clients that honour Retry-After do not return all at once.
"""

from typing import Final, NamedTuple

from maxgate.admission.errors import Refused, ServerOverloaded, TenantQueueFull
from maxgate.admission.queue import Accounts, FairQueue, Waiter
from maxgate.admission.settings import AdmissionSettings

MIN_QUEUE: Final = 8
"""Requests that may wait however long that takes."""
MIN_WAIT: Final = 0.5
_MAX_RETRY_AFTER: Final = 60.0


class Pace(NamedTuple):
    """How fast the queue moves: `running` requests, each of which takes `response` seconds.

    `held` is the time in seconds until slots are given at all, `measured_turn` the measured time
    between two free slots. `is_start`: all slots have just been taken, and none is free before
    the first of these responses ends.
    """

    running: int
    response: float
    held: float = 0.0
    measured_turn: float | None = None
    is_start: bool = False

    @property
    def turn(self) -> float:
        """Seconds between two free slots."""
        if self.measured_turn is not None:
            return self.measured_turn
        return self.response / max(self.running, 1)

    def estimate_wait(self, turns: int) -> float:
        """Return the seconds until this many slots have been given."""
        return self.held + turns * self.turn


class BoundedQueue(FairQueue):
    """A queue that refuses requests: it is full, or they would wait too long."""

    def __init__(self, settings: AdmissionSettings, accounts: Accounts) -> None:
        super().__init__(accounts)
        self._settings = settings
        self._promised_until = 0.0

    def enqueue(self, waiter: Waiter, now: float, pace: Pace) -> None:
        """Let a request wait; raises ServerOverloaded or TenantQueueFull."""
        if not self.length:  # those who were promised a turn have not come back
            self._promised_until = 0.0
        if self._is_full(waiter, pace) and not self._make_room(waiter, now, pace):
            raise self._refuse(waiter, now, pace)
        wait = pace.estimate_wait(self.count_ahead(waiter.account, waiter.rank) + 1)
        late = now + wait - waiter.expires_at
        if late > 0:
            error = self._overloaded(max(late, self.promise(now, pace)), pace)
            error.reason = "deadline"
            raise error
        self.push(waiter)

    def _is_full(self, waiter: Waiter, pace: Pace) -> bool:
        settings = self._settings
        if self.size + waiter.size > settings.max_queue_bytes:
            return True
        if settings.max_queue is not None:
            return self.length >= settings.max_queue
        wait = self.length * pace.turn
        return self.length >= MIN_QUEUE and wait > max(pace.response, MIN_WAIT)

    def promise(self, now: float, pace: Pace) -> float:
        """Return the seconds until a retry is likely to succeed; each call promises a turn."""
        delay = pace.held + (max(pace.response - pace.turn, 0.0) if pace.is_start else 0.0)
        begin = max(self._promised_until, now + delay)
        self._promised_until = min(begin + pace.turn, now + pace.held + _MAX_RETRY_AFTER)
        return self._promised_until - now

    def _make_room(self, waiter: Waiter, now: float, pace: Pace) -> bool:
        """Drop a request of the tenant with the most waiting, if it has more than the caller."""
        account = max(self._accounts.waiting(), key=lambda item: item.waiting, default=None)
        victim = None if account is None else self.find_last(account)
        if account is None or victim is None or victim.size < waiter.size:
            return False
        if account.waiting <= waiter.account.waiting + 1 and victim.rank <= waiter.rank:
            return False
        self.remove(victim)
        if not victim.turn.done():
            victim.turn.set_exception(self._refuse(victim, now, pace))
        return True

    def _refuse(self, waiter: Waiter, now: float, pace: Pace) -> Refused:
        tenants, own = sum(1 for _ in self._accounts.waiting()), waiter.account.waiting
        seconds = self.promise(now, pace)
        if tenants > 1 and own * tenants >= self.length:
            return TenantQueueFull(
                f"Too many requests of this caller are waiting ({own}), and other callers wait, "
                "too. Send fewer requests at a time, or retry after the time in Retry-After.",
                retry_after=seconds,
            )
        return self._overloaded(seconds, pace)

    def _overloaded(self, seconds: float, pace: Pace) -> ServerOverloaded:
        return ServerOverloaded(
            f"The model is at capacity: {pace.running} requests are running and {self.length} are "
            "waiting. Retry after the time in Retry-After.",
            retry_after=seconds,
        )
