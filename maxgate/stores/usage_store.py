"""The ledger of requests and its roll-ups in SQLite or PostgreSQL."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final, Literal

import structlog
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    Table,
    bindparam,
    cast,
    delete,
    func,
    literal,
    literal_column,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, IntegrityError, InterfaceError, ProgrammingError
from typing_extensions import override

from maxgate.clock import Clock, SystemClock
from maxgate.errors import ConfigurationError
from maxgate.stores import tables
from maxgate.stores.database import Connection, Database, describe_error
from maxgate.stores.identity import StoreUnavailable
from maxgate.stores.migrate import prepare_database
from maxgate.stores.settings import DatabaseSettings
from maxgate.stores.usage import (
    Bucket,
    BucketQuery,
    Dimension,
    EntryQuery,
    UsageBatch,
    UsageEntry,
    UsageRejected,
    UsageStore,
    Width,
)
from maxgate.stores.usage_partitions import DAY_SECONDS, UsagePartitions
from maxgate.stores.usage_postgres import PostgresRows
from maxgate.stores.usage_rows import BUCKETS, SUMS, UsageRows
from maxgate.stores.usage_sqlite import SqliteRows

POSITION_DAYS: Final = 400
"""Time for which the position of a spool is kept that nothing was added to."""

_DIMENSIONS: Final[tuple[Dimension, ...]] = ("project_id", "user_id", "api_key_id", "model")
_DELETED_AT_ONCE: Final = 10_000
_END_DAY: Final = date.max.toordinal() - date(1970, 1, 1).toordinal()
"""Entries from this day on, in the year 9999, are in the default partition."""
_MOVE_POSITION: Final = (
    update(tables.USAGE_SPOOLS)
    .where(
        tables.USAGE_SPOOLS.c.spool == bindparam("name"),
        tables.USAGE_SPOOLS.c.position == bindparam("start"),
    )
    .values(position=bindparam("end"), updated_at=bindparam("now"))
)
_log = structlog.get_logger("stores")


def open_usage_store(
    settings: DatabaseSettings, state_dir: Path, *, clock: Clock | None = None
) -> "SqlUsageStore":
    """Check the schema of the database (SQLite: create or upgrade it), and open the store.

    Blocks meanwhile. If PostgreSQL is unavailable, the store works once it is available. Raises
    SchemaMismatch, and ConfigurationError for a missing driver or an unusable file of SQLite.
    """
    try:
        prepare_database(settings, state_dir)
    except StoreUnavailable as error:
        if not settings.is_postgres:
            raise ConfigurationError(str(error)) from error
        _log.warning("the schema of the database has not been checked", error=str(error))
    return SqlUsageStore(Database(settings, state_dir, clock=clock), clock=clock)


class SqlUsageStore(UsageStore):
    """The store in either database."""

    def __init__(self, database: Database, *, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock or SystemClock()
        self._partitions = UsagePartitions(database, self._clock)

    @override
    async def aclose(self) -> None:
        await self._database.aclose()

    @override
    async def find_position(self, spool: str) -> int:
        table = tables.USAGE_SPOOLS
        query = select(table.c.position).where(table.c.spool == spool)
        async with self._database.begin(read_only=True) as connection:
            position = (await connection.execute(query)).scalar()
        return position or 0

    @override
    async def append(self, batch: UsageBatch) -> bool:
        is_postgres = self._database.is_postgres
        read = PostgresRows if is_postgres else SqliteRows
        try:
            rows = await asyncio.to_thread(read, batch)
        except (ValueError, TypeError, LookupError) as error:
            raise UsageRejected(f"a row is not that of an entry: {error}") from error
        if is_postgres:
            days = {day for group in batch.groups for day in (group.first_day, group.last_day)}
            await self._make_partitions(days)
        try:
            return await self._insert(batch, rows)
        except (IntegrityError, OverflowError) as error:
            raise UsageRejected(describe_error(error)) from error
        except StoreUnavailable as error:
            if _is_about_values(error.__cause__):
                raise UsageRejected(str(error)) from error
            raise

    async def _make_partitions(self, days: set[int]) -> None:
        today = int(self._clock.wall()) // DAY_SECONDS
        days = {day for day in days if 0 <= day < _END_DAY} | {today, today + 1}
        await self._partitions.make({day * DAY_SECONDS for day in days})

    async def _insert(self, batch: UsageBatch, rows: UsageRows) -> bool:
        async with self._database.begin() as connection:
            if not await self._move_position(connection, batch):
                return False
            if batch.groups:
                await rows.insert(connection)
        return True

    async def _move_position(self, connection: Connection, batch: UsageBatch) -> bool:
        """Move the position of the spool; False if it is not the start of the batch."""
        table, now = tables.USAGE_SPOOLS, int(self._clock.wall())
        values = {"name": batch.spool, "start": batch.start, "end": batch.end, "now": now}
        if (await connection.execute(_MOVE_POSITION, values)).rowcount:
            return True
        if batch.start:
            return False
        insert_new = postgresql.insert if self._database.is_postgres else sqlite.insert
        row = {"spool": batch.spool, "position": batch.end, "updated_at": now}
        statement = insert_new(table).values(row).on_conflict_do_nothing()
        added = await connection.execute(statement.returning(table.c.spool))
        return added.first() is not None

    @override
    async def list_buckets(self, query: BucketQuery) -> Sequence[Bucket]:
        table = BUCKETS[query.width]
        group = [table.c[name] for name in _DIMENSIONS if name in query.group_by]
        names = ("start", "kind", *(column.name for column in group))
        sums = [func.sum(table.c[name]).label(name) for name in SUMS]
        found = select(table.c.start, table.c.kind, *group, *sums)
        found = found.where(table.c.start >= query.start, table.c.start < query.end)
        if query.kinds:
            found = found.where(table.c.kind.in_(sorted(query.kinds)))
        found = _filter(found, table, query.filters).group_by(table.c.start, table.c.kind, *group)
        found = found.order_by(*(table.c[name] for name in names))
        async with self._database.begin(read_only=True) as connection:
            rows = (await connection.execute(found)).mappings().all()
        missing: dict[str, Any] = dict.fromkeys(_DIMENSIONS)
        return [
            Bucket(**{**missing, **row, **{name: int(row[name]) for name in SUMS[:-1]}})
            for row in rows
        ]

    @override
    async def list_entries(self, query: EntryQuery) -> Sequence[UsageEntry]:
        table = tables.USAGE_ENTRIES
        place = (table.c.finished_at, table.c.spool, table.c.sequence)
        found = select(table).where(
            table.c.finished_at >= query.start, table.c.finished_at < query.end
        )
        if query.request_id is not None:
            if "\0" in query.request_id:  # no text in PostgreSQL has one
                return []
            found = found.where(table.c.request_id == query.request_id)
        if query.after is not None:
            found = found.where(tuple_(*place) < tuple_(*map(literal, query.after)))
        found = _filter(found, table, query.filters)
        found = found.order_by(*(column.desc() for column in place)).limit(query.limit)
        async with self._database.begin(read_only=True) as connection:
            rows = (await connection.execute(found)).mappings().all()
        return [_decode_entry(row) for row in rows]

    @override
    async def drop_before(self, width: Width | Literal["entries"], end: int) -> int:
        end -= end % DAY_SECONDS
        table = tables.USAGE_ENTRIES if width == "entries" else BUCKETS[width]
        column: ColumnElement[Any] = table.c["finished_at" if width == "entries" else "start"]
        days: set[int] = set()
        if self._database.is_postgres:
            days |= await self._partitions.drop_before(table, end)
        day = column / DAY_SECONDS
        # Not every SQLite has `floor`, and PostgreSQL's cast rounds.
        whole = func.floor(day) if self._database.is_postgres else cast(day, BigInteger)
        async with self._database.begin(read_only=True) as connection:
            found = await connection.execute(select(whole).where(column < end).distinct())
        days |= {int(number) for number in found.scalars()}
        await self._delete_before(table, column, end)
        if width == "entries":
            spools = tables.USAGE_SPOOLS
            oldest = int(self._clock.wall()) - POSITION_DAYS * DAY_SECONDS
            async with self._database.begin() as connection:
                await connection.execute(delete(spools).where(spools.c.updated_at < oldest))
        return len(days)

    async def _delete_before(self, table: Table, column: ColumnElement[Any], end: int) -> None:
        """Delete rows in steps, so that none takes longer than a call may."""
        place: ColumnElement[Any] = literal_column(
            "ctid" if self._database.is_postgres else "rowid"
        )
        step = select(place).select_from(table).where(column < end).limit(_DELETED_AT_ONCE)
        statement = delete(table).where(column < end, place.in_(step))
        while True:
            async with self._database.begin() as connection:
                deleted = await connection.execute(statement)
            if deleted.rowcount < _DELETED_AT_ONCE:
                return


def _is_about_values(cause: BaseException | None) -> bool:
    """Return whether the values of a statement are wrong, not the state of the database."""
    if isinstance(cause, InterfaceError | ProgrammingError):  # sqlite3, for a type it lacks
        return "binding parameter" in str(cause.orig)
    return isinstance(cause, DataError)


def _filter(
    query: Select[Any], table: Table, filters: Mapping[Dimension, frozenset[str]]
) -> Select[Any]:
    for name, values in filters.items():
        if values:
            query = query.where(table.c[name].in_(sorted(v for v in values if "\0" not in v)))
    return query


def _decode_entry(row: Mapping[Any, Any]) -> UsageEntry:
    return UsageEntry(**{**row, "decisions": tuple(row["decisions"])})
