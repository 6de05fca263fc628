"""The organization's identities in SQLite or PostgreSQL."""

import operator
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import structlog
from sqlalchemy import and_, bindparam, case, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from typing_extensions import override

from maxgate.clock import Clock, SystemClock
from maxgate.errors import ConfigurationError
from maxgate.stores import tables
from maxgate.stores.database import Connection, Database
from maxgate.stores.identity import (
    AlreadyExists,
    ApiKey,
    AuditEvent,
    AuditFilter,
    IdempotentRequest,
    IdentityStore,
    IdentityTransaction,
    KeyGrant,
    Listing,
    Page,
    ProjectGrant,
    StoreUnavailable,
)
from maxgate.stores.identity_rows import (
    ADMIN_KEYS,
    API_KEYS,
    MODEL_PERMISSIONS,
    PROJECT_USERS,
    PROJECTS,
    SERVICE_ACCOUNTS,
    USERS,
    SqlKeys,
    SqlRows,
    list_rows,
    next_position,
)
from maxgate.stores.limit_store import LIMITS, SPEND_ALERTS, SqlLimitRows, SqlLimitStore
from maxgate.stores.migrate import prepare_database
from maxgate.stores.settings import DatabaseSettings

REPLAY_SECONDS: Final = 24 * 3600
"""Time for which a request with an Idempotency-Key is remembered."""

_MAX_SECONDS: Final = 2**63 - 1
"""Above all times that the databases can store."""
_log = structlog.get_logger("stores")


def open_identity_store(
    settings: DatabaseSettings,
    state_dir: Path,
    *,
    clock: Clock | None = None,
    check: Callable[[], None] | None = None,
) -> "SqlIdentityStore":
    """Check the schema of the database (SQLite: create or upgrade it), and open the store.

    Blocks meanwhile. `check` reads the database afterwards. If PostgreSQL is unavailable, the store
    works once it is available. Raises SchemaMismatch, and ConfigurationError for a missing driver
    or an unusable file of SQLite.
    """
    try:
        prepare_database(settings, state_dir)
        if check is not None:
            check()
    except StoreUnavailable as error:
        if not settings.is_postgres:
            raise ConfigurationError(str(error)) from error
        _log.warning("the schema of the database has not been checked", error=str(error))
    return SqlIdentityStore(Database(settings, state_dir, clock=clock), clock=clock)


class SqlTransaction(IdentityTransaction):
    """A transaction of either database."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self.projects = SqlRows(connection, PROJECTS, clock)
        self.users = SqlRows(connection, USERS, clock)
        self.project_users = SqlRows(connection, PROJECT_USERS, clock)
        self.service_accounts = SqlRows(connection, SERVICE_ACCOUNTS, clock)
        self.keys = SqlKeys(connection, API_KEYS, clock)
        self.admin_keys = SqlKeys(connection, ADMIN_KEYS, clock)
        self.model_permissions = SqlRows(connection, MODEL_PERMISSIONS, clock)
        self.limits = SqlLimitRows(connection, LIMITS, clock)
        self.spend_alerts = SqlLimitRows(connection, SPEND_ALERTS, clock)

    @override
    async def find_key_by_digest(self, digests: Sequence[bytes]) -> ApiKey | None:
        query = select(tables.API_KEYS).join(tables.KEY_DIGESTS)
        query = query.where(
            tables.KEY_DIGESTS.c.digest.in_(digests), tables.KEY_DIGESTS.c.is_current
        )
        row = (await self._connection.execute(query.limit(1))).mappings().first()
        return None if row is None else API_KEYS.decode(dict(row))

    @override
    async def add_audit_event(self, event: AuditEvent) -> None:
        table = tables.AUDIT_EVENTS
        values = {column.name: getattr(event, column.name, None) for column in table.c}
        values |= {"project_id": event.project_id or "", "position": next_position(table)}
        await self._connection.execute(insert(table).values(values))

    @override
    async def list_audit_events(self, page: Page, where: AuditFilter) -> Listing[AuditEvent]:
        table = tables.AUDIT_EVENTS
        query = select(table)
        for column, values in (
            (table.c.type, where.types),
            (table.c.actor_id, where.actor_ids),
            (table.c.project_id, where.project_ids),
            (table.c.details["id"].as_string(), where.resource_ids),
        ):
            if values is not None:
                query = query.where(column.in_([v for v in values if v and "\0" not in v]))
        for bound, compare in (
            (where.gt, operator.gt),
            (where.gte, operator.ge),
            (where.lt, operator.lt),
            (where.lte, operator.le),
        ):
            if bound is not None:
                seconds = max(-_MAX_SECONDS, min(bound, _MAX_SECONDS))
                query = query.where(compare(table.c.effective_at, seconds))
        cursors = [select(table.c.id, table.c.position)]
        rows, has_more = await list_rows(self._connection, query, page, table, "id", cursors)
        return Listing([_decode_event(row._mapping) for row in rows], has_more)  # noqa: SLF001

    @override
    async def find_idempotent_request(
        self, actor_id: str, key_digest: bytes
    ) -> IdempotentRequest | None:
        table = tables.IDEMPOTENT_REQUESTS
        query = select(table).where(
            table.c.actor_id == actor_id,
            table.c.key_digest == key_digest,
            table.c.created_at > self._clock.wall() - REPLAY_SECONDS,
        )
        row = (await self._connection.execute(query)).mappings().first()
        return None if row is None else IdempotentRequest(**row)

    @override
    async def add_idempotent_request(self, request: IdempotentRequest) -> None:
        table = tables.IDEMPOTENT_REQUESTS
        oldest = self._clock.wall() - REPLAY_SECONDS
        values = {column.name: getattr(request, column.name) for column in table.c}
        try:
            async with self._connection.savepoint():
                await self._connection.execute(delete(table).where(table.c.created_at <= oldest))
                await self._connection.execute(insert(table).values(values))
        except IntegrityError as error:
            raise AlreadyExists("a request with this Idempotency-Key exists") from error

    @override
    async def add_pepper(self, fingerprint: bytes) -> None:
        table = tables.PEPPERS
        found = select(table.c.fingerprint).where(table.c.fingerprint == fingerprint)
        if (await self._connection.execute(found)).first() is not None:
            return
        values = {"fingerprint": fingerprint, "created_at": int(self._clock.wall())}
        with suppress(IntegrityError):  # another transaction adds it
            async with self._connection.savepoint():
                await self._connection.execute(insert(table).values(values))


class SqlIdentityStore(IdentityStore):
    """The store in either database."""

    def __init__(self, database: Database, *, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock or SystemClock()
        self.limits = SqlLimitStore(database)

    @override
    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[SqlTransaction]:
        async with self._database.begin() as connection:
            yield SqlTransaction(connection, self._clock)

    @override
    async def find_grant(self, digests: Sequence[bytes]) -> KeyGrant | None:
        async with self._database.begin(read_only=True) as connection:
            found = await connection.execute(_GRANT, {"digests": list(digests)})
        row = found.mappings().first()
        if row is None:
            return None
        parts: dict[str, dict[str, Any]] = {}
        for label, value in row.items():
            part, _, name = label.partition("__")
            parts.setdefault(part, {})[name] = value
        if parts["admin"]["id"] is not None:
            return KeyGrant(ADMIN_KEYS.decode(parts["admin"]))
        has_permissions = parts["permissions"]["project_id"] is not None
        return KeyGrant(
            key=API_KEYS.decode(parts["key"]),
            project=PROJECTS.decode(parts["project"]),
            owner_role=row["owner__role"],
            permissions=MODEL_PERMISSIONS.decode(parts["permissions"]) if has_permissions else None,
        )

    @override
    async def find_project(self, project_id: str) -> ProjectGrant | None:
        async with self._database.begin(read_only=True) as connection:
            rows = SqlTransaction(connection, self._clock)
            project = await rows.projects.find(project_id)
            permissions = await rows.model_permissions.find(project_id)
        return None if project is None else ProjectGrant(project, permissions)

    @override
    async def touch_keys(self, used_at: Mapping[str, int]) -> None:
        if not used_at:
            return
        async with self._database.begin() as connection:
            for table in (tables.API_KEYS, tables.ADMIN_KEYS):
                # In one order, so that two gateways do not wait for each other.
                times = case(dict(used_at), value=table.c.id)
                is_later = or_(table.c.last_used_at.is_(None), table.c.last_used_at < times)
                await connection.execute(
                    update(table)
                    .where(table.c.id.in_(sorted(used_at)), is_later)
                    .values(last_used_at=times)
                )

    @override
    async def aclose(self) -> None:
        await self._database.aclose()


def _decode_event(row: Mapping[Any, Any]) -> AuditEvent:
    values = {name: value for name, value in row.items() if name != "position"}
    return AuditEvent(**(values | {"project_id": values["project_id"] or None}))


def _build_grant_query() -> Any:
    """Build the query for all rows that decide about a key, with the columns `<part>__<name>`."""
    parts = {
        "key": tables.API_KEYS,
        "admin": tables.ADMIN_KEYS,
        "project": tables.PROJECTS,
        "permissions": tables.MODEL_PERMISSIONS,
    }
    columns = [c.label(f"{part}__{c.name}") for part, table in parts.items() for c in table.c]
    key, digests = tables.API_KEYS.c, tables.KEY_DIGESTS
    member, account = tables.PROJECT_USERS.c, tables.SERVICE_ACCOUNTS.c
    # No joins: PostgreSQL plans these in a fraction of the time.
    as_member = select(member.role).where(
        key.owner_type == "user",
        member.project_id == key.project_id,
        member.user_id == key.owner_id,
    )
    as_account = select(account.role).where(
        key.owner_type == "service_account",
        account.project_id == key.project_id,
        account.id == key.owner_id,
    )
    role = func.coalesce(as_member.scalar_subquery(), as_account.scalar_subquery())
    joined = (
        digests.outerjoin(
            tables.API_KEYS,
            and_(key.project_id == digests.c.project_id, key.id == digests.c.key_id),
        )
        .outerjoin(tables.ADMIN_KEYS, tables.ADMIN_KEYS.c.id == digests.c.admin_key_id)
        .outerjoin(tables.PROJECTS, tables.PROJECTS.c.id == key.project_id)
        .outerjoin(
            tables.MODEL_PERMISSIONS, tables.MODEL_PERMISSIONS.c.project_id == key.project_id
        )
    )
    is_wanted = digests.c.digest.in_(bindparam("digests", expanding=True))
    return select(*columns, role.label("owner__role")).select_from(joined).where(is_wanted).limit(1)


_GRANT: Final = _build_grant_query()
