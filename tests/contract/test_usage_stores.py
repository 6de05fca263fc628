"""The ledger of requests has the same rules in both databases."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, astuple, fields, replace
from pathlib import Path
from uuid import uuid4

import orjson
import psycopg
import pytest

from maxgate.stores.identity import StoreUnavailable
from maxgate.stores.migrate import upgrade_database
from maxgate.stores.settings import DatabaseSettings
from maxgate.stores.tables import METADATA
from maxgate.stores.usage import (
    WIDTH_SECONDS,
    Bucket,
    BucketQuery,
    EntryPosition,
    EntryQuery,
    UsageBatch,
    UsageEntry,
    UsageRejected,
)
from maxgate.stores.usage_rows import MAX_COUNT
from maxgate.stores.usage_store import POSITION_DAYS, SqlUsageStore, open_usage_store
from tests.fakes.clock import FakeClock
from tests.fakes.postgres_server import PostgresServer
from tests.fakes.usage_lines import make_batch, make_group

DAY = 86_400
NOON = 20_833 * DAY + DAY // 2
ENTRY = UsageEntry(
    spool="s1",
    sequence=1,
    finished_at=NOON + 0.25,
    request_id="req_1",
    kind="completions",
    route="/v1/chat/completions",
    project_id="proj_a",
    user_id="ann",
    api_key_id="key_1",
    model="llama",
    engine="http://engine:8000",
    outcome="ok",
    status=200,
    is_stream=True,
    is_cached=False,
    attempts=1,
    input_tokens=10,
    cached_tokens=4,
    output_tokens=5,
    queue_seconds=0.5,
    first_token_seconds=0.75,
    total_seconds=2.0,
    engine_seconds=1.5,
    gpu_seconds=0.25,
    service_tier="flex",
    tags={"team": "Zürich 'x'", "empty": ""},
    decisions=("pii", "words"),
)
EMBEDDING = replace(
    ENTRY,
    sequence=2,
    finished_at=NOON + 70.0,
    kind="embeddings",
    route="/v1/embeddings",
    project_id="proj_b",
    user_id="bob",
    api_key_id="key_2",
    model="minilm",
    engine=None,
    first_token_seconds=None,
    is_stream=False,
    output_tokens=0,
    tags={},
    decisions=(),
)


@pytest.fixture(scope="module")
def sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database, to be copied."""
    folder = tmp_path_factory.mktemp("sqlite")
    upgrade_database(DatabaseSettings(), folder)
    return folder / "maxgate.db"


@pytest.fixture(scope="module")
def postgres_settings(postgres: PostgresServer, tmp_path_factory) -> DatabaseSettings:
    """A schema, to be emptied."""
    found = DatabaseSettings(url=postgres.url, schema_name=f"test_{uuid4().hex}")
    upgrade_database(found, tmp_path_factory.mktemp("postgres"))
    return found


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> DatabaseSettings:
    """An empty database of each kind."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_file"), tmp_path)
        return DatabaseSettings()
    found: DatabaseSettings = request.getfixturevalue("postgres_settings")
    names = ", ".join(f"{found.schema_name}.{name}" for name in METADATA.tables)
    request.getfixturevalue("postgres").execute(f"TRUNCATE {names}")
    return found


class FixedClock(FakeClock):
    """A clock at noon of the day of the entries."""

    def wall(self) -> float:
        return NOON + self.monotonic() - 1000


@pytest.fixture
def clock() -> FakeClock:
    return FixedClock()


@pytest.fixture
async def store(
    settings: DatabaseSettings, tmp_path: Path, clock: FakeClock
) -> AsyncIterator[SqlUsageStore]:
    """An empty store."""
    opened = open_usage_store(settings, tmp_path, clock=clock)
    yield opened
    await opened.aclose()


async def list_all(store: SqlUsageStore, **fields: object) -> list[UsageEntry]:
    """Return all entries, newest first."""
    return list(await store.list_entries(EntryQuery(0, 1e11, **fields)))


async def sum_all(store: SqlUsageStore, width: str, *group_by: str, **fields: object) -> list:
    """Return the buckets of all times."""
    query = BucketQuery(width, 0, 10**11, group_by=frozenset(group_by), **fields)
    return list(await store.list_buckets(query))


async def test_append(store: SqlUsageStore) -> None:
    """Entries, roll-ups and the position are stored together."""
    assert await store.find_position("s1") == 0
    assert await store.append(make_batch("s1", 0, 100, [ENTRY, EMBEDDING]))
    assert await store.find_position("s1") == 100
    assert await list_all(store) == [EMBEDDING, ENTRY]
    keys = ("project_id", "user_id", "api_key_id", "model")
    chat = Bucket(NOON, "completions", "proj_a", "ann", "key_1", "llama", 1, 10, 4, 5, 0.25)
    other = Bucket(NOON, "embeddings", "proj_b", "bob", "key_2", "minilm", 1, 10, 4, 0, 0.25)
    assert await sum_all(store, "1m", *keys) == [chat, replace(other, start=NOON + 60)]
    assert await sum_all(store, "1h", *keys) == [chat, other]
    day = NOON - DAY // 2
    assert await sum_all(store, "1d", *keys) == [
        replace(chat, start=day),
        replace(other, start=day),
    ]


async def test_append_again(store: SqlUsageStore) -> None:
    """A batch that is stored already, or that does not follow the last one, changes nothing."""
    batch = make_batch("s1", 0, 100, [ENTRY])
    assert await store.append(batch)
    assert not await store.append(batch)
    assert not await store.append(make_batch("s1", 50, 150, [EMBEDDING]))
    assert not await store.append(make_batch("new", 50, 150, [EMBEDDING]))
    assert await list_all(store) == [ENTRY]
    assert await store.find_position("s1") == 100
    assert await store.append(make_batch("s1", 100, 150, []))
    assert await store.find_position("s1") == 150


async def test_rows_of_other_versions(store: SqlUsageStore) -> None:
    """Rows of an earlier version lack the last fields, and those of a later one have more."""
    values = list(astuple(ENTRY)[1:])
    group = make_group([values[:-3], [2, *values[1:], "new"]])
    assert await store.append(UsageBatch("s1", 0, 9, [group]))
    older = replace(ENTRY, service_tier="default", tags={}, decisions=())
    assert await list_all(store) == [replace(ENTRY, sequence=2), older]


async def test_large_numbers(store: SqlUsageStore) -> None:
    """A number that the sums of the database could not hold is cut."""
    entry = replace(ENTRY, output_tokens=2**63)
    assert await store.append(make_batch("s1", 0, 9, [entry]))
    assert await list_all(store) == [replace(ENTRY, output_tokens=MAX_COUNT)]


@pytest.mark.parametrize(
    ("at", "value"),
    [
        *[("sequence", 2**63), ("model", None), ("gpu_seconds", "x"), ("finished_at", [])],
        *[("is_stream", None), ("is_cached", "x"), ("finished_at", 1e300)],
    ],
)
async def test_rejected_values(store: SqlUsageStore, at: str, value: object) -> None:
    """A batch with values that the database cannot store is rejected as a whole."""
    row = [{**asdict(ENTRY), at: value}[field.name] for field in fields(ENTRY)[1:]]
    good = make_group([astuple(EMBEDDING)[1:]])
    no_entries = (b"[[1]]", b"1", b"[1]", b"[[", b"[{}]")
    for bad in (make_group([row]), *[good._replace(rows=rows) for rows in no_entries]):
        with pytest.raises(UsageRejected):
            await store.append(UsageBatch("s1", 0, 9, [good, bad]))
        assert await list_all(store) == []
    assert await store.append(UsageBatch("s1", 0, 9, [good]))


@pytest.mark.parametrize("time", [10**18, 253_402_300_800, -1, -90_000])
async def test_odd_times(store: SqlUsageStore, time: int) -> None:
    """An entry of a clock that is wrong is stored, and summed like others."""
    entry = replace(ENTRY, finished_at=float(time))
    [group] = make_batch("s1", 0, 9, [entry]).groups
    group = group._replace(rows=group.rows.replace(orjson.dumps(float(time)), b"%d" % time))
    assert await store.append(UsageBatch("s1", 0, 9, [group]))
    assert await store.list_entries(EntryQuery(-1e11, 1e19)) == [entry]
    for width, seconds in WIDTH_SECONDS.items():
        query = BucketQuery(width, -(10**6), 10**19 // 10)
        assert [b.start for b in await store.list_buckets(query)] == [time // seconds * seconds]


async def test_sums(store: SqlUsageStore) -> None:
    """Buckets are added to by every batch of every spool."""
    for number in range(3):
        again = [replace(ENTRY, spool=f"s{number}", sequence=n) for n in range(4)]
        assert await store.append(make_batch(f"s{number}", 0, 9, again[:1]))
        assert await store.append(make_batch(f"s{number}", 9, 20, again[1:]))
    [bucket] = await sum_all(store, "1d")
    assert bucket == Bucket(
        NOON - DAY // 2, "completions", None, None, None, None, 12, 120, 48, 60, 3.0
    )


async def test_sums_of_many_gateways(
    settings: DatabaseSettings, tmp_path: Path, clock: FakeClock
) -> None:
    """Gateways that add to the same buckets at once, in any order, lose nothing and go on."""
    callers = [replace(ENTRY, project_id=f"proj_{n % 7}", sequence=n) for n in range(30)]

    async def append(store: SqlUsageStore, spool: str, entries: Sequence[UsageEntry]) -> None:
        for number in range(5):
            lines = [replace(entry, sequence=30 * number + entry.sequence) for entry in entries]
            assert await store.append(make_batch(spool, number, number + 1, lines))

    async with AsyncExitStack() as stack:
        stores = [open_usage_store(settings, tmp_path, clock=clock) for _ in range(3)]
        for store in stores:
            stack.push_async_callback(store.aclose)
        orders = [callers, callers[::-1], callers[10:] + callers[:10]]
        await asyncio.gather(*[append(store, f"s{n}", orders[n]) for n, store in enumerate(stores)])
        for width in WIDTH_SECONDS:
            buckets = await sum_all(stores[0], width, "project_id")
            assert [b.requests for b in buckets] == [75, 75, 60, 60, 60, 60, 60]


@pytest.mark.parametrize("settings", ["postgres"], indirect=True)
async def test_order_of_locks(
    store: SqlUsageStore, settings: DatabaseSettings, postgres: PostgresServer
) -> None:
    """A gateway waits for one of an earlier version, which adds to minutes, hours, then days."""
    await store.append(make_batch("locks", 0, 9, [ENTRY]))
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    async with await psycopg.AsyncConnection.connect(postgres.url) as other:
        await other.execute(f"SET search_path TO {settings.schema_name}")
        await other.execute("UPDATE usage_minutes SET requests = requests + 1")
        again = make_batch("locks", 9, 20, [replace(ENTRY, sequence=2)])
        appending = asyncio.create_task(store.append(again))
        while not (await asyncio.to_thread(postgres.execute, waiting))[0][0]:
            assert not appending.done()
        await other.execute("UPDATE usage_hours SET requests = requests + 1")
        await other.execute("UPDATE usage_days SET requests = requests + 1")
    assert await appending
    assert [b.requests for width in WIDTH_SECONDS for b in await sum_all(store, width)] == [3, 3, 3]


async def test_unserved_requests(store: SqlUsageStore) -> None:
    """Requests that no engine worked on have an entry and are in no bucket."""
    refused = replace(ENTRY, attempts=0, status=429, outcome="client_error")
    cached = replace(ENTRY, attempts=0, is_cached=True, sequence=2)
    assert await store.append(make_batch("s1", 0, 9, [refused, cached]))
    assert len(await list_all(store)) == 2
    assert [bucket.requests for bucket in await sum_all(store, "1m")] == [1]


async def test_groups_and_filters(store: SqlUsageStore) -> None:
    """Buckets are grouped and filtered by any dimension, kind and time."""
    carl = replace(ENTRY, sequence=3, user_id="carl", finished_at=NOON + 3600.0)
    await store.append(make_batch("s1", 0, 9, [ENTRY, EMBEDDING, carl]))
    by_user = await sum_all(store, "1d", "user_id", kinds=frozenset({"completions"}))
    assert [(b.user_id, b.project_id, b.requests) for b in by_user] == [
        ("ann", None, 1),
        ("carl", None, 1),
    ]
    filters = {"project_id": frozenset({"proj_a"}), "user_id": frozenset({"carl", "x\0"})}
    assert [b.start for b in await sum_all(store, "1h", filters=filters)] == [NOON + 3600]
    query = BucketQuery("1h", NOON + 3600, NOON + 7200)
    assert [b.requests for b in await store.list_buckets(query)] == [1]
    assert await store.list_buckets(replace(query, end=NOON + 3600)) == []


async def test_entry_pages(store: SqlUsageStore) -> None:
    """Entries are listed in pages, newest first, also those of the same moment."""
    entries = [replace(ENTRY, sequence=n, request_id=f"req_{n // 2}") for n in range(5)]
    await store.append(make_batch("s1", 0, 9, entries))
    first = await list_all(store, limit=2)
    place = EntryPosition(first[-1].finished_at, first[-1].spool, first[-1].sequence)
    rest = await list_all(store, after=place)
    assert [entry.sequence for entry in [*first, *rest]] == [4, 3, 2, 1, 0]
    assert [e.sequence for e in await list_all(store, request_id="req_1")] == [3, 2]
    assert await list_all(store, request_id="req_1\0") == []
    assert await store.list_entries(EntryQuery(NOON + 1, NOON + 2)) == []
    filters = {"project_id": frozenset({"other"})}
    assert await list_all(store, filters=filters) == []


async def test_retention(store: SqlUsageStore) -> None:
    """Whole days are deleted, entries and each width by itself."""
    days = [replace(ENTRY, sequence=n, finished_at=ENTRY.finished_at - n * DAY) for n in range(4)]
    for number, day in enumerate(days):
        await store.append(make_batch("s1", number, number + 1, [day]))
    assert await store.drop_before("entries", NOON - DAY) == 2
    assert await list_all(store) == days[:2]
    assert len(await sum_all(store, "1m")) == 4
    assert await store.drop_before("1m", NOON) == 3
    assert await store.drop_before("1m", NOON) == 0
    assert [len(await sum_all(store, width)) for width in ("1m", "1h", "1d")] == [1, 4, 4]
    # The day of an entry that arrives late exists again.
    assert await store.append(make_batch("s2", 0, 9, [replace(days[3], spool="s2")]))
    assert await store.drop_before("1h", NOON - 2 * DAY) == 1
    assert await store.drop_before("1d", NOON + DAY) == 4
    assert [len(await sum_all(store, width)) for width in ("1m", "1h", "1d")] == [2, 3, 0]


async def test_old_positions(store: SqlUsageStore, clock: FakeClock) -> None:
    """Positions of spools that have not changed for very long are forgotten."""
    await store.append(make_batch("s1", 0, 9, [ENTRY]))
    clock.advance((POSITION_DAYS - 1) * DAY)
    await store.append(make_batch("s2", 0, 9, []))
    await store.drop_before("entries", 0)
    assert await store.find_position("s1") == 9
    clock.advance(2 * DAY)
    await store.drop_before("entries", 0)
    assert [await store.find_position(name) for name in ("s1", "s2")] == [0, 9]


async def test_hostile_text(store: SqlUsageStore, settings: DatabaseSettings) -> None:
    """Any text can be stored; PostgreSQL has no NUL."""
    text = "a\0b \\u0000 '\"; DROP TABLE usage_entries; -- \U0001f600 %s :x"
    entry = replace(ENTRY, model=text, request_id=text, tags={text: text})
    assert await store.append(make_batch("s1", 0, 9, [entry]))
    if settings.is_postgres:
        text = text.replace("\0", "\ufffd")
    assert await list_all(store) == [replace(ENTRY, model=text, request_id=text, tags={text: text})]


async def test_partitions(postgres: PostgresServer, tmp_path: Path, clock: FakeClock) -> None:
    """PostgreSQL has a partition for each day with entries, and for today and tomorrow."""
    settings = DatabaseSettings(url=postgres.url, schema_name=f"test_{uuid4().hex}")
    upgrade_database(settings, tmp_path)
    store = open_usage_store(settings, tmp_path, clock=clock)
    old = replace(ENTRY, finished_at=ENTRY.finished_at - 3 * DAY)
    await store.append(make_batch("s1", 0, 9, [ENTRY, old]))

    def count_rows() -> dict[str, int]:
        query = "SELECT relname FROM pg_class JOIN pg_namespace s ON s.oid = relnamespace "
        query += "WHERE nspname = %s AND relispartition AND relkind = 'r' ORDER BY 1"
        names = [name for (name,) in postgres.execute(query, settings.schema_name)]
        counts = f"SELECT count(*) FROM {settings.schema_name}."  # noqa: S608
        return {name: postgres.execute(f"{counts}{name}")[0][0] for name in names}

    assert count_rows() == {
        "usage_entries_20270112": 1,
        "usage_entries_20270115": 1,
        "usage_entries_20270116": 0,
        "usage_entries_default": 0,
        "usage_minutes_20270112": 1,
        "usage_minutes_20270115": 1,
        "usage_minutes_20270116": 0,
        "usage_minutes_default": 0,
    }
    assert await store.drop_before("entries", NOON) == 1
    assert "usage_entries_20270112" not in count_rows()
    await store.aclose()


async def test_role_without_rights(
    postgres: PostgresServer, tmp_path: Path, clock: FakeClock
) -> None:
    """A role that may not create tables stores usage, and deletes old rows."""
    settings = DatabaseSettings(url=postgres.url, schema_name=f"test_{uuid4().hex}")
    upgrade_database(settings, tmp_path)
    role, schema = f"role_{uuid4().hex}", settings.schema_name
    postgres.execute(f"CREATE ROLE {role} LOGIN")
    postgres.execute(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
    postgres.execute(
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}"
    )
    limited = settings.model_copy(update={"url": postgres.url.replace("postgres@", f"{role}@")})
    store = open_usage_store(limited, tmp_path, clock=clock)
    assert await store.append(make_batch("s1", 0, 9, [ENTRY]))
    assert await store.append(make_batch("s1", 9, 20, [EMBEDDING]))
    assert await list_all(store) == [EMBEDDING, ENTRY]
    assert await store.drop_before("entries", NOON + DAY) == 1
    assert await list_all(store) == []
    await store.append(make_batch("s1", 20, 30, [ENTRY]))
    owner = open_usage_store(settings, tmp_path, clock=clock)
    assert await owner.append(make_batch("s2", 0, 9, [ENTRY]))
    assert len(await list_all(owner)) == 2
    await owner.aclose()
    await store.aclose()


async def test_outage(store: SqlUsageStore, settings: DatabaseSettings, tmp_path: Path) -> None:
    """An unreachable database is reported as one."""
    if settings.is_postgres:
        away = settings.model_copy(update={"url": "postgresql://postgres@127.0.0.1:1/none"})
    else:
        away = settings
        (tmp_path / "maxgate.db").unlink()
    other = store if not settings.is_postgres else open_usage_store(away, tmp_path)
    with pytest.raises(StoreUnavailable):
        await other.append(make_batch("s1", 0, 9, [ENTRY]))
    await other.aclose()
