"""A PostgreSQL that is killed, frozen or unreachable costs bounded time, and is used again."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic
from uuid import uuid4

import pytest

from maxgate.stores.database import RETRY_SECONDS
from maxgate.stores.identity import Page, Project, StoreUnavailable, VersionConflict
from maxgate.stores.identity_store import SqlIdentityStore, open_identity_store
from maxgate.stores.migrate import upgrade_database
from maxgate.stores.settings import DatabaseSettings
from tests.fakes.clock import FakeClock
from tests.fakes.postgres_server import PostgresServer
from tests.fakes.waiting import until

TIMEOUT = 1.0
MARGIN = 1.5
"""Seconds that a call may take beyond its timeout on a busy machine."""


@pytest.fixture
def server(postgres: PostgresServer) -> Iterator[PostgresServer]:
    """A server that is started again at the end."""
    yield postgres
    if not postgres.is_running:
        postgres.start()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def settings(server: PostgresServer, tmp_path: Path) -> DatabaseSettings:
    """A database with tables."""
    found = DatabaseSettings(
        url=server.url, schema_name=f"test_{uuid4().hex}", timeout=TIMEOUT, pool_size=2
    )
    upgrade_database(found, tmp_path)
    return found


@pytest.fixture
async def store(
    settings: DatabaseSettings, tmp_path: Path, clock: FakeClock
) -> AsyncIterator[SqlIdentityStore]:
    """A store with open connections."""
    opened = open_identity_store(settings, tmp_path, clock=clock)
    async with opened.transaction() as rows:
        await rows.projects.add(Project("proj_a", "A", 100))
        assert await opened.find_grant([b"x"]) is None
    yield opened
    await opened.aclose()


async def is_available(store: SqlIdentityStore) -> bool:
    """Return whether a look-up works."""
    with suppress(StoreUnavailable):
        return await store.find_grant([b"x"]) is None
    return False


async def test_killed_server(
    store: SqlIdentityStore, server: PostgresServer, clock: FakeClock, capfd
) -> None:
    """Calls fail while the server is down, and the first one after it is back succeeds."""
    server.stop()
    failed = [await is_available(store) for _ in range(5)]
    server.start()
    clock.advance(RETRY_SECONDS)
    works = await is_available(store)
    async with store.transaction() as rows:
        found = await rows.projects.find("proj_a")

    assert (failed, works, found) == ([False] * 5, True, Project("proj_a", "A", 100))
    lines = [line for line in capfd.readouterr().out.splitlines() if "available" in line]
    address = f"127.0.0.1:{server.port}/postgres"
    assert len(lines) == 2
    assert f"the database at {address} is unavailable" in lines[0]
    assert "the database is available again" in lines[1]


async def test_restarted_server(store: SqlIdentityStore, server: PostgresServer) -> None:
    """A restart between two calls is not noticed."""
    server.stop()
    server.start()
    assert await asyncio.gather(*(is_available(store) for _ in range(4))) == [True] * 4


async def test_server_killed_in_transaction(
    store: SqlIdentityStore, server: PostgresServer, clock: FakeClock
) -> None:
    """A transaction that loses its server fails, and changes nothing."""
    for _ in range(3):  # more often than there are connections
        with pytest.raises(StoreUnavailable):
            async with store.transaction() as rows:
                await rows.projects.add(Project("proj_b", "B", 200))
                server.stop()
        server.start()
        clock.advance(RETRY_SECONDS)
    async with store.transaction() as rows:
        listed = await rows.projects.list(Page())
    assert listed.items == [Project("proj_a", "A", 100)]


async def test_frozen_server(
    store: SqlIdentityStore, server: PostgresServer, clock: FakeClock
) -> None:
    """A server that does not reply costs the timeout once, and then no time."""
    server.pause()
    try:
        started_at = monotonic()
        failed = [await is_available(store) for _ in range(20)]
        seconds = monotonic() - started_at
    finally:
        server.resume()

    assert failed == [False] * 20
    assert TIMEOUT <= seconds <= TIMEOUT + MARGIN

    async def recover() -> bool:
        clock.advance(RETRY_SECONDS)
        return await is_available(store)

    await until(recover)


async def test_server_frozen_in_transaction(
    store: SqlIdentityStore, server: PostgresServer, clock: FakeClock
) -> None:
    """A transaction whose server stops replying fails in time, and all connections come back."""
    started_at = monotonic()
    try:
        with pytest.raises(StoreUnavailable, match="no reply within 1 s"):
            async with store.transaction() as rows:
                server.pause()
                await rows.projects.add(Project("proj_b", "B", 200))
        seconds = monotonic() - started_at
    finally:
        server.resume()
    assert seconds <= TIMEOUT + MARGIN

    async def recover() -> bool:
        clock.advance(RETRY_SECONDS)
        return all(await asyncio.gather(is_available(store), is_available(store)))

    await until(recover)
    async with store.transaction() as rows:
        listed = await rows.projects.list(Page())
    assert listed.items == [Project("proj_a", "A", 100)]


async def test_closed_connections(store: SqlIdentityStore, server: PostgresServer) -> None:
    """Connections that the server has closed are replaced."""
    server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'maxgate'"
    )
    assert await is_available(store)


async def test_failover(store: SqlIdentityStore, server: PostgresServer) -> None:
    """Connections to a server that has become read-only are replaced when a change fails."""
    project = Project("proj_b", "B", 200)
    server.execute("ALTER DATABASE postgres SET default_transaction_read_only = on")
    server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'maxgate'"
    )
    try:
        readable = await is_available(store)
        with pytest.raises(StoreUnavailable, match="read-only transaction"):
            async with store.transaction() as rows:
                await rows.projects.add(project)
    finally:
        with server.connect() as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute("ALTER DATABASE postgres RESET default_transaction_read_only")
    async with store.transaction() as rows:
        await rows.projects.add(project)
        found = await rows.projects.find("proj_b")
    assert (readable, found) == (True, project)


async def test_full_server(
    settings: DatabaseSettings, server: PostgresServer, tmp_path: Path
) -> None:
    """A server that accepts no further connection is unavailable."""
    role = f"role_{uuid4().hex}"
    server.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 0")
    url = server.url.replace("postgres@", f"{role}@")
    store = open_identity_store(settings.model_copy(update={"url": url}), tmp_path)
    with pytest.raises(StoreUnavailable, match="too many connections for role"):
        await store.find_grant([b"x"])
    await store.aclose()


async def test_deadlock(settings: DatabaseSettings, tmp_path: Path) -> None:
    """Of two transactions that wait for each other, at least one succeeds."""
    store = open_identity_store(settings.model_copy(update={"timeout": 5.0}), tmp_path)
    projects = [Project("proj_a", "A", 100), Project("proj_b", "B", 200)]
    async with store.transaction() as rows:
        for project in projects:
            await rows.projects.add(project)
    barrier = asyncio.Barrier(2)

    async def change(first: Project, second: Project) -> bool:
        with suppress(StoreUnavailable, VersionConflict):
            async with store.transaction() as rows:
                await rows.projects.update(first)
                await barrier.wait()
                await rows.projects.update(second)
            return True
        return False

    succeeded = await asyncio.gather(change(*projects), change(*reversed(projects)))
    await store.aclose()
    assert sorted(succeeded) == [False, True]


async def test_least_rights(
    settings: DatabaseSettings, server: PostgresServer, tmp_path: Path
) -> None:
    """The gateway's role needs no right to create anything."""
    role, schema = f"role_{uuid4().hex}", settings.schema_name
    server.execute(f"CREATE ROLE {role} LOGIN")
    server.execute(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
    rights = "SELECT, INSERT, UPDATE, DELETE"
    server.execute(f"GRANT {rights} ON ALL TABLES IN SCHEMA {schema} TO {role}")
    url = server.url.replace("postgres@", f"{role}@")
    store = open_identity_store(settings.model_copy(update={"url": url}), tmp_path)
    project = Project("proj_a", "A", 100)
    async with store.transaction() as rows:
        await rows.projects.add(project)
        found = await rows.projects.update(project)
    await store.aclose()
    assert found == Project("proj_a", "A", 100, version=2)


async def test_start_without_server(
    settings: DatabaseSettings, server: PostgresServer, tmp_path: Path, clock: FakeClock
) -> None:
    """A store that is opened during an outage works after it."""
    server.stop()
    store = open_identity_store(settings, tmp_path, clock=clock)
    during = await is_available(store)
    server.start()
    clock.advance(RETRY_SECONDS)
    after = await is_available(store)
    await store.aclose()
    assert (during, after) == (False, True)


@pytest.mark.parametrize(
    "place",
    [
        "maxgate:pa55word@127.0.0.1:1/maxgate",
        "maxgate:pa55word@nowhere.invalid/maxgate",
        "maxgate:pa55word@/maxgate?host=/nowhere",
        "maxgate:pa55word@127.0.0.1:1/maxgate?sslmode=verify-full&sslrootcert=/nowhere",
    ],
)
async def test_password(place: str, tmp_path: Path, capfd) -> None:
    """No error, log line or representation has the password."""
    settings = DatabaseSettings(url=f"postgresql://{place}", timeout=TIMEOUT)
    store = open_identity_store(settings, tmp_path)
    with pytest.raises(StoreUnavailable) as caught:
        await store.find_grant([b"x"])
    await store.aclose()
    out, err = capfd.readouterr()
    assert "unavailable" in out
    assert "pa55word" not in f"{caught.value!r}{settings!r}{out}{err}"
