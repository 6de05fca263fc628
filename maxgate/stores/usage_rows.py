"""Rows of the ledger: entries and sums as values of their tables, and inserts of many at once."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any, Final, TypeAlias

import orjson
from sqlalchemy import JSON, Table, Text, bindparam, cast, column, func, select
from sqlalchemy.dialects import postgresql

from maxgate.stores import tables
from maxgate.stores.database import Connection
from maxgate.stores.usage import WIDTH_SECONDS, Bucket, Kind, UsageEntry

SUMS: Final = ("requests", "input_tokens", "cached_tokens", "output_tokens", "gpu_seconds")
"""Columns of a bucket that are added up."""

_NUL: Final = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
_BucketKey: TypeAlias = tuple[str, int, Kind, str, str, str]
_get_key: Final = attrgetter("project_id", "start", "kind", "user_id", "api_key_id", "model")
_get_sums: Final = attrgetter(*SUMS)


def sum_buckets(entries: Sequence[UsageEntry]) -> list[Bucket]:
    """Sum entries per minute and all dimensions, in the order of the tables' keys.

    Two gateways that add to the same rows lock them in this order. Requests that no engine worked
    on are left out, unless their response came from a cache.
    """
    sums: dict[_BucketKey, list[Any]] = {}
    for entry in entries:
        if not (entry.attempts or entry.is_cached):
            continue
        time = int(entry.finished_at)
        start = time - time % WIDTH_SECONDS["1m"]
        key = (
            entry.project_id,
            start,
            entry.kind,
            entry.user_id,
            entry.api_key_id,
            entry.model,
        )
        found = sums.setdefault(key, [0, 0, 0, 0, 0.0])
        found[0] += 1
        found[1] += entry.input_tokens
        found[2] += entry.cached_tokens
        found[3] += entry.output_tokens
        found[4] += entry.gpu_seconds
    return _sort(sums)


def widen_buckets(buckets: Sequence[Bucket], seconds: int) -> list[Bucket]:
    """Sum buckets of minutes to wider ones."""
    sums: dict[_BucketKey, list[Any]] = {}
    for bucket in buckets:
        project, start, *others = _get_key(bucket)
        found = sums.setdefault((project, start - start % seconds, *others), [0, 0, 0, 0, 0.0])
        for at, value in enumerate(_get_sums(bucket)):
            found[at] += value
    return _sort(sums)


def _sort(sums: Mapping[_BucketKey, Sequence[Any]]) -> list[Bucket]:
    return [
        Bucket(start, kind, project, user, key, model, *values)
        for (project, start, kind, user, key, model), values in sorted(sums.items())
    ]


async def insert_rows(
    connection: Connection,
    table: Table,
    rows: Sequence[UsageEntry] | Sequence[Bucket],
    *,
    is_postgres: bool,
) -> None:
    """Insert many rows by one statement; buckets that exist are added to.

    SQLAlchemy would process each value of each row, which takes more time than the database.
    """
    if is_postgres:
        # A NUL, which PostgreSQL cannot store, would stop all lines behind it.
        data = orjson.dumps(rows)
        if b"\\u0000" in data:
            data = _NUL.sub(rb"\1\\ufffd", data)
        await connection.execute(_POSTGRES[table], {"data": data.decode()})
        return
    if not rows:
        return
    names = [field.name for field in fields(rows[0])]
    get = attrgetter(*names)
    json_columns = [at for at, name in enumerate(names) if isinstance(table.c[name].type, JSON)]
    values = []
    for row in rows:
        value = list(get(row))
        for at in json_columns:
            value[at] = orjson.dumps(value[at]).decode()
        values.append(tuple(value))
    await connection.execute_many(_SQLITE[table], values)


def _build_postgres(table: Table, record: type) -> Any:
    """Build the statement that inserts the rows of a JSON array of objects."""
    columns = [table.c[field.name] for field in fields(record)]
    given = func.json_to_recordset(cast(bindparam("data", type_=Text), postgresql.JSON))
    recordset = given.table_valued(*(column(c.name, c.type) for c in columns))
    source = recordset.render_derived(with_types=True)
    statement = postgresql.insert(table).from_select(
        [c.name for c in columns], select(*(source.c[c.name] for c in columns))
    )
    if record is UsageEntry:
        return statement
    added = {name: table.c[name] + statement.excluded[name] for name in SUMS}
    return statement.on_conflict_do_update(index_elements=table.primary_key.columns, set_=added)


def _build_sqlite(table: Table, record: type) -> str:
    names = [field.name for field in fields(record)]
    marks = ", ".join("?" * len(names))
    columns = ", ".join(f'"{name}"' for name in names)
    statement = f"INSERT INTO {table.name} ({columns}) VALUES ({marks})"  # noqa: S608  # our names
    if record is UsageEntry:
        return statement
    key = ", ".join(f'"{c.name}"' for c in table.primary_key.columns)
    added = ", ".join(f"{name} = {name} + excluded.{name}" for name in SUMS)
    return f"{statement} ON CONFLICT ({key}) DO UPDATE SET {added}"


_RECORDS: Final = {
    tables.USAGE_ENTRIES: UsageEntry,
    tables.USAGE_MINUTES: Bucket,
    tables.USAGE_HOURS: Bucket,
    tables.USAGE_DAYS: Bucket,
}
_POSTGRES: Final = {table: _build_postgres(table, record) for table, record in _RECORDS.items()}
_SQLITE: Final = {table: _build_sqlite(table, record) for table, record in _RECORDS.items()}
