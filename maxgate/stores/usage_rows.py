"""Rows of the ledger: entries and sums as values of their tables, and inserts of many at once.

SQLAlchemy would process each value of each row, which takes more time than the database.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, fields
from operator import itemgetter
from typing import Any, Final, TypeAlias

import orjson
from sqlalchemy import (
    ColumnElement,
    Integer,
    Table,
    Text,
    bindparam,
    cast,
    column,
    func,
    literal,
    select,
)
from sqlalchemy.dialects import postgresql

from maxgate.stores import tables
from maxgate.stores.database import Connection
from maxgate.stores.usage import WIDTH_SECONDS, Bucket, UsageBatch, UsageEntry, Width

SUMS: Final = ("requests", "input_tokens", "cached_tokens", "output_tokens", "gpu_seconds")
"""Columns of a bucket that are added up."""
BUCKETS: Final[Mapping[Width, Table]] = {
    "1m": tables.USAGE_MINUTES,
    "1h": tables.USAGE_HOURS,
    "1d": tables.USAGE_DAYS,
}

_ENTRY: Final = [field.name for field in fields(UsageEntry)]
_ROW: Final = _ENTRY[1:]
_BUCKET: Final = [field.name for field in fields(Bucket)]
_NUL: Final = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
_BucketKey: TypeAlias = tuple[str, int, str, str, str, str]
_find_values: Final = itemgetter(
    *map(
        _ROW.index,
        (
            *("project_id", "finished_at", "kind", "user_id", "api_key_id", "model"),
            *("attempts", "is_cached", *SUMS[1:]),
        ),
    )
)


def sum_rows(rows: Sequence[Sequence[Any]]) -> list[Bucket]:
    """Sum rows of entries per minute and all dimensions, in the order of the tables' keys.

    Two gateways that add to the same rows lock them in this order. Requests that no engine worked
    on are left out, unless their response came from a cache.
    """
    sums: dict[_BucketKey, list[Any]] = {}
    for values in map(_find_values, rows):
        project, time, kind, user, key, model, attempts, is_cached, *tokens, gpu_seconds = values
        if not (attempts or is_cached):
            continue
        place = (project, int(time // 60), kind, user, key, model)
        found = sums.get(place)
        if found is None:
            found = sums[place] = [0, 0, 0, 0, 0.0]
        found[0] += 1
        found[1] += tokens[0]
        found[2] += tokens[1]
        found[3] += tokens[2]
        found[4] += gpu_seconds
    return _sort(sums, WIDTH_SECONDS["1m"])


def widen_buckets(buckets: Sequence[Bucket], seconds: int) -> list[Bucket]:
    """Sum buckets of minutes to wider ones."""
    sums: dict[_BucketKey, list[Any]] = {}
    for bucket in buckets:
        start, kind, project, user, key, model, *values = astuple(bucket)
        place = (project, start // seconds, kind, user, key, model)
        found = sums.setdefault(place, [0, 0, 0, 0, 0.0])
        for at, value in enumerate(values):
            found[at] += value
    return _sort(sums, seconds)


def _sort(sums: Mapping[_BucketKey, Sequence[Any]], seconds: int) -> list[Bucket]:
    return [
        Bucket(number * seconds, kind, project, user, key, model, *values)  # type: ignore[arg-type]
        for (project, number, kind, user, key, model), values in sorted(sums.items())
    ]


async def insert_batch(connection: Connection, batch: UsageBatch) -> None:
    """Insert entries, and add them to the buckets."""
    minutes = sum_rows(batch.rows)
    if connection.is_postgres:
        await _insert_json(connection, tables.USAGE_ENTRIES, batch.rows, spool=batch.spool)
    else:
        rows = [(batch.spool, *row[:-2], _encode(row[-2]), _encode(row[-1])) for row in batch.rows]
        await connection.execute_many(_SQLITE[tables.USAGE_ENTRIES], rows)
    for width, table in BUCKETS.items():
        buckets = map(astuple, widen_buckets(minutes, WIDTH_SECONDS[width]))
        if connection.is_postgres:
            await _insert_json(connection, table, list(buckets))
        elif minutes:
            await connection.execute_many(_SQLITE[table], list(buckets))


def _encode(value: Any) -> str:
    """Encode tags or decisions; most requests have none."""
    if not value:
        return "{}" if isinstance(value, dict) else "[]"
    return orjson.dumps(value).decode()


async def _insert_json(
    connection: Connection, table: Table, rows: Sequence[Sequence[Any]], **constants: str
) -> None:
    data = orjson.dumps(rows)
    if b"\\u0000" in data:
        # A NUL, which PostgreSQL cannot store, would stop all lines behind it.
        data = _NUL.sub(rb"\1\\ufffd", data)
    await connection.execute(_POSTGRES[table], {"data": data.decode(), **constants})


def _build_postgres(table: Table, names: Sequence[str], *constants: str) -> postgresql.Insert:
    """Build the statement that inserts the rows of a JSON array of arrays."""
    given = func.jsonb_array_elements(cast(bindparam("data", type_=Text), postgresql.JSONB))
    row = given.table_valued(column("value", postgresql.JSONB)).render_derived().c.value
    values: list[ColumnElement[Any]] = [bindparam(name, type_=Text) for name in constants]
    values += [
        cast(row.op("->>")(literal(at, Integer, literal_execute=True)), table.c[name].type)
        for at, name in enumerate(names)
    ]
    return postgresql.insert(table).from_select([*constants, *names], select(*values))


def _add_postgres(table: Table) -> postgresql.Insert:
    statement = _build_postgres(table, _BUCKET)
    added = {name: table.c[name] + statement.excluded[name] for name in SUMS}
    return statement.on_conflict_do_update(index_elements=table.primary_key.columns, set_=added)


def _build_sqlite(table: Table, names: Iterable[str]) -> str:
    columns = [f'"{name}"' for name in names]
    marks = ", ".join("?" * len(columns))
    return f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608  # our names


def _add_sqlite(table: Table) -> str:
    key = ", ".join(f'"{column.name}"' for column in table.primary_key.columns)
    added = ", ".join(f"{name} = {name} + excluded.{name}" for name in SUMS)
    return f"{_build_sqlite(table, _BUCKET)} ON CONFLICT ({key}) DO UPDATE SET {added}"


_POSTGRES: Final[Mapping[Table, postgresql.Insert]] = {
    tables.USAGE_ENTRIES: _build_postgres(tables.USAGE_ENTRIES, _ROW, "spool"),
    **{table: _add_postgres(table) for table in BUCKETS.values()},
}
_SQLITE: Final[Mapping[Table, str]] = {
    tables.USAGE_ENTRIES: _build_sqlite(tables.USAGE_ENTRIES, _ENTRY),
    **{table: _add_sqlite(table) for table in BUCKETS.values()},
}
