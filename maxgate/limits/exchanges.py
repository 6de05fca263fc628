"""The exchanges of this process with the table, and what it does without the table.

While the table is unavailable, each process may use an even share of the rest, and of each new
window.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from math import inf
from typing import Final, Protocol, TypeAlias

import structlog

from maxgate.clock import Clock
from maxgate.limits.counter import Counter
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

RECOVERY_SECONDS: Final = 3.0
"""Time after an outage in which all processes report, before the table decides again."""
MAX_BATCH: Final = 200
"""Takes and counters of one exchange."""
_WATCHED_TICKS: Final = 10
"""Reports of a counter after its last use, so that an outage does not find an old view."""
_MAX_WATCHED: Final = 2000
_NEW_HOLDER_SECONDS: Final = 1800.0
"""Time without an exchange after which the table may soon forget this holder."""

Costs: TypeAlias = Sequence[tuple[Counter, int]]
"""The amounts that one request takes, all or nothing."""
Refusal: TypeAlias = Counter | None
CountUsed: TypeAlias = Callable[[Limit, float], Awaitable[int]]
"""Returns what the ledger has of a limit since the start of a window, in seconds since 1970."""

_log = structlog.get_logger("limits")


class _Bundle:
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


class EndBatch(Protocol):
    """Lets counters hold only what requests do."""

    def __call__(self, counters: Iterable[Counter] | None = None) -> object:
        """End the batch of requests; with `counters`, only if it has one of them."""
        ...


class Exchanges:
    """One holder of the counters of a table, which has all that they hold after `end_batch`.

    Room of counters is valid in one `epoch`, until `lease_until` on the monotonic clock. `version`
    grows with every change of counters that is neither a take of their room nor a settlement, and
    with those that may exhaust a limit.
    `birth` is that of the table, empty before the first exchange at `exchanged_at`.
    """

    def __init__(
        self,
        table: CounterTable,
        clock: Clock,
        counters: dict[str, Counter],
        *,
        end_batch: EndBatch,
        processes: int,
        count_used: CountUsed | None,
        report: Callable[[bool], None],
    ) -> None:
        self.table = table
        self.epoch = self.version = 0
        self.lease_until = -inf
        self.exchanged_at = -inf
        self.birth = ""
        self.is_degraded = False
        self.holders = self._processes = processes
        self.active: list[Counter] = []
        self._clock = clock
        self._counters = counters
        self._end_batch = end_batch
        self._count_used = count_used
        self._report_degraded = report
        self._holder = create_holder()
        self._owing: list[Counter] = []
        self._normal_at = -inf
        self._degraded_at = inf
        self._lock = asyncio.Lock()

    def activate(self, counter: Counter) -> None:
        """Report a counter with the next tick."""
        if not counter.is_active:
            counter.is_active = True
            self.active.append(counter)

    def pop_active(self) -> list[Counter]:
        """Return counters to report, at most those of one exchange."""
        self.version += 1
        counters, self.active = self.active[:MAX_BATCH], self.active[MAX_BATCH:]
        for counter in counters:
            counter.is_active = False
        return counters

    async def report_active(self) -> None:
        """Report all active counters, and renew the lease."""
        active, self.active = self.active, []
        await self._report_all(active)

    async def report_near(self) -> None:
        """Report the active counters that others should know about soon."""
        near, far = list[Counter](), list[Counter]()
        for counter in self.active:
            (far if counter.is_far else near).append(counter)
        if near:
            self.active = far
            await self._report_all(near)

    async def _report_all(self, counters: Sequence[Counter]) -> None:
        self.version += 1
        for counter in counters:
            counter.is_active = False
        for start in range(0, max(len(counters), 1), MAX_BATCH):
            await self.exchange([], counters[start : start + MAX_BATCH], trims=True)

    def activate_all(self, now: float) -> None:
        """Report all counters that were used, while the table is not back."""
        self.version += 1
        is_long = now - self._degraded_at >= LEASE_SECONDS
        for counter in self._counters.values():
            if counter.used or counter.reserved:
                self.activate(counter)
            if is_long and counter.holds_only:
                counter.epoch = -1  # what others held has expired

    def exchange_now(self, takes: Sequence[Costs], others: Sequence[Counter]) -> list[Refusal]:
        """Exchange with a local table; returns the refusal of each take."""
        bundle = _Bundle(takes, others)
        sent_at, reports = self._prepare(bundle, trims=False)
        if self.is_degraded:  # by an exchange that the end of the batch has caused
            return [self.take_degraded(costs) for costs in takes]
        try:
            reply = self.table.exchange_now(self._holder, reports, bundle.takes, self.birth)
        except CountersUnavailable as error:
            return self._degrade(error, takes)
        return self._apply(bundle, reports, reply, sent_at)

    async def exchange(
        self, takes: Sequence[Costs], others: Sequence[Counter], *, trims: bool = False
    ) -> list[Refusal]:
        """Exchange with the table; `trims` returns room that is not needed."""
        bundle = _Bundle(takes, others)
        async with self._lock:  # a report must not overtake another one
            sent_at, reports = self._prepare(bundle, trims=trims)
            if self.is_degraded and takes:
                return [self.take_degraded(costs) for costs in takes]
            try:
                reply = await self.table.exchange(self._holder, reports, bundle.takes, self.birth)
                if reply.missing:
                    for index in reply.missing:
                        counter = bundle.counters[index]
                        counter.base = await self._find_base(counter) or 0
                    sent_at, reports = self._prepare(bundle, trims=trims)
                    reply = await self.table.exchange(
                        self._holder, reports, bundle.takes, self.birth
                    )
            except CountersUnavailable as error:
                return self._degrade(error, takes)
            return self._apply(bundle, reports, reply, sent_at)

    def _prepare(self, bundle: _Bundle, *, trims: bool) -> tuple[float, list[Report]]:
        now = self._clock.monotonic()
        # Reports have what requests hold now, and rooms of a lost lease include no block.
        self._end_batch(None if self._has_lost_lease(now) else bundle.counters)
        self.version += 1
        if self._has_lost_lease(now):  # the end of the batch may have renewed it
            self.epoch += 1
        if now - self.exchanged_at > _NEW_HOLDER_SECONDS and self.birth:
            self._change_holder()
        has_takes = bool(bundle.takes)
        return now, [
            self._report(counter, trims=trims, has_takes=has_takes) for counter in bundle.counters
        ]

    def _report(self, counter: Counter, *, trims: bool, has_takes: bool) -> Report:
        if self.is_degraded:
            return counter.build_report(held=counter.reserved, wish=0)
        if counter.epoch != self.epoch:
            counter.epoch = self.epoch
            counter.set_room(0)
        if not self.table.is_shared:
            counter.set_room(0)
            return counter.build_report(held=counter.reserved, wish=MAX_AMOUNT)
        # Before the first exchange, nobody knows how many processes share the limit.
        counter.set_allowance(self.holders)
        block = counter.allowance if self.birth and not counter.is_tight else 0
        if trims:
            is_idle = counter.used == counter.reported and not counter.was_held
            counter.was_held = False
            counter.idle_ticks = counter.idle_ticks + 1 if is_idle else 0
            block = 0 if is_idle else block
            if counter.idle_ticks < _WATCHED_TICKS and len(self.active) < _MAX_WATCHED:
                self.activate(counter)
        elif block:
            block = max(block, counter.room)
        # Takes of the exchange come first: the block is what is left after them. Without any, room
        # is kept for requests that arrive meanwhile.
        kept = 0 if has_takes else max(min(counter.room, block), 0)
        counter.set_room(kept)
        return counter.build_report(held=counter.reserved + kept, wish=block - kept)

    def _has_lost_lease(self, now: float) -> bool:
        """Whether others may have what this process held."""
        return not self.is_degraded and now >= self.lease_until > -inf

    def _change_holder(self) -> None:
        self._end_batch()
        self._holder = create_holder()
        for counter in self._counters.values():
            # Less may be used than was reported: a refund came later.
            given = min(counter.reported, counter.used)
            counter.others += given
            counter.set_used(counter.used - given)
            counter.reported = 0

    def _apply(
        self, bundle: _Bundle, reports: Sequence[Report], reply: Reply, sent_at: float
    ) -> list[Refusal]:
        self.version += 1
        self.exchanged_at = self._clock.monotonic()
        self._share(max(reply.holders, self._processes))
        if self.birth not in {"", reply.birth}:
            self.birth = reply.birth
            return self._lose_table(bundle.costs)
        self.birth = reply.birth
        for counter, report, state, amount in zip(
            bundle.counters, reports, reply.states, bundle.sum_taken(reply), strict=True
        ):
            counter.is_known, counter.base = True, None
            counter.seen_at = self.exchanged_at
            counter.reported = report.used + (amount if counter.charges else 0)
            if self.is_degraded:
                counter.others = max(counter.others, state.others)
            else:
                counter.others = state.others
                counter.set_room(counter.room + state.held - report.held)
                if counter.charges:
                    counter.part += amount
                else:
                    counter.room -= amount  # which is a part of what is held
                if self.table.is_shared and (amount or counter.room):
                    counter.idle_ticks = 0
                    self.activate(counter)  # to give the room back, and to know of others
        if self.is_degraded:
            self._recover()
        else:
            self.lease_until = sent_at + LEASE_SECONDS if self.table.is_shared else inf
        counters = bundle.counters
        return [None if index is None else counters[index] for index in reply.refused]

    def _share(self, holders: int) -> None:
        if holders != self.holders:
            self.holders = holders
            for counter in self._counters.values():
                counter.set_allowance(holders)

    def _recover(self) -> None:
        """Let the table decide again, once all processes have had time to report."""
        now = self.exchanged_at
        self._normal_at = min(self._normal_at, now + RECOVERY_SECONDS)
        if now >= self._normal_at:
            self._end_batch()
            self.is_degraded = False
            self.epoch += 1
            self.lease_until = -inf
            self._report_degraded(False)
            _log.info("limits are shared again", seconds=round(now - self._degraded_at, 1))

    def _lose_table(self, takes: Sequence[Costs]) -> list[Refusal]:
        """Report everything again; what the ledger has, it adds itself."""
        self._start_degraded("the shared counters were lost")
        self._normal_at = self.exchanged_at + RECOVERY_SECONDS
        self._end_batch()
        for counter in self._counters.values():
            if counter.rebuilds:
                counter.is_known = False
                counter.others += counter.reported
                counter.set_used(max(counter.used - counter.reported, 0))
            counter.reported = 0
        return [self.take_degraded(costs) for costs in takes]

    def _degrade(self, error: CountersUnavailable, takes: Sequence[Costs]) -> list[Refusal]:
        self._start_degraded(str(error))
        self._normal_at = inf
        return [self.take_degraded(costs) for costs in takes]

    def _start_degraded(self, reason: str) -> None:
        if not self.is_degraded:
            self.is_degraded = True
            self.version += 1
            self._degraded_at = self._clock.monotonic()
            self._end_batch()
            self.epoch += 1
            self.lease_until = inf
            self._report_degraded(True)
            _log.warning("limits are counted by each process", error=reason, share=self.holders)

    def take_degraded(self, costs: Costs) -> Refusal:
        """Take amounts from this process's part."""
        self._end_batch([counter for counter, _ in costs])
        self.version += 1
        for counter, amount in costs:
            if counter.epoch != self.epoch:
                counter.epoch = self.epoch
                counter.set_room(self._find_share(counter))
            if counter.room < (amount or 1):
                return counter
        for counter, amount in costs:
            counter.room -= amount
        return None

    def _find_share(self, counter: Counter) -> int:
        is_long = self._clock.monotonic() - self._degraded_at >= LEASE_SECONDS
        is_new = not counter.is_known and not counter.others
        if is_new or (counter.holds_only and is_long):
            share = max(counter.amount // self.holders, min(counter.amount, 1))
            return share - counter.used - counter.reserved
        return counter.remaining // self.holders

    async def pay_owed(self) -> None:
        """Add what the ledger has to counters for which it could not be read."""
        owing, self._owing = self._owing, []
        for counter in owing:
            await self._pay_base(counter)

    async def leave(self) -> None:
        """End the lease, and close the table."""
        await self.table.leave(self._holder)

    async def _find_base(self, counter: Counter) -> int | None:
        """Return what the ledger has; None if it cannot be read, and has to be asked again."""
        if self._count_used is None:
            return 0
        try:
            return max(await self._count_used(counter.limit, counter.start), 0)
        except Exception as error:  # noqa: BLE001  # whatever the ledger raises
            _log.warning(
                "usage before this start is not known", limit=counter.key, error=str(error)
            )
            self._owing.append(counter)
            return None

    async def _pay_base(self, counter: Counter) -> None:
        base = await self._find_base(counter)
        if base is not None:
            self._end_batch([counter])  # a block would count as used
            counter.set_used(max(base, counter.used))
            counter.set_room(0)
            self.version += 1
            self.activate(counter)
