"""Keys in use are in memory: fresh, or stale while the database is away, within the bounds."""

import asyncio
from collections.abc import AsyncIterator, Collection

import pytest
from typing_extensions import override

from maxgate.auth import database_key_store
from maxgate.auth.database_key_store import (
    MAX_AGE,
    MAX_LOOK_UPS,
    MAX_STALE_AGE,
    MAX_UNKNOWN,
    MAX_WAITING,
    REFRESH_AGE,
    REFUSED_AGE,
    RETRY_SECONDS,
    DatabaseKeyStore,
)
from maxgate.auth.identity import AuthenticationUnavailable
from maxgate.auth.key_changes import Changes, KeyChanges
from tests.fakes.clock import FakeClock
from tests.fakes.identity_store import FakeIdentityStore
from tests.fakes.waiting import until


class FakeChanges(KeyChanges):
    """Returns `next` at the next poll, and notes what is published."""

    def __init__(self) -> None:
        self.next = Changes((), is_complete=True)
        self.published: list[Collection[str]] = []

    @override
    async def publish(self, ids: Collection[str]) -> None:
        self.published.append(ids)

    @override
    async def poll(self) -> Changes:
        return self.next

    @override
    async def aclose(self) -> None:
        pass


class Bench:
    """A key store with its database and its clock."""

    def __init__(self) -> None:
        self.database = FakeIdentityStore()
        self.clock = FakeClock()
        self.changes = FakeChanges()
        self.store = DatabaseKeyStore(self.database, [b"pepper"], self.clock, self.changes)

    async def find(self, digest: bytes = b"a") -> str:
        """Return `ok`, or why the key is refused."""
        try:
            key = await self.store.find(digest)
        except AuthenticationUnavailable:
            return "unavailable"
        if key is None:
            return "unknown"
        return "disabled" if key.is_disabled else "ok"

    async def is_reading(self) -> bool:
        """Whether a look-up is in progress."""
        return bool(self.database.running)

    async def settle(self) -> None:
        """Let reads in the background end."""
        while tasks := list(self.store._reads.values()):
            await asyncio.wait(tasks)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A database with one key, `a`."""
    bench = Bench()
    bench.database.add(b"a")
    yield bench
    await bench.store.aclose()


async def test_warm(bench: Bench) -> None:
    """A key in use is read again in the background, and never waits for the database."""
    assert await bench.find() == "ok"
    for _ in range(20):
        bench.clock.advance(REFRESH_AGE - 1)
        assert await bench.find() == "ok"
        bench.clock.advance(1)
        bench.database.is_open.clear()
        assert await asyncio.wait_for(bench.find(), 1) == "ok"
        bench.database.is_open.set()
        await bench.settle()

    assert bench.database.reads == [b"a"] * 21


@pytest.mark.parametrize("warm", [False, True])
async def test_revocation(bench: Bench, warm: bool) -> None:
    """Without messages, a revoked key is refused after the bound, however often it is used."""
    assert await bench.find() == "ok"
    bench.database.change(b"a", blocked=True)
    if warm:
        bench.clock.advance(REFRESH_AGE)
        bench.database.is_open.clear()  # the read in the background takes for ever
        assert await bench.find() == "ok"
        bench.clock.advance(MAX_AGE - REFRESH_AGE - 1)
        assert await bench.find() == "ok"
        bench.clock.advance(1)
        bench.database.is_open.set()
    else:
        bench.clock.advance(MAX_AGE)

    assert await bench.find() == "disabled"


async def test_age_of_slow_reads(bench: Bench) -> None:
    """The age of a key counts from when its read began."""
    bench.database.is_open.clear()
    finding = asyncio.create_task(bench.find())
    await until(bench.is_reading)
    bench.clock.advance(MAX_AGE - 1)
    bench.database.is_open.set()
    assert await finding == "ok"
    bench.database.change(b"a", blocked=True)
    bench.clock.advance(1)

    assert await bench.find() == "disabled"


async def test_outage(bench: Bench) -> None:
    """While the database is away, a known key is valid for 15 minutes, and no unknown one."""
    assert await bench.find() == "ok"
    bench.database.is_away = True
    for _ in range(int(MAX_STALE_AGE) - 1):
        bench.clock.advance(1)
        assert await bench.find() == "ok"
        assert await bench.find(b"unknown") == "unavailable"
    bench.clock.advance(1)

    assert await bench.find() == "unavailable"
    bench.clock.advance(RETRY_SECONDS)
    bench.database.is_away = False
    assert await bench.find() == "ok"
    assert await bench.find(b"unknown") == "unknown"


async def test_trials(bench: Bench) -> None:
    """During an outage, one look-up per second tries the database; others do not wait for it."""
    assert await bench.find() == "ok"
    bench.database.is_away = True
    assert await bench.find(b"b") == "unavailable"
    before = len(bench.database.reads)
    for _ in range(5):
        assert [await bench.find(digest) for digest in (b"c", b"d", b"a")] == [
            "unavailable",
            "unavailable",
            "ok",
        ]
    assert len(bench.database.reads) == before

    bench.clock.advance(RETRY_SECONDS)
    bench.database.is_open.clear()
    trial = asyncio.create_task(bench.find(b"b"))
    await asyncio.sleep(0)
    assert await asyncio.wait_for(bench.find(b"c"), 1) == "unavailable"
    bench.database.is_away = False
    bench.database.is_open.set()
    assert await trial == "unknown"


async def test_revoked_before_outage(bench: Bench) -> None:
    """A key that is known as revoked stays refused as such during an outage."""
    bench.database.change(b"a", blocked=True)
    assert await bench.find() == "disabled"
    bench.database.is_away = True
    bench.clock.advance(REFUSED_AGE)

    assert [await bench.find(), await bench.find()] == ["disabled", "disabled"]


async def test_hung_database(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that does not respond is away after the timeout."""
    monkeypatch.setattr(database_key_store, "LOOK_UP_TIMEOUT", 0.01)
    assert await bench.find() == "ok"
    bench.clock.advance(MAX_AGE)
    bench.database.is_open.clear()

    assert await asyncio.wait_for(bench.find(), 1) == "ok"
    assert await asyncio.wait_for(bench.find(b"unknown"), 1) == "unavailable"
    assert bench.database.running == 0


async def test_bug(bench: Bench) -> None:
    """A bug in a look-up is like an outage: known keys stay valid."""
    assert await bench.find() == "ok"
    bench.clock.advance(MAX_AGE)
    bench.database.bug = ValueError("a bug")

    assert [await bench.find(), await bench.find(b"unknown")] == ["ok", "unavailable"]


async def test_unknown_keys(bench: Bench) -> None:
    """An unknown key is refused without a look-up for a while; then a new key is found."""
    assert await bench.find(b"new") == "unknown"
    bench.database.add(b"new")
    bench.clock.advance(REFUSED_AGE - 1)
    assert await bench.find(b"new") == "unknown"
    bench.clock.advance(1)

    assert await bench.find(b"new") == "ok"
    assert bench.database.reads == [b"new", b"new"]


async def test_unblocked_key(bench: Bench) -> None:
    """A disabled key is looked up again as soon as an unknown one, and a deleted one is unknown."""
    bench.database.change(b"a", blocked=True)
    assert await bench.find() == "disabled"
    bench.database.change(b"a", blocked=False)
    bench.clock.advance(REFUSED_AGE)
    assert await bench.find() == "ok"

    del bench.database.grants[b"a"]
    bench.clock.advance(MAX_AGE)
    assert await bench.find() == "unknown"


async def test_memory(bench: Bench) -> None:
    """Random keys take a bounded amount of memory, and evict no good key."""
    assert await bench.find() == "ok"
    for number in range(MAX_UNKNOWN + 10):
        await bench.find(b"%d" % number)

    assert len(bench.store._unknown) == MAX_UNKNOWN
    before = len(bench.database.reads)
    assert await bench.find() == "ok"
    assert len(bench.database.reads) == before


async def test_single_flight(bench: Bench) -> None:
    """Requests with the same key share a look-up, also when one of them is cancelled."""
    bench.database.is_open.clear()
    finding = [asyncio.create_task(bench.find()) for _ in range(100)]
    await asyncio.sleep(0)
    finding[0].cancel()
    bench.database.is_open.set()
    results = await asyncio.gather(*finding, return_exceptions=True)

    assert results[1:] == ["ok"] * 99
    assert bench.database.reads == [b"a"]


async def test_storm(bench: Bench) -> None:
    """A storm of unknown keys takes few connections, is cut off, and delays no known key."""
    assert await bench.find() == "ok"
    bench.clock.advance(MAX_AGE)
    bench.database.is_open.clear()
    storm = [asyncio.create_task(bench.find(b"%d" % n)) for n in range(1000)]
    for _ in range(5):
        await asyncio.sleep(0)
    known = asyncio.create_task(bench.find())
    for _ in range(5):
        await asyncio.sleep(0)
    assert bench.database.reads.count(b"a") == 2
    bench.database.is_open.set()

    assert await known == "ok"
    results = await asyncio.gather(*storm)
    assert (results.count("unknown"), results.count("unavailable")) == (
        MAX_WAITING,
        1000 - MAX_WAITING,
    )
    assert bench.database.most_running == MAX_LOOK_UPS + 1


@pytest.mark.parametrize("changed", ["key_a", "red", "ann"])
async def test_change(bench: Bench, changed: str) -> None:
    """A message about a key, its project or its owner takes effect at the next request."""
    bench.database.add(b"b", id="key_b", project_id="blue", owner_id="bob")
    assert [await bench.find(), await bench.find(b"b")] == ["ok", "ok"]
    bench.database.change(b"a", blocked=True)
    bench.changes.next = Changes([changed, "key_other"], is_complete=True)

    await bench.store.follow_changes()

    assert await bench.find() == "disabled"
    assert bench.database.reads == [b"a", b"b", b"a"]


async def test_change_during_outage(bench: Bench) -> None:
    """Exactly the changed key is refused while the database is away."""
    bench.database.add(b"b", owner_id="bob")
    assert [await bench.find(), await bench.find(b"b")] == ["ok", "ok"]
    bench.database.is_away = True

    bench.store.forget(["key_a"])

    assert [await bench.find(), await bench.find(b"b")] == ["unavailable", "ok"]


async def test_change_during_read(bench: Bench) -> None:
    """A read that began before a change counts for nothing."""
    bench.database.is_open.clear()
    finding = asyncio.create_task(bench.find())
    await until(bench.is_reading)
    bench.database.change(b"a", blocked=True)
    bench.store.forget(["key_a"])
    bench.database.is_open.set()

    assert await finding == "disabled"


async def test_missed_changes(bench: Bench) -> None:
    """If messages may have been lost, each key is read again when it is used."""
    assert await bench.find() == "ok"
    bench.database.change(b"a", blocked=True)
    bench.changes.next = Changes((), is_complete=False)

    await bench.store.follow_changes()

    assert await bench.find() == "ok"
    await bench.settle()
    assert await bench.find() == "disabled"


async def test_refresh(bench: Bench) -> None:
    """After a refresh, the next request sees all changes; known keys still survive an outage."""
    bench.database.add(b"b")
    assert [await bench.find(digest) for digest in (b"a", b"b", b"c")] == ["ok", "ok", "unknown"]
    bench.database.change(b"a", blocked=True)
    bench.database.add(b"c")

    bench.store.refresh()

    assert [await bench.find(digest) for digest in (b"a", b"c")] == ["disabled", "ok"]
    bench.database.is_away = True
    assert await bench.find(b"b") == "ok"


async def test_announce(bench: Bench) -> None:
    """A change of this process takes effect here at once, and is published."""
    assert await bench.find() == "ok"
    bench.database.change(b"a", blocked=True)

    await bench.store.announce(["key_a"])

    assert await bench.find() == "disabled"
    assert bench.changes.published == [["key_a"]]


async def test_times_of_use(bench: Bench) -> None:
    """The time of the last use is written once per use, not for refused keys, and at the end."""
    bench.database.add(b"b", blocked=True)
    assert [await bench.find(), await bench.find(b"b")] == ["ok", "disabled"]
    used_at = int(bench.clock.wall())
    bench.clock.advance(20)
    await bench.store.touch()
    await bench.store.touch()
    assert bench.database.touched == [{"key_a": used_at}]

    assert await bench.find() == "ok"
    bench.database.is_away = True
    await bench.store.touch()
    bench.database.is_away = False
    await bench.store.aclose()
    assert bench.database.touched[1:] == [{"key_a": used_at + 20}]


async def test_unused_keys(bench: Bench) -> None:
    """Keys that are not used are forgotten."""
    assert await bench.find() == "ok"
    bench.clock.advance(MAX_STALE_AGE)
    await bench.store.touch()

    assert bench.store._entries == {}


async def test_recall(bench: Bench) -> None:
    """A key in memory is found without waiting until it has to be read again."""
    assert bench.store.recall(b"a") is None
    assert await bench.find() == "ok"
    key = bench.store.recall(b"a")
    assert key is not None
    assert key.digest == b"a"
    bench.clock.advance(REFRESH_AGE)
    assert bench.store.recall(b"a") is None
