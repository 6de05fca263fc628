"""The revision of the database's schema: compare it with that of the code, and upgrade it.

Every object has its place in one schema (SQLite: one file), and nothing else there is touched. The
table `maxgate_revision` has the current revision, and `maxgate_compatible_revisions` the ones
whose gateways can use it, among them older ones while gateways are upgraded one by one.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from sqlalchemy import (
    URL,
    Column,
    Connection,
    Engine,
    MetaData,
    Table,
    Text,
    create_engine,
    delete,
    event,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateSchema, CreateTable

from maxgate.errors import ConfigurationError
from maxgate.installation import requires_extra
from maxgate.stores.database import (
    connect_arguments,
    create_file,
    describe_error,
    find_url,
    prepare_sqlite,
)
from maxgate.stores.identity import StoreUnavailable
from maxgate.stores.settings import DatabaseSettings
from maxgate.stores.tables import METADATA

REVISIONS: Final = ("0001", "0002", "0003", "0004", "0005", "0006")
"""All revisions, oldest first; the code of this version needs the last one."""
LOCK_SECONDS: Final = 600
"""Time to wait for another process that upgrades the database."""

_STATEMENT_LOCK_SECONDS: Final = 30
_MIGRATIONS: Final = Path(__file__).with_name("migrations")
_BOOKKEEPING: Final = MetaData()
_REVISION: Final = Table(
    "maxgate_revision", _BOOKKEEPING, Column("version_num", Text, primary_key=True)
)
_COMPATIBLE: Final = Table(
    "maxgate_compatible_revisions", _BOOKKEEPING, Column("revision", Text, primary_key=True)
)
Status: TypeAlias = Literal["current", "compatible", "missing", "too_old", "too_new", "occupied"]


class SchemaMismatch(ConfigurationError):
    """The database does not have the schema that this version needs."""


@dataclass(frozen=True, slots=True)
class SchemaState:
    """The schema of a database.

    `compatible`: newer, and made so that this version can use it. `occupied`: there is none, but a
    foreign table with the name of one of its tables.
    """

    status: Status
    revision: str | None
    expected: str
    message: str

    @property
    def is_usable(self) -> bool:
        """Whether this version can use the database."""
        return self.status in {"current", "compatible"}


def prepare_database(settings: DatabaseSettings, state_dir: Path) -> None:
    """Check the schema before the gateway uses it; that of SQLite is created or upgraded first.

    Raises SchemaMismatch, and StoreUnavailable.
    """
    if settings.is_postgres:
        state = check_database(settings, state_dir)
        if not state.is_usable:
            raise SchemaMismatch(state.message)
    else:
        upgrade_database(settings, state_dir)


def check_database(
    settings: DatabaseSettings, state_dir: Path, *, revisions: Sequence[str] = REVISIONS
) -> SchemaState:
    """Read the state of the schema; raises StoreUnavailable.

    `revisions` are those that this version knows.
    """
    path = Path(find_url(settings, state_dir).database or "")
    if not settings.is_postgres and not path.exists():
        return _describe_state("missing", None, revisions[-1])
    with connect(settings, state_dir) as connection:
        return _read_state(connection, find_schema(settings), revisions)


def upgrade_database(
    settings: DatabaseSettings, state_dir: Path, *, revisions: Sequence[str] = REVISIONS
) -> SchemaState:
    """Upgrade the schema to that of this version, and return the state before.

    All changes take effect together. Processes that call it at once wait for each other. Raises
    SchemaMismatch for a schema that is too new or occupied, and StoreUnavailable.
    """
    if not settings.is_postgres:
        create_file(find_url(settings, state_dir))
        with connect(settings, state_dir) as connection:
            state = _read_state(connection, None, revisions)
        if state.is_usable:  # without the lock, so that a gateway starts while others write
            return state
    with connect(settings, state_dir, is_writer=True) as connection:
        schema = find_schema(settings)
        if schema is not None:
            _lock_postgres(connection, schema)
        state = _read_state(connection, schema, revisions)
        if state.status in {"too_new", "occupied"}:
            raise SchemaMismatch(state.message)
        if not state.is_usable:
            _migrate(connection, schema, revisions[-1])
    return state


def find_schema(settings: DatabaseSettings) -> str | None:
    """Return the schema that has the tables, None for SQLite."""
    return settings.schema_name if settings.is_postgres else None


@contextmanager
def connect(
    settings: DatabaseSettings, state_dir: Path, *, is_writer: bool = False
) -> Iterator[Connection]:
    """Begin a transaction that is committed at the end; raises StoreUnavailable."""
    url = find_url(settings, state_dir)
    arguments = connect_arguments(settings)
    if not settings.is_postgres and is_writer:
        arguments["timeout"] = LOCK_SECONDS
    with requires_extra("database.url", "postgres"):
        engine = create_engine(url, poolclass=NullPool, connect_args=arguments)
    if not settings.is_postgres:
        _set_up_sqlite(engine, is_writer=is_writer)
    try:
        with engine.begin() as connection:
            yield connection
    except DBAPIError as error:
        place = _name_place(url)
        raise StoreUnavailable(f"the database at {place}: {describe_error(error)}") from error
    finally:
        engine.dispose()


def _name_place(url: URL) -> str:
    host = f"{url.host or 'localhost'}:{url.port or 5432}/" if url.drivername != "sqlite" else ""
    return f"{host}{url.database}"


def _set_up_sqlite(engine: Engine, *, is_writer: bool) -> None:
    event.listen(engine, "connect", prepare_sqlite)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writer else "BEGIN")


def _lock_postgres(connection: Connection, schema: str) -> None:
    """Wait until no other process upgrades this schema, until the end of the transaction.

    Afterwards, a change that waits for a table holds up all its readers, so it gives up soon.
    """
    digest = hashlib.sha256(f"maxgate:{schema}".encode()).digest()
    key = int.from_bytes(digest[:8], "big", signed=True)
    _set_local(connection, "lock_timeout", f"{LOCK_SECONDS}s")
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
    _set_local(connection, "lock_timeout", f"{_STATEMENT_LOCK_SECONDS}s")


def _set_local(connection: Connection, name: str, value: str) -> None:
    parameters = {"name": name, "value": value}
    connection.execute(text("SELECT set_config(:name, :value, true)"), parameters)


def _read_state(
    connection: Connection, schema: str | None, revisions: Sequence[str]
) -> SchemaState:
    expected = revisions[-1]
    found = set(inspect(connection).get_table_names(schema=schema))
    if _REVISION.name not in found:
        taken = sorted(found & set(METADATA.tables))
        return _describe_state("occupied" if taken else "missing", None, expected, taken)
    connection = select_schema(connection, schema)
    revision = connection.execute(select(_REVISION.c.version_num)).scalar()
    if revision == expected:
        return _describe_state("current", revision, expected)
    if revision is None or revision in revisions:
        return _describe_state("too_old", revision, expected)
    compatible = connection.execute(select(_COMPATIBLE.c.revision)).scalars().all()
    status: Status = "compatible" if expected in compatible else "too_new"
    return _describe_state(status, revision, expected)


def select_schema(connection: Connection, schema: str | None) -> Connection:
    """Return the connection with statements that use the tables of this schema."""
    return connection.execution_options(schema_translate_map={None: schema})


def _describe_state(
    status: Status, revision: str | None, expected: str, taken: Sequence[str] = ()
) -> SchemaState:
    message = {
        "current": f"the database is up to date (revision {revision})",
        "compatible": f"the database has the newer revision {revision}, which this version of "
        f"maxgate (revision {expected}) can use; upgrade maxgate soon",
        "missing": "the database has no maxgate tables yet; run: maxgate db upgrade",
        "too_old": f"the database has revision {revision}, and this version of maxgate needs "
        f"{expected}; back it up, then run: maxgate db upgrade",
        "too_new": f"the database has revision {revision}, which this version of maxgate "
        f"(revision {expected}) cannot use; upgrade maxgate, or restore a backup",
        "occupied": f"another program has the tables {', '.join(taken)} here; set "
        "database.schema_name (SQLite: database.url) to a place that is free",
    }[status]
    return SchemaState(status, revision, expected, message)


def _migrate(connection: Connection, schema: str | None, revision: str) -> None:
    from alembic import command  # noqa: PLC0415  # takes long, and most starts do not need it
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    if schema is not None:
        if schema not in inspect(connection).get_schema_names():
            connection.execute(CreateSchema(schema))
        _set_local(connection, "search_path", schema)
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes.update(connection=connection, schema=schema, version_table=_REVISION.name)
    command.upgrade(config, revision)
    connection = select_schema(connection, schema)
    connection.execute(CreateTable(_COMPATIBLE, if_not_exists=True))
    connection.execute(delete(_COMPATIBLE))
    for script in ScriptDirectory.from_config(config).walk_revisions(head=revision):
        connection.execute(insert(_COMPATIBLE).values(revision=script.revision))
        if not script.module.is_expansion:  # gateways of the revisions before it cannot go on
            break
