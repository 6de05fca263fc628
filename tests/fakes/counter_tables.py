"""Tables of counters whose time the test advances, behind one interface."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import redis
from typing_extensions import override

from maxgate.limits.counters import Counters
from maxgate.limits.exchanges import CountUsed
from maxgate.limits.file_table import FileTable
from maxgate.limits.memory_table import MemoryTable
from maxgate.limits.redis_table import EXCHANGE_SCRIPT, RedisTable
from maxgate.limits.table import CountersUnavailable, CounterTable, Reply, Report, Take
from maxgate.stores.redis import RedisScript, RedisStore
from maxgate.stores.settings import RedisSettings
from tests.fakes.clock import FakeClock

CLOCK_KEY = "clock"


class Tables(Protocol):
    """One table, opened by several processes."""

    clock: FakeClock

    def open(self) -> CounterTable:
        """Open the table as another process does."""
        ...

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        ...

    def lose_everything(self) -> None:
        """Delete all that is stored."""
        ...


def start_process(
    tables: Tables, *, processes: int = 1, count_used: CountUsed | None = None
) -> Counters:
    """Return the counters of another process."""
    return Counters(tables.open(), tables.clock, processes=processes, count_used=count_used)


class FlakyTable(CounterTable):
    """A table that can be made unavailable, for all processes."""

    is_shared = True

    def __init__(self, inner: MemoryTable, *, is_local: bool = True) -> None:
        self._inner = inner
        self.is_local = is_local
        self.is_down = False
        self.exchanges = 0

    @override
    async def exchange(
        self, holder: str, reports: Sequence[Report], takes: Sequence[Take], birth: str = ""
    ) -> Reply:
        return self.exchange_now(holder, reports, takes, birth)

    @override
    def exchange_now(
        self, holder: str, reports: Sequence[Report], takes: Sequence[Take], birth: str = ""
    ) -> Reply:
        self.exchanges += 1
        if self.is_down:
            raise CountersUnavailable("the table is down")
        return self._inner.exchange_now(holder, reports, takes, birth)

    @override
    async def leave(self, holder: str) -> None:
        await self._inner.leave(holder)


class MemoryTables(Tables):
    """A table in this process."""

    def __init__(self, *, is_local: bool = True) -> None:
        self.clock = FakeClock()
        self.memory = MemoryTable(self.clock, is_shared=True)
        self.table = FlakyTable(self.memory, is_local=is_local)

    @override
    def open(self) -> CounterTable:
        return self.table

    @override
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @override
    def lose_everything(self) -> None:
        self.memory.clear()


class FileTables(Tables):
    """A file in a folder."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self._folder = folder

    @override
    def open(self) -> CounterTable:
        return FileTable(self._folder, clock=self.clock)

    @override
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @override
    def lose_everything(self) -> None:
        for file in self._folder.iterdir():
            file.unlink()


class RedisTables(Tables):
    """A real Redis, whose script reads the time from a key."""

    def __init__(self, url: str) -> None:
        self.clock = FakeClock()
        self._settings = RedisSettings(url=url, timeout=10)
        self._admin = redis.Redis.from_url(url)
        self._admin.flushall()
        assert "redis.call('TIME')" in EXCHANGE_SCRIPT.text
        read = f"redis.call('HMGET', '{CLOCK_KEY}', 'seconds', 'micros')"
        self._script = RedisScript(EXCHANGE_SCRIPT.text.replace("redis.call('TIME')", read))
        self.advance(0)

    @override
    def open(self) -> CounterTable:
        return RedisTable(RedisStore(self._settings, clock=self.clock), script=self._script)

    @override
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        whole, rest = divmod(self.clock.wall(), 1)
        self._admin.hset(CLOCK_KEY, mapping={"seconds": int(whole), "micros": int(rest * 1e6)})

    @override
    def lose_everything(self) -> None:
        self._admin.flushall()
        self.advance(0)
