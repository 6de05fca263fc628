"""Requests that arrive while a process reports its counters."""

import asyncio
from collections.abc import Sequence

import pytest
from typing_extensions import override

from maxgate.limits.counters import TICK, Counters
from maxgate.limits.limit import Limit, Scope, Unit
from maxgate.limits.table import Reply, Report, Take
from tests.fakes.counter_tables import FlakyTable, MemoryTables


class SlowTable(FlakyTable):
    """A table whose replies wait until the test lets them go."""

    def __init__(self, tables: MemoryTables) -> None:
        super().__init__(tables.memory, is_local=False)
        self.replies = asyncio.Event()
        self.replies.set()

    @override
    async def exchange(
        self, holder: str, reports: Sequence[Report], takes: Sequence[Take], birth: str = ""
    ) -> Reply:
        reply = await super().exchange(holder, reports, takes, birth)
        await self.replies.wait()
        return reply


@pytest.mark.parametrize("unit", ["requests", "tokens", "concurrent_requests"])
async def test_requests_during_report(unit: Unit) -> None:
    """A report takes no room from the requests that arrive meanwhile, and nothing is lost."""
    tables = MemoryTables()
    table = SlowTable(tables)
    process, other = Counters(table, tables.clock), Counters(table, tables.clock)
    await process.join()
    limit = Limit(Scope("organization"), unit, "none", 10_000, "")
    counter = process.open(limit, tables.clock.wall())
    for _ in range(2):  # the second one is taken from a block
        first = process.take([(counter, 1)])
        assert first is None or await first is None
        process.settle([(counter, 1)], [0 if unit == "concurrent_requests" else 1])
    tables.advance(TICK)

    table.replies.clear()
    reporting = asyncio.create_task(process.refresh())
    await asyncio.sleep(0)
    exchanges = table.exchanges
    assert process.take([(counter, 1)]) is None
    table.replies.set()
    await reporting
    assert table.exchanges == exchanges

    await process.refresh()
    used = 1 if unit == "concurrent_requests" else 3
    theirs = other.open(limit, tables.clock.wall())
    block = counter.room
    for amount, refused in ((10_001 - used - block, theirs), (10_000 - used - block, None)):
        taken = other.take([(theirs, amount)])
        assert isinstance(taken, asyncio.Future)
        assert await taken is refused


async def test_far_from_the_limit() -> None:
    """Little use of a block is reported with the lease, every third second; more at once."""
    tables = MemoryTables()
    table = FlakyTable(tables.memory, is_local=False)
    process, other = Counters(table, tables.clock), Counters(tables.memory, tables.clock)
    await process.join()
    limit = Limit(Scope("organization"), "tokens", "none", 100_000, "")
    counter = process.open(limit, tables.clock.wall())
    first = process.take([(counter, 1)])
    assert isinstance(first, asyncio.Future)
    assert await first is None
    process.settle([(counter, 1)], [1])
    await process.refresh()

    async def use(amount: int) -> int:
        """Use tokens in a second, and return the number of exchanges after it."""
        assert process.take([(counter, amount)]) is None
        process.settle([(counter, amount)], [amount])
        tables.advance(TICK)
        before = table.exchanges
        await process.refresh()
        return table.exchanges - before

    assert [await use(n) for n in (10, 10, 10, 400, 200, 10)] == [0, 0, 1, 0, 1, 1]
    assert [await use(n) for n in (100, 100)] == [0, 0]
    theirs = other.open(limit, tables.clock.wall())
    left = 100_000 - counter.used - counter.reserved - counter.room
    assert (other.take([(theirs, left + 1)]), other.take([(theirs, left)])) == (theirs, None)
