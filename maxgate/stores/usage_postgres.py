"""Rows of the ledger in PostgreSQL, which reads and sums them itself, in one statement.

In the gateway, both would take CPU time from requests, and so would further statements.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Numeric,
    Select,
    Table,
    Text,
    bindparam,
    cast,
    collate,
    column,
    func,
    literal_column,
    or_,
    select,
)
from sqlalchemy.dialects import postgresql
from typing_extensions import override

from maxgate.stores import tables
from maxgate.stores.database import Connection
from maxgate.stores.usage import WIDTH_SECONDS, UsageBatch
from maxgate.stores.usage_rows import (
    BUCKETS,
    DEFAULTS,
    MAX_COUNT,
    ROW,
    SUMS,
    TOKENS,
    UsageRows,
)

_NUL: Final = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
_KEY: Final = ("kind", "user_id", "api_key_id", "model")
"""Columns of a bucket's key, after its project and its start."""
_KEY_PLACES: Final[Sequence[ColumnElement[Any]]] = [
    literal_column(str(at + 1)) for at in range(2 + len(_KEY))
]
"""Positions of the columns of a key, which are the first ones."""


class PostgresRows(UsageRows):
    """The groups of a batch, as one JSON array of rows."""

    def __init__(self, batch: UsageBatch) -> None:
        self._spool = batch.spool
        self._data = _encode(b"[%b]" % b",".join([group.rows[1:-1] for group in batch.groups]))

    @override
    async def insert(self, connection: Connection) -> None:
        await connection.execute(_INSERT, {"data": self._data, "spool": self._spool})


def _encode(data: bytes) -> str:
    if b"\\" in data:  # which is found faster than the whole escape sequence
        # A NUL, which PostgreSQL cannot store, would stop all lines behind it.
        data = _NUL.sub(rb"\1\\ufffd", data)
    return data.decode()


def _read_rows() -> Mapping[str, ColumnElement[Any]]:
    """Return the columns of the entries that are in the JSON array `data`.

    Positions and defaults are part of the text: as parameters, they would be bound for each batch.
    """
    given = func.jsonb_array_elements(cast(bindparam("data", type_=Text), postgresql.JSONB))
    row = given.table_valued(column("value", postgresql.JSONB)).render_derived().c.value
    values: dict[str, ColumnElement[Any]] = {"spool": bindparam("spool", type_=Text)}
    for at, name in enumerate(ROW):
        value: ColumnElement[Any] = row.op("->>")(literal_column(str(at)))
        if name in DEFAULTS:
            default = DEFAULTS[name]
            plain = default if isinstance(default, str) else orjson.dumps(default).decode()
            value = func.coalesce(value, literal_column(f"'{plain}'", Text))
        elif name in TOKENS:
            value = func.least(cast(value, Numeric), literal_column(str(MAX_COUNT), BigInteger))
        values[name] = cast(value, tables.USAGE_ENTRIES.c[name].type)
    return values


def _sum_minutes(added: CTE) -> Select[Any]:
    """Select the sums of each minute of these entries, with the columns of a bucket."""
    start = _find_start(added.c.finished_at, WIDTH_SECONDS["1m"])
    sums = [func.count().label(SUMS[0]), *[_sum(added, name) for name in SUMS[1:]]]
    rows = select(*_select_key(added, start), *sums).group_by(*_KEY_PLACES)
    return rows.where(or_(added.c.attempts != literal_column("0"), added.c.is_cached))


def _add_to(table: Table, minutes: CTE, seconds: int) -> postgresql.Insert:
    """Add the sums of minutes to the buckets of a table, in the order of its key.

    Gateways that add to the same buckets lock them in this order. That of earlier versions is the
    order of code points, too.
    """
    key = _select_key(minutes, _find_start(minutes.c.start, seconds))
    rows = select(*key, *[_sum(minutes, name) for name in SUMS]).group_by(*_KEY_PLACES)
    project, *others = [collate(minutes.c[name], "C") for name in ("project_id", *_KEY)]
    rows = rows.order_by(project, _KEY_PLACES[1], *others)
    insert = postgresql.insert(table).from_select(["project_id", "start", *_KEY, *SUMS], rows)
    added = {name: table.c[name] + insert.excluded[name] for name in SUMS}
    return insert.on_conflict_do_update(index_elements=table.primary_key.columns, set_=added)


def _find_start(time: ColumnElement[Any], seconds: int) -> ColumnElement[Any]:
    width = literal_column(str(seconds), BigInteger)
    return cast(func.floor(time / width), BigInteger) * width


def _select_key(rows: CTE, start: ColumnElement[Any]) -> list[ColumnElement[Any]]:
    return [rows.c.project_id, start.label("start"), *[rows.c[name] for name in _KEY]]


def _sum(rows: CTE, name: str) -> ColumnElement[Any]:
    return cast(func.sum(rows.c[name]), tables.USAGE_MINUTES.c[name].type).label(name)


def _insert_rows() -> Select[Any]:
    """Build the statement that inserts rows, and adds them to the buckets of each width."""
    entries, values = tables.USAGE_ENTRIES, _read_rows()
    insert = postgresql.insert(entries).from_select([*values], select(*values.values()))
    needed = ("project_id", "finished_at", *_KEY, "attempts", "is_cached", *SUMS[1:])
    added = insert.returning(*[entries.c[name] for name in needed]).cte("added")
    minutes = _sum_minutes(added).cte("minutes")
    # PostgreSQL runs the last part first. Earlier versions lock minutes, hours, and then days.
    parts = [
        _add_to(table, minutes, WIDTH_SECONDS[width]).cte(f"added_{width}")
        for width, table in reversed(list(BUCKETS.items()))
    ]
    return select(literal_column("1")).add_cte(*parts)


_INSERT: Final = _insert_rows()
