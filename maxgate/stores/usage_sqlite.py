"""Rows of the ledger in SQLite, as values of many rows at once.

SQLAlchemy would process each value of each row, which takes more time than the database.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cache
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any, Final, TypeAlias

import orjson
from sqlalchemy import Table
from typing_extensions import override

from maxgate.stores import tables
from maxgate.stores.database import Connection
from maxgate.stores.usage import WIDTH_SECONDS, Bucket, EntryGroup, UsageBatch
from maxgate.stores.usage_rows import (
    BUCKETS,
    DEFAULTS,
    MAX_COUNT,
    ROW,
    SUMS,
    TOKENS,
    UsageRows,
)

_ENTRY: Final = ("spool", *ROW)
_REQUIRED: Final = len(ROW) - len(DEFAULTS)
_TOKENS: Final = slice(ROW.index(TOKENS[0]), ROW.index(TOKENS[-1]) + 1)
_STREAM, _CACHED = ROW.index("is_stream"), ROW.index("is_cached")
_AT_ONCE: Final = 100
"""Rows of one statement."""
_find_values: Final = itemgetter(
    *map(
        ROW.index,
        (
            *("project_id", "finished_at", "kind", "user_id", "api_key_id", "model"),
            *("attempts", "is_cached", *SUMS[1:]),
        ),
    )
)
_BUCKET: Final = tuple(field.name for field in fields(Bucket))
_list_values = attrgetter(*_BUCKET)  # `astuple` copies each value

_BucketKey: TypeAlias = tuple[str, int, str, str, str, str]
"""Project, number of the interval since 1970, kind, user, key and model."""
_BucketSums: TypeAlias = Mapping[_BucketKey, Sequence[Any]]
"""The values of SUMS."""

# sqlite3 binds int, float and str at once. For each None, it would look for an adapter, and then
# for attributes that do not exist.
sqlite3.register_adapter(type(None), lambda none: none)


class SqliteRows(UsageRows):
    """The rows of a batch.

    Raises ValueError, TypeError or LookupError for a row that is none of an entry.
    """

    def __init__(self, batch: UsageBatch) -> None:
        self._minutes: dict[_BucketKey, list[Any]] = {}
        values: list[Any] = []
        for row in _read_rows(batch.groups):
            self._add(row)
            row[_STREAM], row[_CACHED] = +row[_STREAM], +row[_CACHED]  # 0 and 1
            # Most requests have neither.
            row[-2] = orjson.dumps(row[-2]).decode() if row[-2] else "{}"
            row[-1] = orjson.dumps(row[-1]).decode() if row[-1] else "[]"
            values.append(batch.spool)
            values += row
        length = _AT_ONCE * len(_ENTRY)
        self._statements = [
            tuple(values[start : start + length]) for start in range(0, len(values), length)
        ]

    @override
    async def insert(self, connection: Connection) -> None:
        for length, statements in groupby(self._statements, len):
            statement = _insert(tables.USAGE_ENTRIES, _ENTRY, length // len(_ENTRY))
            await connection.execute_many(statement, list(statements))
        for table, rows in _list_buckets(self._minutes):
            if rows:
                await connection.execute_many(_ADD[table], rows)

    def _add(self, row: Sequence[Any]) -> None:
        """Add a row to the sums of its minute."""
        project, time, kind, user, key, model, attempts, is_cached, *sums = _find_values(row)
        minute = int(time // 60)
        if not (attempts or is_cached):
            return
        place = (project, minute, kind, user, key, model)
        found = self._minutes.get(place)
        if found is None:
            found = self._minutes[place] = [0, 0, 0, 0, 0.0]
        prompt, cached, completion, gpu_seconds = sums
        found[0] += 1
        found[1] += prompt
        found[2] += cached
        found[3] += completion
        found[4] += gpu_seconds


def _read_rows(groups: Sequence[EntryGroup]) -> Iterator[list[Any]]:
    """Yield the rows of groups, with all fields."""
    prompt, cached, completion = range(_TOKENS.start, _TOKENS.stop)
    # One group after the other: thousands of lists would cost the time of the garbage collector.
    for group in groups:
        for row in orjson.loads(group.rows):
            if len(row) != len(ROW):
                _complete(row)
            if max(row[prompt], row[cached], row[completion]) > MAX_COUNT:
                row[_TOKENS] = [min(count, MAX_COUNT) for count in row[_TOKENS]]
            yield row


def _complete(row: list[Any]) -> None:
    """Give a row all fields; raises ValueError if it lacks required ones."""
    length = len(row)
    if length < _REQUIRED:
        raise ValueError(f"a row of usage has {length} values, less than {_REQUIRED}")
    row[:] = [*row, *list(DEFAULTS.values())[length - _REQUIRED :]][: len(ROW)]


def _list_buckets(minutes: _BucketSums) -> Iterator[tuple[Table, list[tuple[Any, ...]]]]:
    """Yield the rows to add to each table."""
    narrow = _sort(minutes, WIDTH_SECONDS["1m"])
    for width, table in BUCKETS.items():
        yield table, [_list_values(bucket) for bucket in _widen(narrow, WIDTH_SECONDS[width])]


def _widen(buckets: Sequence[Bucket], seconds: int) -> list[Bucket]:
    """Sum buckets of minutes to wider ones."""
    sums: dict[_BucketKey, list[Any]] = {}
    for bucket in buckets:
        start, kind, project, user, key, model, *values = _list_values(bucket)
        place = (project, start // seconds, kind, user, key, model)
        found = sums.setdefault(place, [0, 0, 0, 0, 0.0])
        for at, value in enumerate(values):
            found[at] += value
    return _sort(sums, seconds)


def _sort(sums: _BucketSums, seconds: int) -> list[Bucket]:
    return [
        Bucket(number * seconds, kind, project, user, key, model, *values)  # type: ignore[arg-type]
        for (project, number, kind, user, key, model), values in sorted(sums.items())
    ]


@cache
def _insert(table: Table, names: tuple[str, ...], rows: int = 1) -> str:
    columns = ", ".join(f'"{name}"' for name in names)
    marks = f"({', '.join('?' * len(names))})"
    values = ", ".join([marks] * rows)
    return f"INSERT INTO {table.name} ({columns}) VALUES {values}"  # noqa: S608  # our names


def _add_to(table: Table) -> str:
    key = ", ".join(f'"{column.name}"' for column in table.primary_key.columns)
    added = ", ".join(f"{name} = {name} + excluded.{name}" for name in SUMS)
    return f"{_insert(table, _BUCKET)} ON CONFLICT ({key}) DO UPDATE SET {added}"


_ADD: Final[Mapping[Table, str]] = {table: _add_to(table) for table in BUCKETS.values()}
