"""Gateways with keys in PostgreSQL and Redis, which are killed, hang and come back."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

import httpx
import pytest

from maxgate.auth.api_key import generate_key
from maxgate.auth.redis_key_changes import RedisKeyChanges
from maxgate.stores.identity_store import open_identity_store
from maxgate.stores.migrate import upgrade_database
from maxgate.stores.redis import RedisStore
from maxgate.stores.settings import DatabaseSettings, RedisSettings
from tests.fakes.api_keys import PEPPER, bearer
from tests.fakes.gateway import TLS
from tests.fakes.identity_gateways import chat, gateway, under_load
from tests.fakes.postgres_server import PostgresServer, start_postgres
from tests.fakes.processes import free_port, run_to_end
from tests.fakes.redis_server import RedisServer, start_redis
from tests.fakes.stored_keys import StoredKeys
from tests.fakes.waiting import until

BOUND = 5.0  # seconds, as docs/keys.md says for gateways with Redis
OUTAGE = 3.0


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL with empty tables."""
    with start_postgres() as server:
        upgrade_database(DatabaseSettings(url=server.url), Path())
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
    async with gateway(postgres.url, redis.url) as server:
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
        assert max(load.durations) < 1
        lines = "".join(server.lines)
    assert lines.count('"message":"API keys are verified from memory"') == 1
    assert lines.count('"message":"API keys are verified by the database again"') == 1


async def test_redis(
    postgres: PostgresServer, redis: RedisServer, keys: StoredKeys, changes: RedisKeyChanges
) -> None:
    """While Redis is away, no chat fails; changes that were made meanwhile arrive afterwards."""
    known, revoked = [await keys.add("key_known")], await keys.add("key_revoked")
    async with gateway(postgres.url, redis.url) as server:
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
    async with gateway(postgres.url, redis.url) as one, gateway(postgres.url, redis.url) as two:
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
    async with gateway(postgres.url, redis.url) as server:
        assert await chat(server.url, key) == 503
        await asyncio.to_thread(postgres.start)

        async def is_served() -> bool:
            return await chat(server.url, key) == 200

        await until(is_served, within=20)


@pytest.mark.parametrize("program", ["api_server.py", "uvicorn"])
async def test_missing_schema(program: str) -> None:
    """A gateway does not start with a database that was not prepared, and names the command."""
    command = (
        ("api_server.py",) if program == "api_server.py" else ("-m", "uvicorn", "api_server:app")
    )
    with start_postgres() as server, TemporaryDirectory() as folder:
        code, error = await run_to_end(
            *(*command, "--port", str(free_port())),
            MAXGATE_AUTH__MODE="keys",
            MAXGATE_AUTH__PEPPER=PEPPER,
            MAXGATE_STATE_DIR=folder,
            DATABASE_URL=server.url,
        )

    assert (code, "run: maxgate db upgrade" in error) == (2, True), error
