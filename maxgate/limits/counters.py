"""The counters of this process: takes what requests need, through few exchanges with the table.

Far from a limit, a process holds a block of it, so that most requests take from its own memory;
near the limit, each take is an exchange, and all waiting takes share one.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from typing import Final

import structlog

from maxgate.clock import Clock
from maxgate.errors import StackTrace
from maxgate.limits.batch import MANY, Batch
from maxgate.limits.counter import Counter, build_key
from maxgate.limits.entries import Entries
from maxgate.limits.exchanges import MAX_BATCH, Costs, CountUsed, Exchanges, Refusal
from maxgate.limits.limit import Limit
from maxgate.limits.table import CounterTable
from maxgate.limits.windows import find_span

TICK: Final = 1.0
"""Interval of reports of counters near their limits, in seconds."""
RENEW_SECONDS: Final = 3.0
"""Interval of reports of all counters, which also renew the lease, in seconds."""
_CLEAN_SECONDS: Final = 60.0

_log = structlog.get_logger("limits")


class Counters:
    """One holder of the counters of a table, with its `exchanges` and the current `batch`.

    `count_used` rebuilds counters that the table does not have. `processes` is the minimum number
    of processes to share with while the table is unavailable. `report` gets whether this process
    counts alone.
    """

    def __init__(
        self,
        table: CounterTable,
        clock: Clock,
        *,
        processes: int = 1,
        count_used: CountUsed | None = None,
        report: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._counters: dict[str, Counter] = {}
        self.batch = Batch(self.settle_held, clock)
        self.exchanges = Exchanges(
            table,
            clock,
            self._counters,
            end_batch=self.batch.end,
            processes=processes,
            count_used=count_used,
            report=report,
        )
        self._is_shared = table.is_shared
        self._is_local = table.is_local
        self._rebuilds = count_used is not None
        self._clock = clock
        self._monotonic = clock.monotonic
        self._waiting: deque[tuple[Costs, asyncio.Future[Refusal]]] = deque()
        self._flushes = False
        self._work: asyncio.Task[None] | None = None
        self._clean_at = self._renew_at = -inf

    @property
    def is_degraded(self) -> bool:
        """Whether this process counts alone."""
        return self.exchanges.is_degraded

    def open(self, limit: Limit, at: float) -> Counter:
        """Return the counter of a limit at a time in seconds since 1970."""
        span = find_span(limit.window, limit.time_zone, at)
        key = build_key(limit, span)
        counter = self._counters.get(key)
        if counter is None:
            rebuilds = self._rebuilds and limit.window != "minute"
            counter = self._counters[key] = Counter(key, limit, span, rebuilds=rebuilds)
        else:
            if limit.amount != counter.limit.amount:
                self.batch.end([counter])  # blocks have room of the former limit
            counter.limit = limit
            counter.set_amount(limit.amount, is_shared=self._is_shared)
            self.exchanges.version += 1
        return counter

    def take(self, costs: Costs) -> Refusal | asyncio.Future[Refusal]:
        """Take amounts, all or none; the result is the counter that has not enough, or None.

        If the table has to be waited for, the result is a future. Cancelling it gives back what is
        taken.
        """
        exchanges = self.exchanges
        if self.take_room(Entries.of(costs), [amount for _, amount in costs]):
            return None
        if exchanges.is_degraded:
            return exchanges.take_degraded(costs)
        if self._is_local and not any(c.rebuilds and not c.is_known for c, _ in costs):
            return exchanges.exchange_now([costs], [])[0]
        future: asyncio.Future[Refusal] = asyncio.get_running_loop().create_future()
        self._waiting.append((costs, future))
        self._start_work()
        return future

    def take_room(self, entries: Entries, amounts: Sequence[int]) -> bool:
        """Take the amounts if this process has room for all of them.

        This is the usual case of `take`, and the fast one: its loop calls nothing.
        """
        exchanges = self.exchanges
        if entries.version != exchanges.version and not self._check(entries):
            return False
        lease_until = exchanges.lease_until
        if lease_until != inf and self._monotonic() >= lease_until:
            return False
        for counter, index in entries.all:
            room = counter.room - amounts[index]
            if room <= 0:
                # A take of zero needs a limit that is not exhausted.
                if room < 0 or not amounts[index]:
                    return self._retry(entries, amounts, counter)
                exchanges.version += 1  # the edge refuses from now on
            counter.room = room
        if entries.expected >= MANY and not entries.bounded:
            self.batch.take_ahead(entries, amounts, lease_until)
        return True

    def _retry(self, entries: Entries, amounts: Sequence[int], refusing: Counter) -> bool:
        """Undo the take; end the batch and take again, if there is a batch."""
        entries.undo(amounts, refusing)
        return self.batch.end([refusing]) and self.take_room(entries, amounts)

    def _check(self, entries: Entries) -> bool:
        """Return whether the room of all counters is valid, and let the next tick report them.

        Both hold until the version changes: takes and settlements keep the part of the limit that
        this process has.
        """
        exchanges = self.exchanges
        epoch, is_valid = exchanges.epoch, True
        bounded = []
        for counter, _ in entries.all:
            is_valid = is_valid and counter.epoch == epoch
            if self._is_shared:
                counter.update_max_room()
                if counter.max_room != inf:
                    bounded.append(counter)
                exchanges.activate(counter)
                counter.was_held = counter.holds_only
        entries.bounded = bounded
        entries.update_defer()
        entries.version = exchanges.version if is_valid else -1
        return is_valid

    def settle_later(self, entries: Entries, used: int, unused: int) -> bool:
        """Settle a request with its batch; False if it has to be settled at once.

        `used` and `unused` are the parts of the tokens that it holds.
        """
        if not entries.in_batch and entries.version != self.exchanges.version:
            self._check(entries)
        if not entries.defer:
            return False
        if not entries.in_batch:
            self.batch.add(entries)
        entries.ended += 1
        entries.used_tokens += used
        entries.unused_tokens += unused
        return True

    def settle(self, costs: Costs, used: Sequence[int]) -> None:
        """Settle what one request has taken; `used` has the real amount of each cost."""
        entries, amounts = Entries.of(costs), [amount for _, amount in costs]
        self.refund(entries, amounts, used)
        self.settle_held(entries, amounts, used)

    def refund(self, entries: Entries, amounts: Sequence[int], used: Sequence[int]) -> None:
        """Return what was charged and not used; call `settle_held` afterwards."""
        for counter, index in entries.charging:
            counter.room += amounts[index] - used[index]
            counter.part = max(counter.part, counter.room)  # what is used is at least 0

    def settle_held(self, entries: Entries, amounts: Sequence[int], used: Sequence[int]) -> None:
        """Use parts of the amounts that were held, or more, and return the rest to the rooms."""
        if entries.version != self.exchanges.version:
            self._check(entries)
        for counter, index in entries.holding:
            actual = used[index]
            rest = amounts[index] - actual
            counter.settled += actual
            counter.room += rest
            if rest < 0:
                self.exchanges.version += 1  # the limit may be exhausted now
        if entries.bounded:
            self._return_rooms(entries)

    def _return_rooms(self, entries: Entries) -> None:
        """Report counters now if others may need what is left of them."""
        if self.is_degraded or all(c.room <= c.max_room for c in entries.bounded):
            return
        if self._is_local:
            self.exchanges.exchange_now([], [counter for counter, _ in entries.all])
        else:
            self._flushes = True
            self._start_work()

    def knows_exhausted(self, counter: Counter) -> bool:
        """Whether nothing of a limit is left, by what this process has learnt within a second."""
        self.batch.end([counter])
        age = self._clock.monotonic() - counter.seen_at
        return (
            counter.epoch == self.exchanges.epoch
            and counter.remaining <= 0
            and (age < TICK or not self._is_shared)
        )

    async def join(self) -> None:
        """Contact the table, so that other processes are known before the first request."""
        if self._is_shared:
            await self.exchanges.report_active()

    async def run(self) -> None:
        """Report what is used, and renew the lease, until cancelled; then leave the table."""
        try:
            while True:
                await asyncio.sleep(TICK)
                await self.refresh()
        finally:
            await self.leave()

    async def refresh(self) -> None:
        """Report all counters that have changed."""
        try:
            await self._refresh()
        except Exception as error:  # noqa: BLE001  # the gateway must go on
            _log.error("report of limits failed", exception=StackTrace(error))

    async def leave(self) -> None:
        """Report what is used, and give back what is held."""
        self.batch.end()
        for counter in self._counters.values():
            if counter.used != counter.reported:
                self.exchanges.activate(counter)
        if not self.is_degraded and self._is_shared:
            await self.exchanges.report_active()
        if self._work is not None:
            await asyncio.wait([self._work])
        await self.exchanges.leave()

    async def _refresh(self) -> None:
        now = self._clock.monotonic()
        if now >= self._clean_at:
            self._clean(now)
        if not self._is_shared:
            return
        if self.is_degraded:
            self.exchanges.activate_all(now)
        if self.is_degraded or now >= self._renew_at:
            if self.exchanges.active or self.exchanges.birth:
                self._renew_at = now + RENEW_SECONDS
                await self.exchanges.report_active()
        else:
            await self.exchanges.report_near()
        await self.exchanges.pay_owed()

    def _clean(self, now: float) -> None:
        self._clean_at = now + _CLEAN_SECONDS
        wall = self._clock.wall()
        for key, counter in list(self._counters.items()):
            if wall >= counter.ends_at and not counter.reserved and not counter.is_active:
                del self._counters[key]

    def _start_work(self) -> None:
        if self._work is None:
            self._work = asyncio.get_running_loop().create_task(self._exchange_waiting())

    async def _exchange_waiting(self) -> None:
        try:
            while self._waiting or self._flushes:
                size = min(len(self._waiting), MAX_BATCH)
                batch = [self._waiting.popleft() for _ in range(size)]
                counters = self.exchanges.pop_active() if self._flushes else []
                self._flushes = False
                try:
                    results = await self.exchanges.exchange([costs for costs, _ in batch], counters)
                except Exception as error:  # noqa: BLE001  # the requests get it
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(error)
                    continue
                for (costs, future), result in zip(batch, results, strict=True):
                    if not future.done():
                        future.set_result(result)
                    elif result is None:
                        self.settle(costs, [0] * len(costs))
        finally:
            self._work = None
