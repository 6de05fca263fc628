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
