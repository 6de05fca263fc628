"""Without the table, each process has a share of the remaining amount, and never more."""

import asyncio
from collections.abc import Callable

import pytest

from maxgate.limits.counter import Counter
from maxgate.limits.counters import TICK, Counters
from maxgate.limits.limit import Limit, Scope, Unit, Window
from maxgate.limits.table import LEASE_SECONDS
from tests.fakes.counter_tables import MemoryTables, start_process


def limit(unit: Unit = "requests", amount: int = 100, window: Window = "total") -> Limit:
    return Limit(Scope("organization"), unit, window, amount, "limit")


@pytest.fixture(params=[True, False])
def tables(request: pytest.FixtureRequest) -> MemoryTables:
    return MemoryTables(is_local=request.param)


async def fill(process: Counters, counter: Counter, tries: int = 200) -> int:
    taken = 0
    for _ in range(tries):
        outcome = process.take([(counter, 1)])
        taken += (await outcome if isinstance(outcome, asyncio.Future) else outcome) is None
    return taken


async def tick(tables: MemoryTables, *processes: Counters, times: int = 1) -> None:
    for _ in range(times):
        tables.advance(TICK)
        for process in processes:
            await process.refresh()


async def test_shares(tables: MemoryTables) -> None:
    """Two processes share what was left, each its half, and nobody gets more afterwards."""
    processes = [start_process(tables) for _ in range(2)]
    counters = [process.open(limit(), tables.clock.wall()) for process in processes]
    for process, counter in zip(processes, counters, strict=True):
        assert await fill(process, counter, tries=20) == 20
    await tick(tables, *processes)
    tables.table.is_down = True
    assert [await fill(*pair) for pair in zip(processes, counters, strict=True)] == [30, 30]
    tables.table.is_down = False
    await tick(tables, *processes, times=5)
    assert not any(process.is_degraded for process in processes)
    assert [await fill(*pair) for pair in zip(processes, counters, strict=True)] == [0, 0]


async def test_new_window(tables: MemoryTables) -> None:
    """A window that begins during the outage is divided by the processes last seen."""
    processes = [start_process(tables) for _ in range(3)]
    for process in processes:
        await fill(process, process.open(limit(window="minute"), tables.clock.wall()), tries=1)
    await tick(tables, *processes, times=3)
    tables.table.is_down = True
    await tick(tables, *processes, times=60)
    counters = [process.open(limit(window="minute"), tables.clock.wall()) for process in processes]
    assert [await fill(*pair) for pair in zip(processes, counters, strict=True)] == [33, 33, 33]


async def test_never_seen(tables: MemoryTables) -> None:
    """A process that has never seen the table divides by the workers that are configured."""
    tables.table.is_down = True
    process = start_process(tables, processes=4)
    assert await fill(process, process.open(limit(), tables.clock.wall())) == 25
    assert await fill(process, process.open(limit("tokens", 2), tables.clock.wall())) == 1
    assert await fill(process, process.open(limit("money", 0), tables.clock.wall())) == 0


async def test_concurrency(tables: MemoryTables) -> None:
    """Amounts held by other processes are free after their lease."""
    first, second = [start_process(tables) for _ in range(2)]
    at_once = limit("concurrent_requests", 10, "none")
    mine, other = [process.open(at_once, tables.clock.wall()) for process in (first, second)]
    assert await fill(first, mine, tries=10) == 10
    assert await fill(second, other, tries=1) == 0
    tables.table.is_down = True
    assert await fill(second, other) == 0
    first.settle([(mine, 1)], [0])
    assert await fill(first, mine) == 1
    await tick(tables, second, times=int(LEASE_SECONDS) + 1)
    assert await fill(second, other) == 5


async def test_recovery(tables: MemoryTables) -> None:
    """The table decides again three seconds after it is back, when all have reported."""
    reports: list[bool] = []
    process = Counters(tables.open(), tables.clock, report=reports.append)
    counter = process.open(limit(), tables.clock.wall())
    assert await fill(process, counter, tries=1) == 1
    tables.table.is_down = True
    await tick(tables, process, times=4)
    assert process.is_degraded
    tables.table.is_down = False
    await tick(tables, process, times=3)
    assert process.is_degraded
    await tick(tables, process, times=2)
    assert reports == [True, False]
    assert await fill(process, counter) == 99


async def test_long_outage(tables: MemoryTables) -> None:
    """After an outage in which holders were forgotten, nothing is counted twice or lost."""
    first, second = [start_process(tables) for _ in range(2)]
    mine, other = [process.open(limit(), tables.clock.wall()) for process in (first, second)]
    assert await fill(first, mine, tries=30) == 30
    await tick(tables, first)
    tables.table.is_down = True
    await tick(tables, first)
    assert await fill(first, mine, tries=10) == 10
    tables.advance(7200)
    tables.table.is_down = False
    await tick(tables, second, first, times=5)
    assert await fill(second, other) == 60


@pytest.mark.parametrize("amount", [1, 40])
async def test_cancelled_take(amount: int) -> None:
    """A take that nobody waits for any longer is given back."""
    tables = MemoryTables(is_local=False)
    process = start_process(tables)
    counter = process.open(limit("tokens"), tables.clock.wall())
    outcome = process.take([(counter, amount)])
    assert isinstance(outcome, asyncio.Future)
    outcome.cancel()
    await asyncio.sleep(0)
    assert await fill(process, counter) == 100


async def test_one_exchange(tables: MemoryTables) -> None:
    """All takes that wait share one exchange; with a block, none is needed."""
    process = start_process(tables)
    counter = process.open(limit(amount=100_000), tables.clock.wall())
    outcomes = [process.take([(counter, 1)]) for _ in range(100)]
    await asyncio.gather(*[one for one in outcomes if isinstance(one, asyncio.Future)])
    await fill(process, counter, tries=100)
    assert tables.table.exchanges <= 3
    assert counter.used == 200


async def test_failing_ledger(tables: MemoryTables) -> None:
    """If the ledger cannot be read, its amount is added later."""
    results: list[Callable[[], int]] = [lambda: 1 // 0, lambda: 70]

    async def count_used(limit: Limit, start: float) -> int:
        return results.pop(0)()

    process = start_process(tables, count_used=count_used)
    counter = process.open(limit("tokens"), tables.clock.wall())
    assert await fill(process, counter, tries=1) == 1
    process.settle([(counter, 1)], [1])
    await tick(tables, process, times=2)
    assert await fill(process, counter) == 30
