"""The bounds of the queue of one model, and the refusals of requests beyond them.

A burst of several times the slots may wait. While requests keep arriving faster than slots become
free, nobody waits much longer than one response takes, or half a second if that is longer: a longer
queue would only make every request late. A refusal says when its retry is likely to succeed,
and later refusals name later times, so that clients that honour Retry-After do not return all at
once.
"""

from typing import Final, NamedTuple

from typing_extensions import override

from maxgate.admission.errors import Refused, ServerOverloaded, TenantQueueFull
from maxgate.admission.queue import CLASSES, Account, Accounts, FairQueue, Waiter
from maxgate.admission.settings import AdmissionSettings

MIN_QUEUE: Final = 8
"""Requests that may wait however long that takes."""
MIN_WAIT: Final = 0.5
BURST: Final = 4
"""Requests of a burst that may wait, as a multiple of the slots."""
MAX_BURST_WAIT: Final = 30.0
_WINDOW_RESPONSES: Final = 4.0
_WINDOW_EXCESS: Final = 0.25
_MAX_RETRY_AFTER: Final = 60.0


class Pace(NamedTuple):
    """How fast the queue moves: `running` requests, each of which takes `response` seconds.

    `held` is the time in seconds until slots are given at all, `measured_turn` the measured time
    between two free slots. `is_start`: all slots have just been taken, and none is free before
    the first of these responses ends. `burst` is the number of requests that may wait unless there
    is lasting overload.
    """

    running: int
    response: float
    held: float = 0.0
    measured_turn: float | None = None
    is_start: bool = False
    burst: int = 0

    @property
    def turn(self) -> float:
        """Seconds between two free slots."""
        if self.measured_turn is not None:
            return self.measured_turn
        return self.response / max(self.running, 1)

    @property
    def short_wait(self) -> float:
        """Seconds that a request may wait even in lasting overload."""
        return max(self.response, MIN_WAIT)

    def estimate_wait(self, turns: int) -> float:
        """Return the seconds until this many slots have been given."""
        return self.held + turns * self.turn


class Demand:
    """Tells lasting overload from a burst.

    A fixed number of clients that each send their next request after a response may all arrive at
    once, but then only as fast as slots become free. Arrivals and turns are compared in windows of
    a few responses. The first window after an empty queue contains the burst and is ignored.
    Refused requests count as arrivals. `turns` is the number of slots given to waiting requests,
    counted by the caller.
    """

    def __init__(self) -> None:
        self.is_lasting = False
        self.turns = 0
        self._arrivals = 0
        self._began: float | None = None
        self._is_first = True

    def add(self, now: float, pace: Pace, *, is_empty: bool) -> None:
        """Count a request that finds no slot; `is_empty` if no other waits."""
        window = max(_WINDOW_RESPONSES * pace.response, MIN_WAIT)
        if is_empty or self._began is None:
            self.is_lasting, self._is_first = False, True
            self._start(now)
        elif now - self._began >= window:
            excess = self._arrivals - self.turns
            limit = max(pace.running, self.turns * _WINDOW_EXCESS)
            self.is_lasting, self._is_first = not self._is_first and excess > limit, False
            self._start(now)
        self._arrivals += 1

    def _start(self, now: float) -> None:
        self._began, self._arrivals, self.turns = now, 0, 0


class BoundedQueue(FairQueue):
    """A queue that refuses requests: it is full, or they would wait too long."""

    def __init__(self, settings: AdmissionSettings, accounts: Accounts) -> None:
        super().__init__(accounts)
        self._settings = settings
        self._demand = Demand()
        self._burst = 0

    @override
    def pop(self, ranks: int = len(CLASSES)) -> Waiter | None:
        waiter = super().pop(ranks)
        self._demand.turns += waiter is not None
        return waiter

    def enqueue(self, waiter: Waiter, now: float, pace: Pace) -> None:
        """Let a request wait; raises ServerOverloaded or TenantQueueFull."""
        if not pace.held:
            self._demand.add(now, pace, is_empty=not self.length)
        if not self.length:
            # A number of slots that changes later must not make the promises of this time wrong.
            self._burst = pace.burst
        account, is_full = waiter.account, self._is_full(waiter, pace)
        if not self.length or not (account.waiting or is_full):
            account.promised_until = 0.0  # those who were promised a turn have not come back
        if is_full and not self._make_room(waiter, now, pace):
            raise self._refuse(waiter, now, pace)
        wait = pace.estimate_wait(self.count_ahead(account, waiter.rank) + 1)
        late = now + wait - waiter.expires_at
        if late > 0:
            error = self._overloaded(max(late, self.promise(account, now, pace)), pace)
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
        if self.length < MIN_QUEUE or wait <= pace.short_wait:
            return False
        return self._demand.is_lasting or self.length >= self._burst or wait > MAX_BURST_WAIT

    def promise(self, account: Account, now: float, pace: Pace) -> float:
        """Return the seconds until a retry is likely to succeed; each call promises a turn.

        Tenants that wait get turns alternately, so refusals of one do not delay the others.
        """
        delay = pace.held + (max(pace.response - pace.turn, 0.0) if pace.is_start else 0.0)
        if self._demand.is_lasting and self._settings.max_queue is None:
            # The queue still holds a burst, and takes nobody before that is served.
            delay += max((self.length - 1) * pace.turn - pace.short_wait, 0.0)
        begin = max(account.promised_until, now + delay)
        latest = now + pace.held + _MAX_RETRY_AFTER
        account.promised_until = min(begin + self.count_tenants(account) * pace.turn, latest)
        return account.promised_until - now

    def _make_room(self, waiter: Waiter, now: float, pace: Pace) -> bool:
        """Drop a request of the tenant with the most waiting, if it has more than the caller."""
        account = max(self.accounts.waiting(), key=lambda item: item.waiting, default=None)
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
        tenants, own = len(self.accounts.waiting()), waiter.account.waiting
        seconds = self.promise(waiter.account, now, pace)
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
