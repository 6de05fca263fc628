"""Ledgers of slots whose time the test advances, behind one interface."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

import redis

from maxgate.admission.file_ledger import SUFFIX, FileLedger
from maxgate.admission.lease_table import GrantBuilder, LeaseTable
from maxgate.admission.ledger import Grant, Holding, LocalLedger, SlotLedger, create_holder_id
from maxgate.admission.redis_ledger import RENEW_SCRIPT, RedisLedger
from maxgate.clock import Clock
from maxgate.stores.redis import RedisScript, RedisStore
from maxgate.stores.settings import RedisSettings
from tests.fakes.clock import FakeClock

CLOCK_KEY = "clock"


class MemoryLedger(LocalLedger):
    """One holder in tables that several holders share."""

    def __init__(self, tables: dict[str, LeaseTable], clock: Clock) -> None:
        self._tables = tables
        self._clock = clock
        self._holder = create_holder_id(clock.wall())
        self._held: dict[str, tuple[int, float]] = {}
        self._grants = GrantBuilder()

    async def renew(self, model: str, holding: Holding) -> Grant:
        return self.renew_now(model, holding)

    def renew_now(self, model: str, holding: Holding) -> Grant:
        table = self._tables.setdefault(model, LeaseTable())
        now = self._clock.monotonic()
        slots, expires_at = self._held.get(model, (0, now))
        held = slots if now < expires_at else 0
        renewal = table.renew(self._holder, holding, held=held, now=now)
        self._held[model] = renewal.slots, table.leases[self._holder].expires_at
        return self._grants.build(model, renewal, holding.served)

    async def release(self) -> None:
        for table in self._tables.values():
            table.leases.pop(self._holder, None)


class Ledgers(Protocol):
    """Holders of one ledger."""

    clock: FakeClock

    def open(self) -> SlotLedger:
        """Start a holder; each starts a moment after the one before."""
        ...

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        ...

    def lose_everything(self) -> None:
        """Delete all that is stored."""
        ...

    async def aclose(self) -> None:
        """Close connections."""
        ...


class MemoryLedgers:
    """Holders in this process."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self._tables: dict[str, LeaseTable] = {}

    def open(self) -> LocalLedger:
        self.advance(0.001)
        return MemoryLedger(self._tables, self.clock)

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def lose_everything(self) -> None:
        self._tables.clear()

    async def aclose(self) -> None:
        pass


class FileLedgers:
    """Holders that share a folder."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self._folder = folder
        self._opened: list[FileLedger] = []

    def open(self) -> LocalLedger:
        self.advance(0.001)
        self._opened.append(FileLedger(self._folder, clock=self.clock))
        return self._opened[-1]

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def lose_everything(self) -> None:
        for file in self._folder.glob(f"*{SUFFIX}"):
            file.unlink()

    async def aclose(self) -> None:
        for ledger in self._opened:
            await ledger.release()


class RedisLedgers:
    """Holders that share a real Redis, whose script reads the time from a key."""

    def __init__(self, url: str) -> None:
        self.clock = FakeClock()
        self._settings = RedisSettings(url=url, timeout=10)
        self._admin = redis.Redis.from_url(url)
        self._admin.flushall()
        self._stack = AsyncExitStack()
        text = RENEW_SCRIPT.text
        assert "redis.call('TIME')" in text
        read = f"redis.call('HMGET', '{CLOCK_KEY}', 'seconds', 'micros')"
        self._script = RedisScript(text.replace("redis.call('TIME')", read))

    def open(self) -> RedisLedger:
        self.advance(0.001)
        store = RedisStore(self._settings, clock=self.clock)
        self._stack.push_async_callback(store.close)
        return RedisLedger(store, clock=self.clock, script=self._script)

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self._set_time()

    def lose_everything(self) -> None:
        self._admin.flushall()
        self._set_time()

    async def aclose(self) -> None:
        await self._stack.aclose()
        self._admin.close()

    def _set_time(self) -> None:
        micros = round(self.clock.monotonic() * 1e6)
        time = {"seconds": micros // 1_000_000, "micros": micros % 1_000_000}
        self._admin.hset(CLOCK_KEY, mapping=time)
