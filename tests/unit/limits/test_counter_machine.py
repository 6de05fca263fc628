"""No sequence of takes, settlements and deaths leaks, exceeds a limit, or goes below zero."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from maxgate.limits.batch import MANY
from maxgate.limits.counter import Counter
from maxgate.limits.counters import TICK
from maxgate.limits.entries import UNITS as ALL_UNITS
from maxgate.limits.entries import Entries
from maxgate.limits.limit import Limit, Scope
from maxgate.limits.table import LEASE_SECONDS
from tests.fakes.counter_tables import MemoryTables, start_process

EVERYONE = Scope("organization")
UNITS = ("requests", "tokens", "concurrent_requests")
INDEXES = st.integers(0, 2)


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run what waits for nothing."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise AssertionError("it waits")


class Process:
    """One process, its requests in progress, and what it has used."""

    def __init__(self, tables: MemoryTables, limits: list[Limit]) -> None:
        self.counters = start_process(tables)
        self.clock = tables.clock
        self.opened = [self.counters.open(one, tables.clock.wall()) for one in limits]
        self.running: list[list[tuple[Counter, int]]] = []
        places = [ALL_UNITS.index(unit) for unit in UNITS]
        self.entries = Entries(list(zip(self.opened, places, strict=True)), is_batched=True)

    def take(self, tokens: int) -> None:
        """Take a request and tokens, as the guard does."""
        costs = list(zip(self.opened, (1, tokens, 1), strict=True))
        entries = self.entries
        if entries.take_ready(tokens, self.clock.monotonic()):
            self.running.append(costs)
            return
        if self.counters.take_room(entries, (1, tokens, 0, 0, 1, 0, 0)):
            self.running.append(costs)
            return
        outcome = self.counters.take(costs)
        assert not isinstance(outcome, asyncio.Future)
        if outcome is None:
            self.running.append(costs)

    def end(self, share: float) -> None:
        """End a request that has used this share of its tokens, as a reservation does."""
        entries, costs = self.entries, self.running.pop()
        used = int(costs[1][1] * share)
        if self.counters.settle_later(entries, used, costs[1][1] - used):
            return
        self.counters.batch.count_unbatched(entries)
        self.counters.settle(costs, (1, used, 0))


class CounterMachine(RuleBasedStateMachine):
    """Three processes with one table of limits in an endless window; they die and start."""

    @initialize(
        amounts=st.tuples(*[st.sampled_from([1, 7, 100, 5_000]) for _ in UNITS])
        | st.just((5_000, 5_000, 5_000))  # processes hold blocks
        | st.just((10**6, 10**6, 10**6))  # requests take ahead
    )
    def start(self, amounts: tuple[int, ...]) -> None:
        self.tables = MemoryTables()
        self.limits = [
            Limit(EVERYONE, unit, "none" if unit == "concurrent_requests" else "total", amount, "")
            for unit, amount in zip(UNITS, amounts, strict=True)
        ]
        self.processes = [Process(self.tables, self.limits) for _ in range(3)]
        self.lost = [0, 0, 0]  # used and reported by processes that died
        self.dead: list[tuple[float, list[int]]] = []

    @rule(index=INDEXES, tokens=st.integers(0, 120))
    def take(self, index: int, tokens: int) -> None:
        process = self.processes[index]
        costs = list(zip(process.opened, (1, tokens, 1), strict=True))
        outcome = process.counters.take(costs)
        assert not isinstance(outcome, asyncio.Future)
        if outcome is None:
            process.running.append(costs)

    @precondition(lambda self: any(process.running for process in self.processes))
    @rule(index=INDEXES, share=st.floats(0, 1), is_released=st.booleans())
    def settle(self, index: int, share: float, *, is_released: bool) -> None:
        process = self.processes[index]
        if process.running:
            costs = process.running.pop()
            used = (0, 0, 0) if is_released else (1, int(costs[1][1] * share), 0)
            process.counters.settle(costs, used)

    @rule(
        index=INDEXES,
        steps=st.lists(st.integers(0, 120) | st.floats(0, 1), max_size=8),
        expected=st.sampled_from([0, MANY, 100]),
        unbatched=st.integers(0, 2),
    )
    def work(self, index: int, steps: list[float], expected: int, unbatched: int) -> None:
        """Take tokens and end requests; what is batched stays so until later steps."""
        process = self.processes[index]
        process.entries.expected, process.entries.unbatched = expected, unbatched
        process.entries.update_defer()

        async def work() -> None:
            for step in steps:
                if isinstance(step, int):
                    process.take(step)
                elif process.running:
                    process.end(step)
                self.keeps_limits()

        asyncio.run(work())

    @rule(index=INDEXES)
    def end_batch(self, index: int) -> None:
        process = self.processes[index]
        process.counters.batch.end()
        assert not process.entries.in_batch
        assert [counter.batched for counter in process.opened] == [0, 0, 0]

    @rule(index=INDEXES)
    def refresh(self, index: int) -> None:
        run(self.processes[index].counters.refresh())

    @rule(seconds=st.sampled_from([0.1, TICK]))
    def wait(self, seconds: float) -> None:
        """Let time pass in which living processes renew their leases."""
        self.tables.advance(seconds)
        for process in self.processes:
            run(process.counters.refresh())

    @rule(index=INDEXES)
    def kill(self, index: int) -> None:
        process = self.processes[index]
        for place, counter in enumerate(process.opened):
            self.lost[place] += counter.reported
        self.processes[index] = Process(self.tables, self.limits)

    @invariant()
    def keeps_limits(self) -> None:
        for place, limit in enumerate(self.limits):
            counters = [process.opened[place] for process in self.processes]
            assert all(counter.used >= 0 and counter.reserved >= 0 for counter in counters)
            in_use = sum(counter.used + counter.reserved for counter in counters)
            assert in_use + self.lost[place] <= limit.amount

    def teardown(self) -> None:
        """All that is not used can be taken once requests have ended and leases of the dead."""
        for process in getattr(self, "processes", []):
            process.counters.batch.end()
            while process.running:
                costs = process.running.pop()
                process.counters.settle(costs, [0] * len(costs))
        if not hasattr(self, "processes"):
            return
        for _ in range(int(LEASE_SECONDS) + 2):
            self.wait(TICK)
        fresh = Process(self.tables, self.limits)
        for place, counter in enumerate(fresh.opened):
            used = self.lost[place] + sum(p.opened[place].used for p in self.processes)
            rest = counter.amount - used
            assert fresh.counters.take([(counter, rest + 1)]) is counter
            assert rest == 0 or fresh.counters.take([(counter, rest)]) is None


TestCounterMachine = CounterMachine.TestCase
TestCounterMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
