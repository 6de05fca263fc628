"""The rows of one kind in a table of the database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final, Generic, Protocol, TypeVar

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    Table,
    and_,
    delete,
    func,
    insert,
    literal,
    select,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.exc import IntegrityError
from typing_extensions import override

from maxgate.clock import Clock
from maxgate.stores import tables
from maxgate.stores.database import Connection, is_foreign_key_error
from maxgate.stores.identity import (
    AdminKey,
    AlreadyExists,
    ApiKey,
    Listing,
    ModelPermissions,
    Page,
    Project,
    ProjectUser,
    Rows,
    ServiceAccount,
    UnknownCursor,
    User,
    VersionConflict,
)


class _Record(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


Item = TypeVar("Item", bound=_Record)

DELETED_SECONDS: Final = 7 * 86_400
"""Time for which a list goes on after a deleted row."""

_MAX_FORGOTTEN: Final = 100
_DELETED: Final = tables.DELETED_ROWS


@dataclass(frozen=True, slots=True)
class Kind(Generic[Item]):
    """A kind of rows: its table, whose columns have the names of the record's fields.

    `key` are the columns that name a row; the last one is the id in lists.
    """

    table: Table
    record: type[Item]
    key: tuple[str, ...]

    def decode(self, row: Mapping[str, Any]) -> Item:
        """Return the record of a row, which may have further columns."""
        values = {field.name: row[field.name] for field in fields(self.record)}
        return self.record(**{n: tuple(v) if type(v) is list else v for n, v in values.items()})

    def encode(self, record: Item) -> dict[str, Any]:
        """Return the columns of a record."""
        values = {field.name: getattr(record, field.name) for field in fields(self.record)}
        if isinstance(record, User):
            values["email_folded"] = record.email.casefold()
        return values

    def match(self, key: Sequence[str]) -> ColumnElement[bool]:
        """Return the condition for the row with this key."""
        pairs = zip(self.key, key, strict=True)
        return and_(*(self.table.c[name] == value for name, value in pairs))


PROJECTS: Final = Kind(tables.PROJECTS, Project, ("id",))
USERS: Final = Kind(tables.USERS, User, ("id",))
PROJECT_USERS: Final = Kind(tables.PROJECT_USERS, ProjectUser, ("project_id", "user_id"))
SERVICE_ACCOUNTS: Final = Kind(tables.SERVICE_ACCOUNTS, ServiceAccount, ("project_id", "id"))
API_KEYS: Final = Kind(tables.API_KEYS, ApiKey, ("project_id", "id"))
ADMIN_KEYS: Final = Kind(tables.ADMIN_KEYS, AdminKey, ("id",))
MODEL_PERMISSIONS: Final = Kind(tables.MODEL_PERMISSIONS, ModelPermissions, ("project_id",))


def next_position(table: Table) -> ColumnElement[int]:
    """Return the position after the last row of a table, deleted ones included."""
    deleted = _DELETED.c
    last = union_all(
        select(func.max(table.c.position).label("position")),
        select(func.max(deleted.position)).where(deleted.table_name == table.name),
    ).subquery()
    return select(func.coalesce(func.max(last.c.position), 0) + 1).scalar_subquery()


def next_revision(table: Table) -> ColumnElement[int]:
    """Return the revision after the last one of a table."""
    return select(func.coalesce(func.max(table.c.revision), 0) + 1).scalar_subquery()


async def list_rows(
    connection: Connection,
    query: Select[Any],
    page: Page,
    table: Table,
    id_column: str,
    cursors: Sequence[Select[Any]],
) -> tuple[list[Row[Any]], bool]:
    """Return the rows of a page in its order, and whether more follow; raises UnknownCursor.

    Of a page with `before`, they are the last ones before it. `cursors` select ids and positions
    that the page may begin or end at, the first one that has the id counts. They need not be in the
    list: a client that archives or deletes the rows of a page goes on after the last one of them.
    """
    place = tuple_(table.c.position, table.c[id_column])
    is_backward = page.after is None and page.before is not None
    for cursor, is_lower_bound in ((page.after, True), (page.before, False)):
        if cursor is None:
            continue
        mark = await _find_place(connection, cursors, cursor)
        ascends = is_lower_bound == (page.order == "asc")
        query = query.where(place > mark if ascends else place < mark)
    ascending = (page.order == "asc") != is_backward
    steps = [table.c.position, table.c[id_column]]
    query = query.order_by(*(step.asc() if ascending else step.desc() for step in steps))
    rows = list(await connection.execute(query.limit(page.limit + 1)))
    found = rows[: page.limit]
    return (found[::-1] if is_backward else found), len(rows) > page.limit


async def _find_place(connection: Connection, cursors: Sequence[Select[Any]], cursor: str) -> Any:
    for query in cursors if not _has_nul(cursor) else ():
        found = await connection.execute(query.where(query.selected_columns[0] == cursor).limit(1))
        row = found.mappings().first()
        if row is not None:
            return tuple_(literal(row["position"]), literal(cursor))
    raise UnknownCursor(f"no item has the id {cursor!r}")


class SqlRows(Rows[Item]):
    """Rows of one kind, as one transaction sees them."""

    def __init__(self, connection: Connection, kind: Kind[Item], clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._kind = kind
        self._table = kind.table

    @override
    async def add(self, row: Item) -> None:
        values = self._kind.encode(row) | {"position": next_position(self._table)}
        try:
            async with self._connection.savepoint():
                await self._connection.execute(insert(self._table).values(values))
                await self._save_parts(row)
        except IntegrityError as error:
            raise self._explain(error) from error

    @override
    async def find(self, *key: str) -> Item | None:
        if any(map(_has_nul, key)):
            return None
        query = select(self._table).where(self._kind.match(key))
        row = (await self._connection.execute(query)).mappings().first()
        return None if row is None else self._kind.decode(dict(row))

    @override
    async def list(self, page: Page, **where: str | Sequence[str] | None) -> Listing[Item]:
        if self._kind.key[0] == "project_id" and where.get("project_id") is None:
            raise TypeError("list() needs project_id")
        query = select(self._table)
        rows = select(self._table.c[self._kind.key[-1]], self._table.c.position)
        deleted = select(_DELETED.c.id, _DELETED.c.position).where(
            _DELETED.c.table_name == self._table.name
        )
        for name, value in where.items():
            column, values = self._table.c[name], [value] if isinstance(value, str) else value
            if values is None:
                query = query.where(column.is_(None))
                continue
            texts = [text for text in values if not _has_nul(text)]
            if name == "email":
                column, texts = self._table.c.email_folded, [text.casefold() for text in texts]
            query = query.where(column.in_(texts))
            if name == "project_id":
                rows = rows.where(column.in_(texts))
                deleted = deleted.where(_DELETED.c.project_id.in_(texts))
        found, has_more = await list_rows(
            self._connection, query, page, self._table, self._kind.key[-1], (rows, deleted)
        )
        return Listing([self._kind.decode(dict(row._mapping)) for row in found], has_more)  # noqa: SLF001

    @override
    async def update(self, row: Item) -> Item:
        values = self._kind.encode(row)
        version = values.pop("version")
        values.pop("last_used_at", None)  # touch_keys may have changed it since the row was read
        key = [values.pop(name) for name in self._kind.key]
        changed = (
            update(self._table)
            .where(self._kind.match(key), self._table.c.version == version)
            .values({**values, "version": version + 1})
            .returning(self._table)
        )
        try:
            async with self._connection.savepoint():
                stored = (await self._connection.execute(changed)).mappings().first()
                if stored is not None:
                    await self._save_parts(row)
        except IntegrityError as error:
            raise self._explain(error) from error
        if stored is None:
            raise VersionConflict(f"{self._name(key)} was changed or deleted since it was read")
        return self._kind.decode(dict(stored))

    @override
    async def delete(self, *key: str) -> bool:
        if any(map(_has_nul, key)):
            return False
        condition = self._kind.match(key)
        await self._remember(self._table, self._kind.key[-1], condition)
        if self._table is tables.USERS:  # memberships are deleted with their user
            members = tables.PROJECT_USERS
            await self._remember(members, "user_id", members.c.user_id == key[0])
        result = await self._connection.execute(delete(self._table).where(condition))
        return result.rowcount > 0

    async def _remember(self, table: Table, id_column: str, condition: ColumnElement[bool]) -> None:
        """Remember the positions of rows that are to be deleted, and forget old ones."""
        now = int(self._clock.wall())
        name, old = literal(table.name), now - DELETED_SECONDS
        project = table.c.project_id if "project_id" in table.c else literal("")
        keys = tuple_(*_DELETED.primary_key.columns)
        expired = select(*_DELETED.primary_key.columns).where(_DELETED.c.deleted_at <= old)
        # Locked in advance, so that two transactions do not wait for each other.
        again = select(name, project, table.c[id_column]).where(condition)
        for found in (
            expired.limit(_MAX_FORGOTTEN).with_for_update(skip_locked=True),
            again,  # a member that was added once more
        ):
            await self._connection.execute(delete(_DELETED).where(keys.in_(found)))
        rows = select(name, project, table.c[id_column], table.c.position, literal(now))
        columns = [column.name for column in _DELETED.c]
        locked = rows.where(condition).with_for_update()
        await self._connection.execute(insert(_DELETED).from_select(columns, locked))

    async def _save_parts(self, row: Item) -> None:
        """Save what other tables hold of the row."""

    def _explain(self, error: IntegrityError) -> AlreadyExists | VersionConflict:
        if is_foreign_key_error(error):
            return VersionConflict("a row that this one belongs to was deleted since it was read")
        return AlreadyExists(f"a row of {self._table.name} with this id or value exists")

    def _name(self, key: Sequence[str]) -> str:
        return f"{'/'.join(key)} of {self._table.name}"


class SqlKeys(SqlRows[Item]):
    """Keys of either kind, whose digests are unique among all."""

    @override
    async def _save_parts(self, row: Item) -> None:
        assert isinstance(row, ApiKey | AdminKey)  # noqa: S101
        owner: dict[str, Any] = {"project_id": None, "key_id": None, "admin_key_id": None}
        digests = {row.digest: True}
        if isinstance(row, ApiKey):
            owner |= {"project_id": row.project_id, "key_id": row.id}
            if row.previous_digest is not None:
                digests.setdefault(row.previous_digest, False)
        else:
            owner["admin_key_id"] = row.id
        table = tables.KEY_DIGESTS
        mine = [table.c[name] == value for name, value in owner.items() if value is not None]
        await self._connection.execute(delete(table).where(*mine))
        lines = [{**owner, "digest": d, "is_current": current} for d, current in digests.items()]
        await self._connection.execute(insert(table), lines)


def _has_nul(text: str) -> bool:
    """Return whether PostgreSQL refuses the text, which therefore matches no row."""
    return "\0" in text
