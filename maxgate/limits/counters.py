"""The counters of this process: takes what requests need, through few exchanges with the table.

Far from a limit, a process holds a block of it, so that most requests take from its own memory;
near the limit, each take is an exchange, and all waiting takes share one. While the table is
unavailable, each process may use an even part of what was left, and of each new window.
"""

import asyncio
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from typing import Final, TypeAlias

import structlog

from maxgate.clock import Clock
from maxgate.limits.counter import Counter, build_key
from maxgate.limits.limit import Limit
from maxgate.limits.table import (
    LEASE_SECONDS,
    MAX_AMOUNT,
    CountersUnavailable,
    CounterTable,
    Reply,
    Report,
    Take,
    create_holder,
)
from maxgate.limits.windows import find_span

TICK: Final = 1.0
"""Interval of reports, in seconds."""
RENEW_SECONDS: Final = 3.0
"""Interval of exchanges that renew the lease, if there is nothing to report."""
RECOVERY_SECONDS: Final = 3.0
"""Time after an outage in which all processes report, before the table decides again."""
_WATCHED_TICKS: Final = 10
"""Reports of a counter after its last use, so that an outage does not find an old view."""
_MAX_WATCHED: Final = 2000
_MAX_BATCH: Final = 200
"""Takes and counters of one exchange."""
_CLEAN_SECONDS: Final = 60.0
_NEW_HOLDER_SECONDS: Final = 1800.0
"""Time without an exchange after which the table may soon forget this holder."""

Costs: TypeAlias = Sequence[tuple[Counter, int]]
"""What one request takes, all or nothing."""
Refusal: TypeAlias = Counter | None
CountUsed: TypeAlias = Callable[[Limit, float], Awaitable[int]]
"""Returns what the ledger has of a limit since the start of a window, in seconds since 1970."""

_log = structlog.get_logger()


class Counters:
    """One holder of the counters of a table.

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
        self._table = table
        self._clock = clock
        self._report_degraded = report
        self._holder = create_holder()
        self._holders = self._processes = processes
        self._count_used = count_used
        self._counters: dict[str, Counter] = {}
        self._active: list[Counter] = []
        self._epoch = 0
        self._lease_until = -inf
        self._exchanged_at = -inf
        self._birth = ""
        self._normal_at = -inf
        self._degraded_at = inf
        self.is_degraded = False
        self._waiting: deque[tuple[Costs, asyncio.Future[Refusal]]] = deque()
        self._lock = asyncio.Lock()
        self._flushes = False
        self._work: asyncio.Task[None] | None = None
        self._clean_at = -inf

    def open(self, limit: Limit, at: float) -> Counter:
        """Return the counter of a limit at a time in seconds since 1970."""
        span = find_span(limit.window, limit.time_zone, at)
        key = build_key(limit, span)
        counter = self._counters.get(key)
        if counter is None:
            rebuilds = self._count_used is not None and limit.window != "minute"
            counter = self._counters[key] = Counter(key, limit, span, rebuilds=rebuilds)
        else:
            counter.limit = limit
            counter.set_amount(limit.amount, is_shared=self._table.is_shared)
        return counter

    def take(self, costs: Costs) -> Refusal | asyncio.Future[Refusal]:
        """Take amounts, all or none; the result is the counter that has not enough, or None.

        If the table has to be waited for, the result is a future. Cancelling it gives back what is
        taken.
        """
        epoch = self._epoch
        for counter, amount in costs:
            # A take of zero needs a limit that is not exhausted.
            if counter.epoch != epoch or counter.room < (amount or 1):
                break
        else:
            if self._clock.monotonic() < self._lease_until:
                for counter, amount in costs:
                    counter.take(amount)
                return None
        if self.is_degraded:
            return self._take_degraded(costs)
        if self._table.is_local and not any(c.rebuilds and not c.is_known for c, _ in costs):
            return self._take_now(costs)
        future: asyncio.Future[Refusal] = asyncio.get_running_loop().create_future()
        self._waiting.append((costs, future))
        self._start_work()
        return future

    def settle(self, costs: Costs, used: Sequence[int]) -> None:
        """Settle what one request has taken; `used` has the real amount of each cost."""
        for (counter, amount), actual in zip(costs, used, strict=True):
            counter.settle(amount, actual)
        if self._table.is_shared:
            self._return_rooms(costs)

    def _return_rooms(self, costs: Costs) -> None:
        """Report settled counters with the next tick, or now if others may need what is left."""
        flushes = False
        for counter, _ in costs:
            self._activate(counter)
            allowance = counter.find_allowance(self._holders)
            flushes |= counter.room > allowance and (not allowance or counter.is_tight)
        if flushes and not self.is_degraded:
            if self._table.is_local:
                self._exchange_now([], self._pop_active())
            else:
                self._flushes = True
                self._start_work()

    def knows_exhausted(self, counter: Counter) -> bool:
        """Whether nothing of a limit is left, by what this process has learnt within a second."""
        age = self._clock.monotonic() - self._exchanged_at
        return (
            counter.epoch == self._epoch
            and counter.remaining <= 0
            and (age < TICK or not self._table.is_shared)
        )

    async def join(self) -> None:
        """Contact the table, so that other processes are known before the first request."""
        if self._table.is_shared:
            await self._report_active()

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
            trace = "".join(traceback.format_exception(error))
            _log.error("report of limits failed", exception=trace)

    async def leave(self) -> None:
        """Report what is used, and give back what is held."""
        for counter in self._counters.values():
            if counter.used != counter.reported:
                self._activate(counter)
        if not self.is_degraded and self._table.is_shared:
            await self._report_active()
        await self._table.leave(self._holder)

    async def _refresh(self) -> None:
        now = self._clock.monotonic()
        if now >= self._clean_at:
            self._clean(now)
        if not self._table.is_shared:
            return
        if self.is_degraded:
            self._activate_all(now)
        is_due = now - self._exchanged_at >= RENEW_SECONDS and bool(self._birth)
        if self._active or self.is_degraded or is_due:
            await self._report_active()
        for counter in [c for c in self._counters.values() if c.owes_base]:
            await self._pay_base(counter)

    async def _report_active(self) -> None:
        active, self._active = self._active, []
        for counter in active:
            counter.is_active = False
        for start in range(0, max(len(active), 1), _MAX_BATCH):
            await self._exchange([], active[start : start + _MAX_BATCH], trims=True)

    def _activate_all(self, now: float) -> None:
        is_long = now - self._degraded_at >= LEASE_SECONDS
        for counter in self._counters.values():
            if counter.used or counter.reserved:
                self._activate(counter)
            if is_long and counter.holds_only:
                counter.epoch = -1  # what others held has expired

    def _clean(self, now: float) -> None:
        self._clean_at = now + _CLEAN_SECONDS
        wall = self._clock.wall()
        for key, counter in list(self._counters.items()):
            if wall >= counter.ends_at and not counter.reserved and not counter.is_active:
                del self._counters[key]

    def _activate(self, counter: Counter) -> None:
        if not counter.is_active:
            counter.is_active = True
            self._active.append(counter)

    def _pop_active(self) -> list[Counter]:
        counters, self._active = self._active[:_MAX_BATCH], self._active[_MAX_BATCH:]
        for counter in counters:
            counter.is_active = False
        return counters

    def _start_work(self) -> None:
        if self._work is None:
            self._work = asyncio.get_running_loop().create_task(self._exchange_waiting())

    async def _exchange_waiting(self) -> None:
        try:
            while self._waiting or self._flushes:
                batch = [
                    self._waiting.popleft() for _ in range(min(len(self._waiting), _MAX_BATCH))
                ]
                counters = self._pop_active() if self._flushes else []
                self._flushes = False
                try:
                    results = await self._exchange([costs for costs, _ in batch], counters)
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

    def _take_now(self, costs: Costs) -> Refusal:
        return self._exchange_now([costs], [])[0]

    def _exchange_now(self, takes: Sequence[Costs], others: Sequence[Counter]) -> list[Refusal]:
        exchange = _Exchange(takes, others)
        sent_at, reports = self._prepare(exchange.counters, trims=False)
        try:
            reply = self._table.exchange_now(self._holder, reports, exchange.takes, self._birth)
        except CountersUnavailable as error:
            return self._degrade(error, takes)
        return self._apply(exchange, reports, reply, sent_at)

    async def _exchange(
        self, takes: Sequence[Costs], others: Sequence[Counter], *, trims: bool = False
    ) -> list[Refusal]:
        exchange = _Exchange(takes, others)
        async with self._lock:  # a report must not overtake another one
            if self.is_degraded and takes:
                return [self._take_degraded(costs) for costs in takes]
            sent_at, reports = self._prepare(exchange.counters, trims=trims)
            try:
                reply = await self._table.exchange(
                    self._holder, reports, exchange.takes, self._birth
                )
                if reply.missing:
                    for index in reply.missing:
                        counter = exchange.counters[index]
                        counter.base = await self._find_base(counter)
                    sent_at, reports = self._prepare(exchange.counters, trims=trims)
                    reply = await self._table.exchange(
                        self._holder, reports, exchange.takes, self._birth
                    )
            except CountersUnavailable as error:
                return self._degrade(error, takes)
            return self._apply(exchange, reports, reply, sent_at)

    def _prepare(self, counters: Sequence[Counter], *, trims: bool) -> tuple[float, list[Report]]:
        now = self._clock.monotonic()
        if not self.is_degraded and now >= self._lease_until > -inf:
            self._epoch += 1  # others may have what this process held
        if now - self._exchanged_at > _NEW_HOLDER_SECONDS and self._birth:
            self._change_holder()
        return now, [self._report(counter, trims=trims) for counter in counters]

    def _report(self, counter: Counter, *, trims: bool) -> Report:
        if self.is_degraded:
            return counter.build_report(held=counter.reserved, wish=0)
        if counter.epoch != self._epoch:
            counter.epoch, counter.room = self._epoch, 0
        if not self._table.is_shared:
            counter.room = 0
            return counter.build_report(held=counter.reserved, wish=MAX_AMOUNT)
        # Before the first exchange, nobody knows how many processes share the limit.
        has_block = self._birth and not counter.is_tight
        block = counter.find_allowance(self._holders) if has_block else 0
        if trims:
            is_idle = counter.used == counter.reported
            counter.idle_ticks = counter.idle_ticks + 1 if is_idle else 0
            block = 0 if is_idle else block
            if counter.idle_ticks < _WATCHED_TICKS and len(self._active) < _MAX_WATCHED:
                self._activate(counter)
        elif block:
            block = max(block, counter.room)
        counter.room = 0  # the takes come first; the block is what is left after them
        return counter.build_report(held=counter.reserved, wish=block)

    def _change_holder(self) -> None:
        self._holder = create_holder()
        for counter in self._counters.values():
            counter.others += counter.reported
            counter.used -= counter.reported
            counter.reported = 0

    def _apply(
        self, exchange: "_Exchange", reports: Sequence[Report], reply: Reply, sent_at: float
    ) -> list[Refusal]:
        self._exchanged_at = self._clock.monotonic()
        self._holders = max(reply.holders, self._processes)
        if self._birth not in {"", reply.birth}:
            self._birth = reply.birth
            return self._lose_table(exchange.costs)
        self._birth = reply.birth
        for counter, report, state, amount in zip(
            exchange.counters, reports, reply.states, exchange.sum_taken(reply), strict=True
        ):
            counter.is_known, counter.base = True, None
            counter.reported = report.used + (amount if counter.charges else 0)
            if self.is_degraded:
                counter.others = max(counter.others, state.others)
            else:
                counter.others = state.others
                counter.room += state.held - report.held
                if counter.charges:
                    counter.used += amount
                else:
                    counter.reserved += amount
                    counter.room -= amount
                if self._table.is_shared and (amount or counter.room):
                    counter.idle_ticks = 0
                    self._activate(counter)  # to give the room back, and to know of others
        if self.is_degraded:
            self._recover()
        else:
            self._lease_until = sent_at + LEASE_SECONDS if self._table.is_shared else inf
        counters = exchange.counters
        return [None if index is None else counters[index] for index in reply.refused]

    def _recover(self) -> None:
        """Let the table decide again, once all processes have had time to report."""
        now = self._exchanged_at
        self._normal_at = min(self._normal_at, now + RECOVERY_SECONDS)
        if now >= self._normal_at:
            self.is_degraded = False
            self._epoch += 1
            self._lease_until = -inf
            self._report_degraded(False)
            _log.info("limits are shared again", seconds=round(now - self._degraded_at, 1))

    def _lose_table(self, takes: Sequence[Costs]) -> list[Refusal]:
        """Report everything again; what the ledger has, it adds itself."""
        self._start_degraded("the shared counters were lost")
        self._normal_at = self._exchanged_at + RECOVERY_SECONDS
        for counter in self._counters.values():
            if counter.rebuilds:
                counter.is_known = False
                counter.others += counter.reported
                counter.used = max(counter.used - counter.reported, 0)
            counter.reported = 0
        return [self._take_degraded(costs) for costs in takes]

    def _degrade(self, error: CountersUnavailable, takes: Sequence[Costs]) -> list[Refusal]:
        self._start_degraded(str(error))
        self._normal_at = inf
        return [self._take_degraded(costs) for costs in takes]

    def _start_degraded(self, reason: str) -> None:
        if not self.is_degraded:
            self.is_degraded = True
            self._degraded_at = self._clock.monotonic()
            self._epoch += 1
            self._lease_until = inf
            self._report_degraded(True)
            _log.warning("limits are counted by each process", error=reason, share=self._holders)

    def _take_degraded(self, costs: Costs) -> Refusal:
        for counter, amount in costs:
            if counter.epoch != self._epoch:
                counter.epoch, counter.room = self._epoch, self._find_share(counter)
            if counter.room < (amount or 1):
                return counter
        for counter, amount in costs:
            counter.take(amount)
        return None

    def _find_share(self, counter: Counter) -> int:
        is_long = self._clock.monotonic() - self._degraded_at >= LEASE_SECONDS
        is_new = not counter.is_known and not counter.others
        if is_new or (counter.holds_only and is_long):
            share = max(counter.amount // self._holders, min(counter.amount, 1))
            return share - counter.used - counter.reserved
        return counter.remaining // self._holders

    async def _find_base(self, counter: Counter) -> int:
        if self._count_used is None:
            return 0
        try:
            return max(await self._count_used(counter.limit, counter.start), 0)
        except Exception as error:  # noqa: BLE001  # whatever the ledger raises
            _log.warning(
                "usage before this start is not known", limit=counter.key, error=str(error)
            )
            counter.owes_base = True
            return 0

    async def _pay_base(self, counter: Counter) -> None:
        counter.owes_base = False
        base = await self._find_base(counter)
        if not counter.owes_base:
            counter.used += max(base - counter.used, 0)
            counter.room = 0
            self._activate(counter)


class _Exchange:
    """Takes, and the counters that they and `others` are about."""

    def __init__(self, costs: Sequence[Costs], others: Sequence[Counter]) -> None:
        self.costs = costs
        indexes: dict[Counter, int] = {}
        for counter in others:
            indexes.setdefault(counter, len(indexes))
        self.takes: list[Take] = [
            [(indexes.setdefault(counter, len(indexes)), amount) for counter, amount in one]
            for one in costs
        ]
        self.counters = list(indexes)

    def sum_taken(self, reply: Reply) -> list[int]:
        """Return what was taken of each counter."""
        taken = [0] * len(self.counters)
        for take, refused in zip(self.takes, reply.refused, strict=True):
            if refused is None:
                for index, amount in take:
                    taken[index] += amount
        return taken
