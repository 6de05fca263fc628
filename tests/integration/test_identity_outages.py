"""Gateways with keys in PostgreSQL and Redis, which are killed, hang and come back."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import httpx
import pytest

from maxgate.auth.api_key import generate_key
from maxgate.auth.redis_key_changes import RedisKeyChanges
from maxgate.stores.identity_store import open_identity_store
from maxgate.stores.redis import RedisStore
from maxgate.stores.settings import DatabaseSettings, RedisSettings
from tests.fakes.api_keys import PEPPER, bearer
from tests.fakes.gateway import SMALL_CARD, TLS
from tests.fakes.max_server import FakeMax
from tests.fakes.postgres_server import PostgresServer, start_postgres
from tests.fakes.processes import ServerProcess, api_server
from tests.fakes.redis_server import RedisServer, start_redis
from tests.fakes.server import serving
from tests.fakes.stored_keys import StoredKeys, create_tables
from tests.fakes.waiting import until

CHAT = "/v1/chat/completions"
BODY = {"messages": [{"role": "user", "content": "Hello"}]}
BOUND = 5.0  # seconds, as docs/keys.md says for gateways with Redis
OUTAGE = 3.0


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL with empty tables."""
    with start_postgres() as server:
        create_tables(server.url)
        yield server


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with start_redis() as server:
        yield server


@pytest.fixture
async def keys(postgres: PostgresServer) -> AsyncIterator[StoredKeys]:
    """The keys in the database, as another process writes them."""
    store = open_identity_store(DatabaseSettings(url=postgres.url), Path())
    yield StoredKeys(store)
    await store.aclose()


@pytest.fixture
async def changes(redis: RedisServer) -> AsyncIterator[RedisKeyChanges]:
    """The reports of changes, as another process sends them."""
    opened = RedisKeyChanges(RedisStore(RedisSettings(url=redis.url)))
    yield opened
    await opened.aclose()


@asynccontextmanager
async def gateway(
    postgres: PostgresServer, redis: RedisServer, engine: FakeMax
) -> AsyncIterator[ServerProcess]:
    """Run a gateway process with this database and this Redis."""
    async with (
        serving(engine) as engine_url,
        api_server(
            MAXGATE_AUTH__MODE="keys",
            MAXGATE_AUTH__PEPPER=PEPPER,
            MAXGATE_ENGINES=engine_url,
            MAXGATE_CARDS=str(SMALL_CARD),
            DATABASE_URL=postgres.url,
            REDIS_URL=redis.url,
        ) as server,
    ):
        yield server


async def chat(url: str, key: str) -> int:
    """Return the status of a chat request."""
    async with httpx.AsyncClient(base_url=url, verify=TLS, timeout=30) as client:
        return (await client.post(CHAT, json=BODY, headers=bearer(key))).status_code


@dataclass
class Load:
    """Chats with keys in turn until it is stopped: how many had which status."""

    url: str
    keys: list[str]
    statuses: Counter[int] = field(default_factory=Counter)
    slowest: float = 0

    async def run(self) -> None:
        """Send requests one after the other."""
        async with httpx.AsyncClient(base_url=self.url, verify=TLS, timeout=30) as client:
            while True:
                for key in self.keys:
                    started = monotonic()
                    response = await client.post(CHAT, json=BODY, headers=bearer(key))
                    self.slowest = max(self.slowest, monotonic() - started)
                    self.statuses[response.status_code] += 1


@asynccontextmanager
async def under_load(url: str, keys: list[str]) -> AsyncIterator[Load]:
    """Send requests with known keys during the block."""
    for key in keys:
        assert await chat(url, key) == 200
    load = Load(url, keys)
    task = asyncio.create_task(load.run())
    yield load
    assert not task.done(), task.exception()
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.parametrize(
    ("end", "restore"),
    [
        (PostgresServer.stop, PostgresServer.start),
        (PostgresServer.pause, PostgresServer.resume),
    ],
    ids=["killed", "frozen"],
)
async def test_database(
    postgres: PostgresServer,
    redis: RedisServer,
    keys: StoredKeys,
    end: Callable[[PostgresServer], None],
    restore: Callable[[PostgresServer], None],
) -> None:
    """No chat with a known key fails; unknown keys get 503 meanwhile, and 401 afterwards."""
    known = [await keys.add(f"key_{number}") for number in range(3)]
    late = await keys.add("key_late")
    async with gateway(postgres, redis, FakeMax()) as server:
        async with under_load(server.url, known) as load:
            end(postgres)
            began = monotonic()
            assert await chat(server.url, late) == 503
            async with httpx.AsyncClient(base_url=server.url, verify=TLS) as client:
                response = await client.get("/v1/models", headers=bearer(generate_key()))
            error = response.json()["error"]
            assert (response.status_code, error["code"]) == (503, "authentication_unavailable")
            assert response.headers["retry-after"] == "1"

            async def has_lasted() -> bool:
                return monotonic() - began > OUTAGE

            await until(has_lasted, within=10)
            await asyncio.to_thread(restore, postgres)

            async def is_back() -> bool:
                return await chat(server.url, late) == 200

            await until(is_back, within=20)
            assert await chat(server.url, generate_key()) == 401
        assert set(load.statuses) == {200}, load.statuses
        assert load.slowest < 1
        lines = "".join(server.lines)
    assert lines.count('"message":"API keys are verified from memory"') == 1
    assert lines.count('"message":"API keys are verified by the database again"') == 1


async def test_redis(
    postgres: PostgresServer, redis: RedisServer, keys: StoredKeys, changes: RedisKeyChanges
) -> None:
    """While Redis is away, no chat fails; changes that were made meanwhile arrive afterwards."""
    known, revoked = [await keys.add("key_known")], await keys.add("key_revoked")
    async with gateway(postgres, redis, FakeMax()) as server:
        async with under_load(server.url, known) as load:
            assert await chat(server.url, revoked) == 200
            redis.stop()
            await keys.change("key_revoked", blocked=True)
            await changes.publish(["key_revoked"])
            assert await chat(server.url, revoked) == 200
            await asyncio.to_thread(redis.start)

            async def is_revoked() -> bool:
                await changes.poll()
                return await chat(server.url, revoked) == 401

            await until(is_revoked, within=20)
        assert set(load.statuses) == {200}, load.statuses


@pytest.mark.parametrize("has_database", [True, False], ids=["database", "no database"])
async def test_revocation(
    postgres: PostgresServer,
    redis: RedisServer,
    keys: StoredKeys,
    changes: RedisKeyChanges,
    has_database: bool,
) -> None:
    """Two gateways refuse a revoked key within the bound, and no other, even without a database."""
    known, revoked = await keys.add("key_known"), await keys.add("key_revoked")
    engine = FakeMax()
    async with gateway(postgres, redis, engine) as one, gateway(postgres, redis, engine) as two:
        urls = [one.url, two.url]
        for url in urls:
            assert [await chat(url, known), await chat(url, revoked)] == [200, 200]
        await keys.change("key_revoked", blocked=True)
        if not has_database:
            postgres.stop()
        await changes.publish(["key_revoked"])
        refused = 401 if has_database else 503

        async def is_revoked() -> bool:
            return [await chat(url, revoked) for url in urls] == [refused, refused]

        await until(is_revoked, within=BOUND)
        assert [await chat(url, known) for url in urls] == [200, 200]


async def test_start_without_database(
    postgres: PostgresServer, redis: RedisServer, keys: StoredKeys
) -> None:
    """A gateway that starts during an outage serves as soon as the database is there."""
    key = await keys.add()
    await keys.store.aclose()
    postgres.stop()
    async with gateway(postgres, redis, FakeMax()) as server:
        assert await chat(server.url, key) == 503
        await asyncio.to_thread(postgres.start)

        async def is_served() -> bool:
            return await chat(server.url, key) == 200

        await until(is_served, within=20)
