"""Batches of a process that shares its limits: others and later decisions lose nothing by them."""

import asyncio
from dataclasses import replace

import pytest
from typing_extensions import override

from maxgate.limits.batch import MANY
from maxgate.limits.counter import Counter
from maxgate.limits.counters import RENEW_SECONDS, TICK, Counters
from maxgate.limits.entries import UNITS, Entries
from maxgate.limits.exchanges import CountUsed
from maxgate.limits.limit import Limit, Scope, Unit
from maxgate.limits.table import CountersUnavailable, Reply, Report, Take
from tests.fakes.clock import FakeClock
from tests.fakes.counter_tables import FlakyTable, MemoryTables, start_process

EVERYONE = Scope("organization")
OTHER = Scope("project", "other")


def tokens(scope: Scope = EVERYONE, amount: int = 100_000, unit: Unit = "tokens") -> Limit:
    return Limit(scope, unit, "total", amount, "")


class Caller:
    """A busy caller with one limit."""

    def __init__(self, counters: Counters, limit: Limit, clock: FakeClock) -> None:
        self.counters = counters
        self.clock = clock
        self.counter = counters.open(limit, 0.0)
        index = UNITS.index(limit.unit)
        self.entries = Entries([(self.counter, index)], is_batched=True)
        self.expect_many()

    def expect_many(self) -> None:
        """Let the next requests be batched."""
        self.entries.expected, self.entries.unbatched = MANY, 0
        self.entries.update_defer()

    def take(self, amount: int) -> bool:
        """Take a request with so many tokens from the block, or from the room."""
        if self.entries.take_ready(amount, self.clock.monotonic()):
            return True
        return self.counters.take_room(self.entries, (1, amount, amount, 0, 1, 0, 0))

    def end(self, used: int, unused: int) -> bool:
        """End a request; whether it waits for the end of the batch."""
        if self.counters.settle_later(self.entries, used, unused):
            return True
        held = (0, used + unused, 0, 0, 1, 0, 0)
        self.counters.settle_held(self.entries, held, (0, used, 0, 0, 0, 0, 0))
        return False


async def start(limit: Limit, tables: MemoryTables, count_used: CountUsed | None = None) -> Caller:
    """Start a process that has a block of the limit."""
    process = start_process(tables, count_used=count_used)
    await process.join()
    caller = Caller(process, limit, tables.clock)
    taken = process.take([(caller.counter, 1)])
    assert (await taken if isinstance(taken, asyncio.Future) else taken) is None
    process.settle([(caller.counter, 1)], [1])
    return caller


@pytest.mark.parametrize("unit", ["requests", "tokens", "concurrent_requests"])
async def test_lowered_limit(unit: Unit) -> None:
    """A block of a limit that is lowered below its use admits nobody."""
    caller = await start(tokens(unit=unit), MemoryTables())
    for _ in range(5):
        assert caller.take(10)
    assert caller.entries.ready
    caller.counters.open(replace(caller.counter.limit, amount=4), 0.0)
    assert not caller.take(10)
    assert isinstance(caller.counters.take([(caller.counter, 1)]), Counter)


async def test_limit_becomes_near() -> None:
    """Requests that end near a limit give back at once what they leave unused."""
    tables = MemoryTables()
    caller = await start(tokens(), tables)
    other = start_process(tables)
    theirs = other.open(tokens(), 0.0)
    for _ in range(5):
        assert caller.take(10)
    assert other.take([(theirs, 95_000)]) is None
    tables.advance(RENEW_SECONDS)
    for process in (other, caller.counters):
        await process.refresh()
    rest = caller.counter.remaining
    assert other.take([(theirs, rest + 1)]) is theirs
    assert not caller.end(1, 9)
    assert other.take([(theirs, rest + 9)]) is None


async def test_refusal_of_another() -> None:
    """Only a refusal by a limit that the batch has ends it."""
    caller = await start(tokens(), MemoryTables())
    counters = caller.counters
    stranger = counters.open(tokens(OTHER, amount=5), 0.0)
    assert counters.take([(stranger, 1)]) is None
    for _ in range(2):
        assert caller.take(10)
    ready = caller.entries.ready
    assert counters.take([(stranger, 5)]) is stranger
    assert not counters.knows_exhausted(stranger)
    assert caller.entries.ready == ready
    assert not counters.knows_exhausted(caller.counter)
    assert caller.entries.ready == 0


async def test_paid_amount() -> None:
    """What the ledger has of a limit replaces what is used, not what a block holds."""
    results = [None, None, 5_000]

    async def count_used(limit: Limit, start: float) -> int:
        del limit, start
        if (result := results.pop(0)) is None:
            raise OSError
        return result

    tables = MemoryTables(is_local=False)
    caller = await start(tokens(unit="requests"), tables, count_used)
    assert caller.take(1)  # keeps the block
    await caller.counters.refresh()
    caller.expect_many()
    for _ in range(2):
        assert caller.take(1)
    assert caller.entries.ready
    tables.advance(TICK)
    await caller.counters.refresh()  # the limit is far: nothing is reported
    caller.counters.batch.end()
    assert caller.counter.used == 5_000


class BusyTable(FlakyTable):
    """A table that is unavailable for the next `failures` exchanges."""

    failures = 0

    @override
    def exchange_now(
        self, holder: str, reports: list[Report], takes: list[Take], birth: str = ""
    ) -> Reply:
        self.failures -= 1
        if self.failures >= 0:
            raise CountersUnavailable("the table is locked")
        return super().exchange_now(holder, reports, takes, birth)


async def test_failing_report_before_take() -> None:
    """If the end of a batch loses the table, the take that ended it is one without the table."""
    tables = MemoryTables()
    tables.table = table = BusyTable(tables.memory)
    caller = await start(tokens(amount=1_500), tables)
    counters = caller.counters
    for _ in range(4):
        assert caller.take(1)
        assert caller.end(1, 0)
    await start_process(tables).join()
    stranger = counters.open(tokens(OTHER, amount=5_000), 0.0)
    assert counters.take([(stranger, 1)]) is None  # now two processes share limits
    table.failures = 1
    assert counters.take([(stranger, 4_000), (caller.counter, 1)]) is stranger
    assert (counters.is_degraded, stranger.reserved, table.failures) == (True, 1, 0)
