"""Rows of the ledger: entries and sums as values of their tables, and inserts of many at once.

SQLAlchemy would process each value of each row, which takes more time than the database.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cache
from itertools import groupby
from operator import attrgetter, itemgetter
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

MAX_COUNT: Final = 2**40
"""Larger numbers from a faulty engine are cut: their sums would not fit into the database."""

_FIELDS: Final = fields(UsageEntry)[1:]
_ENTRY: Final = ("spool", *(field.name for field in _FIELDS))
_ROW: Final = [field.name for field in _FIELDS]
_DEFAULTS: Final[tuple[Any, ...]] = ("default", {}, [])
"""Values of the last fields, which lines of earlier versions lack."""
_REQUIRED: Final = len(_ROW) - len(_DEFAULTS)
_TOKENS: Final = slice(_ROW.index("input_tokens"), _ROW.index("output_tokens") + 1)
_BUCKET: Final = tuple(field.name for field in fields(Bucket))
_list_values = attrgetter(*_BUCKET)  # `astuple` copies each value
_NUL: Final = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
_AT_ONCE: Final = 100
"""Rows of one statement of SQLite."""
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


class UsageRows:
    """The rows of a batch: their sums per minute, days, and values for either database.

    Rows are read a hundred at a time, because thousands of lists would cost the time of the garbage
    collector. Raises ValueError, TypeError or LookupError for a line that is none of an entry.
    """

    def __init__(self, batch: UsageBatch, *, is_postgres: bool) -> None:
        self.spool = batch.spool
        self.minutes: list[Bucket] = []
        self.days: set[int] = set()
        self.statements: list[tuple[Any, ...]] = []
        self.json = b""
        self._sums: dict[_BucketKey, list[Any]] = {}
        if is_postgres:
            self._read_for_postgres(batch)
        else:
            self._read_for_sqlite(batch)
        self.minutes = _sort(self._sums, WIDTH_SECONDS["1m"])

    def _read_for_postgres(self, batch: UsageBatch) -> None:
        lines = list(batch.lines)
        for at, (row, is_changed) in enumerate(_read_rows(batch.lines)):
            if is_changed:
                lines[at] = orjson.dumps(row)
            self._add(row)
        self.json = b"[%b]" % b",".join(lines)

    def _read_for_sqlite(self, batch: UsageBatch) -> None:
        spool, values = batch.spool, list[Any]()
        for row, _ in _read_rows(batch.lines):
            self._add(row)
            # Most requests have neither.
            row[-2] = orjson.dumps(row[-2]).decode() if row[-2] else "{}"
            row[-1] = orjson.dumps(row[-1]).decode() if row[-1] else "[]"
            values.append(spool)
            values += row
        length = _AT_ONCE * len(_ENTRY)
        self.statements = [
            tuple(values[start : start + length]) for start in range(0, len(values), length)
        ]

    def _add(self, row: Sequence[Any]) -> None:
        """Add a row to the sums of its minute.

        Requests that no engine worked on are left out, unless their response came from a cache.
        """
        project, time, kind, user, key, model, attempts, is_cached, *sums = _find_values(row)
        minute = int(time // 60)
        self.days.add(minute // 1440)
        if not (attempts or is_cached):
            return
        place = (project, minute, kind, user, key, model)
        found = self._sums.get(place)
        if found is None:
            found = self._sums[place] = [0, 0, 0, 0, 0.0]
        prompt, cached, completion, gpu_seconds = sums
        found[0] += 1
        found[1] += prompt
        found[2] += cached
        found[3] += completion
        found[4] += gpu_seconds


def _read_rows(lines: Sequence[bytes]) -> Iterator[tuple[list[Any], bool]]:
    """Yield the rows of lines, with all fields, and whether they differ from the lines."""
    prompt, cached, completion = range(_TOKENS.start, _TOKENS.stop)
    for start in range(0, len(lines), _AT_ONCE):
        for row in orjson.loads(b"[%b]" % b",".join(lines[start : start + _AT_ONCE])):
            tokens = max(row[prompt], row[cached], row[completion])
            if len(row) == len(_ROW) and tokens <= MAX_COUNT:
                yield row, False
            else:
                yield row, _complete(row)


def _complete(row: list[Any]) -> bool:
    """Give a row all fields, and cut numbers that are too large; returns whether it changed.

    Raises ValueError if it lacks required fields.
    """
    length = len(row)
    if length != len(_ROW):
        if length < _REQUIRED:
            raise ValueError(f"a line of usage has {length} values, less than {_REQUIRED}")
        row[:] = [*row, *_DEFAULTS[length - _REQUIRED :]][: len(_ROW)]
    tokens = row[_TOKENS]
    if max(tokens) > MAX_COUNT:
        row[_TOKENS] = [min(count, MAX_COUNT) for count in tokens]
        return True
    return length != len(_ROW)


def widen_buckets(buckets: Sequence[Bucket], seconds: int) -> list[Bucket]:
    """Sum buckets of minutes to wider ones."""
    sums: dict[_BucketKey, list[Any]] = {}
    for bucket in buckets:
        start, kind, project, user, key, model, *values = _list_values(bucket)
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


async def insert_rows(connection: Connection, rows: UsageRows) -> None:
    """Insert entries, and add them to the buckets in the order of the tables' keys.

    Two gateways that add to the same buckets lock them in this order.
    """
    if connection.is_postgres:
        await _insert_json(connection, tables.USAGE_ENTRIES, rows.json, spool=rows.spool)
    else:
        for length, statements in groupby(rows.statements, len):
            statement = _build_sqlite(tables.USAGE_ENTRIES, _ENTRY, length // len(_ENTRY))
            await connection.execute_many(statement, list(statements))
    for width, table in BUCKETS.items():
        buckets = [_list_values(b) for b in widen_buckets(rows.minutes, WIDTH_SECONDS[width])]
        if connection.is_postgres:
            await _insert_json(connection, table, orjson.dumps(buckets))
        elif buckets:
            await connection.execute_many(_SQLITE[table], buckets)


async def _insert_json(connection: Connection, table: Table, data: bytes, **constants: str) -> None:
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


@cache
def _build_sqlite(table: Table, names: tuple[str, ...], rows: int = 1) -> str:
    columns = ", ".join(f'"{name}"' for name in names)
    marks = f"({', '.join('?' * len(names))})"
    values = ", ".join([marks] * rows)
    return f"INSERT INTO {table.name} ({columns}) VALUES {values}"  # noqa: S608  # our names


def _add_sqlite(table: Table) -> str:
    key = ", ".join(f'"{column.name}"' for column in table.primary_key.columns)
    added = ", ".join(f"{name} = {name} + excluded.{name}" for name in SUMS)
    return f"{_build_sqlite(table, _BUCKET)} ON CONFLICT ({key}) DO UPDATE SET {added}"


_POSTGRES: Final[Mapping[Table, postgresql.Insert]] = {
    tables.USAGE_ENTRIES: _build_postgres(tables.USAGE_ENTRIES, _ROW, "spool"),
    **{table: _add_postgres(table) for table in BUCKETS.values()},
}
_SQLITE: Final[Mapping[Table, str]] = {table: _add_sqlite(table) for table in BUCKETS.values()}
