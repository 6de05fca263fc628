"""Every table of counters keeps the same rules."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from maxgate.limits.counter import Counter
from maxgate.limits.counters import TICK, Counters
from maxgate.limits.limit import Limit, Scope, Unit, Window
from maxgate.limits.table import LEASE_SECONDS
from tests.fakes.counter_tables import FileTables, MemoryTables, RedisTables, Tables, start_process
from tests.fakes.redis_server import RedisServer, start_redis

PROJECT = Scope("project", "proj: 1/ä")


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with start_redis() as server:
        yield server


@pytest.fixture(params=["memory", "file", "redis"])
def tables(request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer) -> Tables:
    """Each kind of table."""
    if request.param == "memory":
        return MemoryTables()
    return FileTables(tmp_path / "x") if request.param == "file" else RedisTables(redis_server.url)


@pytest.fixture
async def processes(tables: Tables) -> AsyncIterator[Sequence[Counters]]:
    """Three processes."""
    async with AsyncExitStack() as stack:
        started = [start_process(tables) for _ in range(3)]
        for one in started:
            stack.push_async_callback(one.leave)
        yield started


def limit(unit: Unit = "requests", amount: int = 100, window: Window = "minute") -> Limit:
    return Limit(PROJECT, unit, window, amount, "limit")


def open_counters(process: Counters, tables: Tables, *limits: Limit) -> list[Counter]:
    return [process.open(one, tables.clock.wall()) for one in limits]


async def take(process: Counters, *costs: tuple[Counter, int]) -> Counter | None:
    outcome = process.take(costs)
    return await outcome if isinstance(outcome, asyncio.Future) else outcome


async def fill(process: Counters, counter: Counter, amount: int = 1, tries: int = 150) -> int:
    """Return how many takes succeed, one after the other."""
    taken = 0
    for _ in range(tries):
        taken += await take(process, (counter, amount)) is None
    return taken


async def test_sum(tables: Tables, processes: Sequence[Counters]) -> None:
    """All processes together get the limit, and nothing more."""
    counters = [open_counters(one, tables, limit())[0] for one in processes]
    taken = [await fill(one, c, tries=40) for one, c in zip(processes, counters, strict=True)]
    assert taken == [40, 40, 20]
    assert counters[2].remaining == 0


async def test_concurrent_takes(tables: Tables, processes: Sequence[Counters]) -> None:
    """Takes at the same time get the limit, and nothing more."""
    pairs = [(one, open_counters(one, tables, limit())[0]) for one in processes]
    outcomes = await asyncio.gather(*[take(one, (c, 1)) for _ in range(100) for one, c in pairs])
    assert outcomes.count(None) == 100


async def test_all_or_nothing(tables: Tables, processes: Sequence[Counters]) -> None:
    """A take that one limit refuses takes nothing of the others."""
    wide, tight = open_counters(processes[0], tables, limit(), limit("tokens", 10))
    assert await take(processes[0], (wide, 1), (tight, 11)) is tight
    assert (wide.used, tight.reserved, wide.remaining, tight.remaining) == (0, 0, 100, 10)
    assert await take(processes[0], (wide, 1), (tight, 10)) is None
    assert (wide.used, tight.reserved, wide.remaining, tight.remaining) == (1, 10, 99, 0)


async def test_settle(tables: Tables, processes: Sequence[Counters]) -> None:
    """Reserved amounts that were not used are free for other processes."""
    first, second, _ = processes
    (mine,), (other,) = [open_counters(one, tables, limit("tokens")) for one in (first, second)]
    assert await take(first, (mine, 90)) is None
    assert await take(second, (other, 50)) is other
    first.settle([(mine, 90)], [30])
    await first.refresh()
    assert await take(second, (other, 70)) is None
    assert await take(second, (other, 1)) is other


async def test_overshoot(tables: Tables, processes: Sequence[Counters]) -> None:
    """Usage above the reservation counts."""
    first, second, _ = processes
    (mine,), (other,) = [open_counters(one, tables, limit("tokens")) for one in (first, second)]
    assert await take(first, (mine, 10)) is None
    first.settle([(mine, 10)], [95])
    await first.refresh()
    assert await take(second, (other, 6)) is other
    assert await take(second, (other, 5)) is None


async def test_refund(tables: Tables, processes: Sequence[Counters]) -> None:
    """A request that was released can be made again, elsewhere."""
    first, second, _ = processes
    (mine,), (other,) = [open_counters(one, tables, limit(amount=1)) for one in (first, second)]
    assert await take(first, (mine, 1)) is None
    assert await take(second, (other, 1)) is other
    first.settle([(mine, 1)], [0])
    await first.refresh()
    assert await take(second, (other, 1)) is None


async def test_zero(tables: Tables, processes: Sequence[Counters]) -> None:
    """A take of nothing needs a limit that is not exhausted."""
    (money,) = open_counters(processes[0], tables, limit("money"))
    assert await take(processes[0], (money, 0)) is None
    processes[0].settle([(money, 0)], [100])
    await processes[0].refresh()
    assert await take(processes[0], (money, 0)) is money


async def test_no_amount(tables: Tables, processes: Sequence[Counters]) -> None:
    """A limit of zero refuses everything."""
    (none,) = open_counters(processes[0], tables, limit("tokens", 0))
    assert [await take(processes[0], (none, amount)) for amount in (0, 1)] == [none, none]


async def test_killed_process(tables: Tables, processes: Sequence[Counters]) -> None:
    """Amounts held by a killed process are free after its lease, and those it used are not."""
    first, second, _ = processes
    limits = [limit(), limit("tokens"), limit("concurrent_requests", window="none", amount=1)]
    mine, other = [open_counters(one, tables, *limits) for one in (first, second)]
    assert await take(first, (mine[0], 60), (mine[1], 60), (mine[2], 1)) is None
    assert await take(second, (other[1], 60)) is other[1]
    tables.advance(LEASE_SECONDS - 0.1)
    assert await take(second, (other[1], 60)) is other[1]
    assert await take(second, (other[2], 1)) is other[2]
    tables.advance(0.2)
    assert await take(second, (other[1], 100), (other[2], 1)) is None
    assert await take(second, (other[0], 41)) is other[0]
    assert await take(second, (other[0], 40)) is None


async def test_renewed_lease(tables: Tables, processes: Sequence[Counters]) -> None:
    """A process that lives keeps what it holds."""
    first, second, _ = processes
    (mine,), (other,) = [open_counters(one, tables, limit("tokens")) for one in (first, second)]
    assert await take(first, (mine, 60)) is None
    for _ in range(30):
        tables.advance(TICK)
        await first.refresh()
    assert await take(second, (other, 41)) is other
    assert await take(second, (other, 40)) is None


async def test_paused_process(tables: Tables, processes: Sequence[Counters]) -> None:
    """A process that was stopped for longer than its lease uses no room that it had."""
    first, second, _ = processes
    big = limit(amount=100_000)
    (mine,), (other,) = [open_counters(one, tables, big) for one in (first, second)]
    assert await fill(first, mine, tries=2) == 2
    assert mine.room > 0
    tables.advance(LEASE_SECONDS + 1)
    assert await take(second, (other, 99_998)) is None
    assert await take(first, (mine, 1)) is mine


async def test_leave(tables: Tables, processes: Sequence[Counters]) -> None:
    """A process that stops reports what it has used, and holds nothing."""
    first, second, _ = processes
    (mine,), (other,) = [open_counters(one, tables, limit("tokens")) for one in (first, second)]
    assert await take(first, (mine, 60)) is None
    first.settle([(mine, 30)], [30])
    await first.leave()
    assert await take(second, (other, 71)) is other
    assert await take(second, (other, 70)) is None


async def test_next_window(tables: Tables, processes: Sequence[Counters]) -> None:
    """A new window has new counters; a request that began before is settled in the old one."""
    process, _, _ = processes
    (old,) = open_counters(process, tables, limit("tokens"))
    assert await take(process, (old, 100)) is None
    tables.advance(60)
    (new,) = open_counters(process, tables, limit("tokens"))
    assert new is not old
    process.settle([(old, 100)], [100])
    await process.refresh()
    assert await take(process, (new, 100)) is None


async def test_blocks(tables: Tables, processes: Sequence[Counters]) -> None:
    """Blocks are at most 1 % of a limit, so that 99 % of it is used."""
    big = limit(amount=4_000)
    counters = [open_counters(one, tables, big)[0] for one in processes]
    for one, counter in zip(processes, counters, strict=True):
        assert await take(one, (counter, 1)) is None
    assert all(counter.room <= 40 for counter in counters)
    taken = await fill(processes[0], counters[0], tries=4_000)
    assert 3_960 <= taken + 2 <= 4_000


async def test_rebuilding(tables: Tables) -> None:
    """A counter that the table has lost begins with the use in the ledger."""
    asked = []

    async def count_used(limit: Limit, start: float) -> int:
        asked.append((limit.name, start))
        return 70

    month = limit("tokens", window="month")
    process = start_process(tables, count_used=count_used)
    (counter,) = open_counters(process, tables, month)
    assert await take(process, (counter, 31)) is counter
    assert await take(process, (counter, 30)) is None
    other = start_process(tables, count_used=count_used)
    (same,) = open_counters(other, tables, month)
    assert await take(other, (same, 1)) is same
    assert asked == [("limit", counter.start)]
    await process.leave()
    await other.leave()


async def test_lost_table(tables: Tables, processes: Sequence[Counters]) -> None:
    """After a loss of all data, what living processes have used still counts."""
    first, second, _ = processes
    (mine,), (other,) = [open_counters(one, tables, limit()) for one in (first, second)]
    assert await take(first, (mine, 60)) is None
    assert await take(second, (other, 20)) is None
    tables.lose_everything()
    for _ in range(6):
        tables.advance(TICK)
        await first.refresh()
        await second.refresh()
    assert not first.is_degraded
    assert await take(second, (other, 21)) is other
    assert await take(second, (other, 20)) is None
