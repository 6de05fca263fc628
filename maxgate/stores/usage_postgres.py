"""Rows of the ledger in PostgreSQL, which reads and sums the lines itself.

In the gateway, both would take CPU time from requests.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Numeric,
    Select,
    Table,
    Text,
    bindparam,
    cast,
    column,
    func,
    literal,
    literal_column,
    or_,
    select,
)
from sqlalchemy.dialects import postgresql
from typing_extensions import override

from maxgate.stores import tables
from maxgate.stores.database import Connection
from maxgate.stores.usage import WIDTH_SECONDS, UsageBatch
from maxgate.stores.usage_partitions import DAY_SECONDS
from maxgate.stores.usage_rows import (
    BUCKET,
    BUCKETS,
    DEFAULTS,
    LINE,
    MAX_COUNT,
    SUMS,
    TOKENS,
    BucketKey,
    UsageRows,
    list_buckets,
)

_NUL: Final = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
_KEY: Final = ("kind", "user_id", "api_key_id", "model")


class PostgresRows(UsageRows):
    """The lines of a batch."""

    def __init__(self, batch: UsageBatch) -> None:
        self._spool = batch.spool
        # The second field of a line is `finished_at`.
        times = {line.split(b",", 2)[1].partition(b".")[0] for line in batch.lines}
        self.days = {int(time) // DAY_SECONDS for time in times}
        self._data = _encode(b"[%b]" % b",".join(batch.lines))

    @override
    async def insert(self, connection: Connection) -> None:
        values = {"data": self._data, "spool": self._spool}
        minutes: dict[BucketKey, Sequence[Any]] = {}
        for row in await connection.execute(_INSERT, values):
            project, minute, kind, user, key, model, *sums = tuple(row)
            minutes[project, minute, kind, user, key, model] = sums
        for table, rows in list_buckets(minutes):
            await connection.execute(_ADD[table], {"data": _encode(orjson.dumps(rows))})


def _encode(data: bytes) -> str:
    if b"\\u0000" in data:
        # A NUL, which PostgreSQL cannot store, would stop all lines behind it.
        data = _NUL.sub(rb"\1\\ufffd", data)
    return data.decode()


def _read(names: Sequence[str]) -> Mapping[str, ColumnElement[Any]]:
    """Return the texts of the values of each array in the JSON array `data`."""
    given = func.jsonb_array_elements(cast(bindparam("data", type_=Text), postgresql.JSONB))
    row = given.table_valued(column("value", postgresql.JSONB)).render_derived().c.value
    return {
        name: row.op("->>")(literal(at, Integer, literal_execute=True))
        for at, name in enumerate(names)
    }


def _insert_lines() -> Select[Any]:
    """Build the statement that inserts lines, and returns the sums of each minute."""
    entries = tables.USAGE_ENTRIES
    values: dict[str, ColumnElement[Any]] = {"spool": bindparam("spool", type_=Text)}
    for name, text in _read(LINE).items():
        value = text
        if name in DEFAULTS:
            default = DEFAULTS[name]
            plain = default if isinstance(default, str) else orjson.dumps(default).decode()
            value = func.coalesce(text, literal(plain, Text, literal_execute=True))
        elif name in TOKENS:
            value = func.least(cast(text, Numeric), literal(MAX_COUNT, BigInteger))
        values[name] = cast(value, entries.c[name].type)
    insert = postgresql.insert(entries).from_select([*values], select(*values.values()))
    needed = ("project_id", "finished_at", *_KEY, "attempts", "is_cached", *SUMS[1:])
    added = insert.returning(*[entries.c[name] for name in needed]).cte("added")
    minute = cast(func.floor(added.c.finished_at / WIDTH_SECONDS["1m"]), BigInteger)
    place = [added.c.project_id, minute, *[added.c[name] for name in _KEY]]
    tokens = [cast(func.sum(added.c[name]), BigInteger) for name in TOKENS]
    return (
        select(*place, func.count(), *tokens, func.sum(added.c.gpu_seconds))
        .where(or_(added.c.attempts != 0, added.c.is_cached))
        .group_by(*[literal_column(str(at + 1)) for at in range(len(place))])
    )


def _add_to(table: Table) -> postgresql.Insert:
    values = [cast(text, table.c[name].type) for name, text in _read(BUCKET).items()]
    insert = postgresql.insert(table).from_select([*BUCKET], select(*values))
    added = {name: table.c[name] + insert.excluded[name] for name in SUMS}
    return insert.on_conflict_do_update(index_elements=table.primary_key.columns, set_=added)


_INSERT: Final = _insert_lines()
_ADD: Final[Mapping[Table, postgresql.Insert]] = {
    table: _add_to(table) for table in BUCKETS.values()
}
