"""Partitions of the tables of usage in PostgreSQL, one per UTC day.

They are made a day ahead and dropped whole. A role that may not make them uses the default
partition, from which rows are deleted.
"""

import hashlib
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

import structlog
from sqlalchemy import Table, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from maxgate.clock import Clock
from maxgate.stores import tables
from maxgate.stores.database import Connection, Database
from maxgate.stores.identity import StoreUnavailable

DAY_SECONDS: Final = 86_400

_PARTITIONED: Final = (tables.USAGE_ENTRIES, tables.USAGE_MINUTES)
_LOCK_SECONDS: Final = 2
"""Time to wait for readers of a table; new readers wait behind a change that waits."""
_RETRY_SECONDS: Final = 60
_NO_RIGHT: Final = "42501"
_ROWS_IN_DEFAULT: Final = "23514"
_LOCKED: Final = "55P03"
_log = structlog.get_logger("stores")


class UsagePartitions:
    """Makes and drops the partitions of days; does each day once."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._retry_at = 0.0
        self._days: set[int] = set()
        self._is_refused = False

    async def make(self, times: Collection[int]) -> None:
        """Make the partitions of these times, in Unix seconds; raises StoreUnavailable."""
        days = {time // DAY_SECONDS for time in times} - self._days
        if self._is_refused or not days or self._clock.monotonic() < self._retry_at:
            return
        for day in sorted(days):
            try:
                async with self._locked() as connection:
                    for table in _PARTITIONED:
                        await self._make_partition(connection, table, day)
            except (StoreUnavailable, IntegrityError) as error:
                state = _read_state(error)
                if state not in {_NO_RIGHT, _ROWS_IN_DEFAULT, _LOCKED}:
                    raise
                _log.warning("usage of a day has no partition for now", error=str(error))
                self._is_refused = state == _NO_RIGHT
                if state != _ROWS_IN_DEFAULT:  # a backup holds locks for hours, for example
                    self._retry_at = self._clock.monotonic() + _RETRY_SECONDS
                    return
            self._days.add(day)

    async def drop_before(self, table: Table, end: int) -> set[int]:
        """Drop the partitions of days that ended before; return the days, from 1970-01-01.

        Raises StoreUnavailable.
        """
        if table not in _PARTITIONED:
            return set()
        dropped: set[int] = set()
        try:
            async with self._locked() as connection:
                for day, name in await self._list_partitions(connection, table):
                    if (day + 1) * DAY_SECONDS <= end:
                        await connection.execute(text(f"DROP TABLE {self._qualify(name)}"))
                        dropped.add(day)
        except StoreUnavailable as error:
            if _read_state(error) != _NO_RIGHT:
                raise
            return set()
        self._days -= dropped
        return dropped

    async def _make_partition(self, connection: Connection, table: Table, day: int) -> None:
        name, parent = self._qualify(name_partition(table, day)), self._qualify(table.name)
        if any(found == day for found, _ in await self._list_partitions(connection, table)):
            return
        # Attached afterwards, because making it in place would wait for readers of the table.
        await connection.execute(text(f"CREATE TABLE {name} (LIKE {parent} INCLUDING ALL)"))
        start, end = day * DAY_SECONDS, (day + 1) * DAY_SECONDS
        bounds = f"FOR VALUES FROM ({start}) TO ({end})"
        await connection.execute(text(f"ALTER TABLE {parent} ATTACH PARTITION {name} {bounds}"))

    async def _list_partitions(self, connection: Connection, table: Table) -> list[tuple[int, str]]:
        found = await connection.execute(
            text(
                "SELECT child.relname FROM pg_inherits "
                "JOIN pg_class AS child ON child.oid = inhrelid "
                "JOIN pg_class AS parent ON parent.oid = inhparent "
                "JOIN pg_namespace AS space ON space.oid = parent.relnamespace "
                "WHERE space.nspname = :schema AND parent.relname = :name"
            ),
            {"schema": self._database.schema_name, "name": table.name},
        )
        days = [(_parse_day(name, table), name) for name in found.scalars()]
        return sorted((day, name) for day, name in days if day is not None)

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[Connection]:
        """Begin a transaction that no other gateway's change of partitions runs beside."""
        digest = hashlib.sha256(f"maxgate usage:{self._database.schema_name}".encode()).digest()
        key = int.from_bytes(digest[:8], "big", signed=True)
        async with self._database.begin() as connection:
            await connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'"))
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
            yield connection

    def _qualify(self, name: str) -> str:
        return f'"{self._database.schema_name}"."{name}"'


def _read_state(error: StoreUnavailable | IntegrityError) -> str | None:
    """Return PostgreSQL's code of an error, None if the server did not report one."""
    cause = error if isinstance(error, IntegrityError) else error.__cause__
    return getattr(cause.orig, "sqlstate", None) if isinstance(cause, DBAPIError) else None


def name_partition(table: Table, day: int) -> str:
    """Return the name of the partition of a day, such as `usage_entries_20261128`."""
    return f"{table.name}_{datetime.fromtimestamp(day * DAY_SECONDS, UTC):%Y%m%d}"


def _parse_day(name: str, table: Table) -> int | None:
    digits = name.removeprefix(f"{table.name}_")
    if not digits.isdigit():  # the default partition
        return None
    start = datetime.strptime(f"{digits} +0000", "%Y%m%d %z").timestamp()
    return int(start) // DAY_SECONDS
