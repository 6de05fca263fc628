"""Limits and budgets in SQLite or PostgreSQL.

Each change of a limit gets a revision, in the order of the commits, so that gateways read only the
scopes that have changed since their last read.
"""

from collections.abc import Sequence
from typing import Any, Final, TypeVar

from sqlalchemy import delete, func, insert, select, tuple_, update
from typing_extensions import override

from maxgate.stores import tables
from maxgate.stores.database import Connection, Database
from maxgate.stores.identity_rows import Kind, SqlRows, next_revision
from maxgate.stores.limits import (
    Claim,
    LimitChanges,
    LimitStore,
    ScopeKey,
    SpendAlert,
    StoredLimit,
)

MAX_CHANGES: Final = 10_000
"""Changes that are remembered; a gateway that has missed more reads all limits."""
ALERT_RETENTION: Final = 40 * 86_400
"""Seconds for which a sent alert is remembered: more than the longest window that begins anew."""

_MAX_SCOPES: Final = 1000
_LOCK: Final = 0x6D617867_61746531  # of this purpose, in the whole database server
LIMITS: Final = Kind(tables.LIMITS, StoredLimit, ("project_id", "id"))
SPEND_ALERTS: Final = Kind(tables.SPEND_ALERTS, SpendAlert, ("project_id", "id"))
Item = TypeVar("Item", bound=StoredLimit | SpendAlert)


class SqlLimitRows(SqlRows[Item]):
    """Limits or alerts, whose changes are noted for the gateways that have them in memory."""

    @override
    async def delete(self, *key: str) -> bool:
        row = await self.find(*key)
        deleted = await super().delete(*key)
        if deleted and row is not None:
            await self._save_parts(row)
        return deleted

    @override
    async def _save_parts(self, row: Item) -> None:
        if self._connection.is_postgres:
            # Revisions in the order of the commits; SQLite has one writer anyway.
            await self._connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
        table = tables.LIMIT_CHANGES
        kind, scope_id = row.scope_key
        values = {"revision": next_revision(table), "scope": kind, "scope_id": scope_id}
        await self._connection.execute(insert(table).values(values))
        newest = select(func.max(table.c.revision)).scalar_subquery()
        await self._connection.execute(
            delete(table).where(table.c.revision <= newest - MAX_CHANGES)
        )


class SqlLimitStore(LimitStore):
    """The store in either database, with the connections of the identities."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @override
    async def read_changes(self, since: int | None) -> LimitChanges:
        changes = tables.LIMIT_CHANGES.c
        async with self._database.begin(read_only=True) as connection:
            ends = select(func.min(changes.revision), func.max(changes.revision))
            row: Any = (await connection.execute(ends)).one()
            oldest, newest = row
            if newest is None:
                oldest, newest = 1, 0
            if since == newest:
                return LimitChanges(newest, scopes=())
            scopes: list[ScopeKey] | None = None
            # A database that was restored from a backup may have an older revision.
            if since is not None and oldest - 1 <= since < newest:
                query = select(changes.scope, changes.scope_id).distinct()
                found = await connection.execute(query.where(changes.revision > since))
                scopes = [ScopeKey(*row) for row in found]
            if scopes is not None and len(scopes) > _MAX_SCOPES:
                scopes = None
            return LimitChanges(
                newest,
                scopes,
                await _read_limits(connection, scopes),
                await _read_alerts(connection, scopes),
            )

    @override
    async def claim_alert(self, alert_id: str, now: int, lease: int) -> Claim:
        table = tables.SENT_ALERTS
        async with self._database.begin() as connection:
            if connection.is_postgres:
                await connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
            is_old = table.c.claimed_at < now - ALERT_RETENTION
            await connection.execute(delete(table).where(is_old, ~table.c.is_lasting))
            row = (await connection.execute(select(table).where(table.c.id == alert_id))).first()
            values = {"id": alert_id, "claimed_at": now, "sent_at": None}
            if row is None:
                is_lasting = "/total/" in alert_id
                await connection.execute(insert(table).values(**values, is_lasting=is_lasting))
            elif row.sent_at is not None:
                return "sent"
            elif row.claimed_at > now - lease:
                return "busy"
            else:
                await connection.execute(
                    update(table).where(table.c.id == alert_id).values(claimed_at=now)
                )
        return "own"

    @override
    async def finish_alert(self, alert_id: str, now: int) -> None:
        table = tables.SENT_ALERTS
        async with self._database.begin() as connection:
            await connection.execute(
                update(table).where(table.c.id == alert_id).values(sent_at=now)
            )


async def _read_limits(
    connection: Connection, scopes: Sequence[ScopeKey] | None
) -> list[StoredLimit]:
    table = tables.LIMITS
    query = select(table).order_by(table.c.position, table.c.id)
    if scopes is not None:
        query = query.where(tuple_(table.c.scope, table.c.scope_id).in_(scopes))
    return [LIMITS.decode(dict(row)) for row in (await connection.execute(query)).mappings()]


async def _read_alerts(
    connection: Connection, scopes: Sequence[ScopeKey] | None
) -> list[SpendAlert]:
    table = tables.SPEND_ALERTS
    query = select(table).order_by(table.c.position, table.c.id)
    if scopes is not None:
        projects = [scope.id for scope in scopes if scope.kind in {"project", "organization"}]
        query = query.where(table.c.project_id.in_(projects))
    return [SPEND_ALERTS.decode(dict(row)) for row in (await connection.execute(query)).mappings()]
