"""A database of every earlier revision is upgraded with its data, and nothing else is touched."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, Table, create_engine, insert, inspect, select

from maxgate.stores import migrate
from maxgate.stores.database import find_url
from maxgate.stores.identity import StoreUnavailable
from maxgate.stores.identity_store import open_identity_store
from maxgate.stores.migrate import (
    REVISIONS,
    SchemaMismatch,
    SchemaState,
    check_database,
    prepare_database,
    upgrade_database,
)
from maxgate.stores.settings import DatabaseSettings
from maxgate.stores.tables import METADATA
from tests.fakes.postgres_server import PostgresServer

HEAD = REVISIONS[-1]
MIGRATIONS = Path(migrate.__file__).with_name("migrations")
BOOKKEEPING = {"maxgate_revision", "maxgate_compatible_revisions"}
Row: TypeAlias = dict[str, Any]
# A value of each column type, for whatever tables and columns earlier revisions have.
VALUES: dict[str, Callable[[int], Any]] = {
    "TEXT": lambda number: f"text {number}",
    "BIGINT": lambda number: number,
    "DOUBLE": float,
    "DOUBLE PRECISION": float,
    "DOUBLE_PRECISION": float,
    "BOOLEAN": lambda number: bool(number % 2),
    "BLOB": lambda number: b"\x00\xff%d" % number,
    "BYTEA": lambda number: b"\x00\xff%d" % number,
    "JSON": lambda number: [f"item {number}", None],
}


@dataclass
class Place:
    """A database, and a second connection to it."""

    settings: DatabaseSettings
    state_dir: Path
    opened: list[Any] = field(default_factory=list)

    def upgrade(self, revisions: Sequence[str] = REVISIONS) -> SchemaState:
        """Upgrade it as the version with these revisions does."""
        return upgrade_database(self.settings, self.state_dir, revisions=revisions)

    def check(self, revisions: Sequence[str] = REVISIONS) -> SchemaState:
        """Check it as the version with these revisions does."""
        return check_database(self.settings, self.state_dir, revisions=revisions)

    @property
    def schema(self) -> str | None:
        """The schema that has the tables."""
        return self.settings.schema_name if self.settings.is_postgres else None

    def connect(self) -> Any:
        """Begin a transaction that is committed at the end."""
        self.opened.append(create_engine(find_url(self.settings, self.state_dir)))
        return self.opened[-1].begin()

    def execute(self, statement: str) -> None:
        """Run a statement, in which `{place}` is the prefix of the schema."""
        prefix = f"{self.schema}." if self.schema else ""
        with self.connect() as connection:
            connection.exec_driver_sql(statement.format(place=prefix))

    def read_tables(self) -> dict[str, Table]:
        """Return all tables by their names, parents first."""
        metadata = MetaData()
        with self.connect() as connection:
            metadata.reflect(connection, schema=self.schema)
        return {t.name: t for t in metadata.sorted_tables if not is_partition(t.name)}

    def read_rows(self) -> dict[str, list[Row]]:
        """Return the rows of all tables except those for bookkeeping."""
        tables = self.read_tables()
        with self.connect() as connection:
            return {
                name: [dict(row) for row in connection.execute(select(table)).mappings()]
                for name, table in tables.items()
                if name not in BOOKKEEPING
            }

    def describe_tables(self) -> dict[str, list[Any]]:
        """Return columns, keys, constraints and indexes of all tables."""
        with self.connect() as connection:
            found = inspect(connection)
            read = (
                found.get_columns,
                found.get_pk_constraint,
                found.get_foreign_keys,
                found.get_unique_constraints,
                found.get_check_constraints,
                found.get_indexes,
            )
            return {
                name: [sort_names(get(name, schema=self.schema)) for get in read]
                for name in found.get_table_names(schema=self.schema)
                if not is_partition(name)
            }

    def fill(self) -> None:
        """Add a row to each table, with a value in each column."""
        with self.connect() as connection:
            for name, table in self.read_tables().items():
                if name not in BOOKKEEPING:
                    connection.execute(insert(table).values(make_row(table)))

    def close(self) -> None:
        """Close all connections."""
        for engine in self.opened:
            engine.dispose()


def is_partition(name: str) -> bool:
    """Return whether a table is a part of another one, which has its rows, too."""
    return name in {"usage_entries_default", "usage_minutes_default"}


def sort_names(found: Any) -> str:
    """Return what was found in the order of the names, as text that can be compared."""
    return repr(sorted(found, key=lambda item: item["name"]) if type(found) is list else found)


def make_row(table: Table) -> Row:
    """Return a value for each column; columns that refer to one have its value."""
    row: Row = {}
    for number, column in enumerate(table.columns):
        name = str(column.type).partition("(")[0]
        row[column.name] = VALUES[name](number)
    for key in table.foreign_keys:
        other = list(key.column.table.columns)
        row[key.parent.name] = f"text {other.index(key.column)}"
    if table.name == "key_digests":  # a key is of a project or of the organization
        row["admin_key_id"] = None
    return row


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path):
    """A database of each kind without tables."""
    settings = DatabaseSettings()
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        settings = DatabaseSettings(url=server.url, schema_name=f"test_{uuid4().hex}")
    found = Place(settings, tmp_path)
    yield found
    found.close()


def test_revisions() -> None:
    """The list of revisions is that of the migrations, in their order."""
    scripts = list(ScriptDirectory(str(MIGRATIONS)).walk_revisions())
    assert tuple(script.revision for script in reversed(scripts)) == REVISIONS
    assert all(isinstance(script.module.is_expansion, bool) for script in scripts)


def test_tables(place: Place) -> None:
    """The migrations make the tables, columns, keys and indexes of tables.py, and no others."""
    place.upgrade()
    made = place.describe_tables()
    with place.connect() as connection:
        options = {"schema_translate_map": {None: place.schema}}
        METADATA.drop_all(connection.execution_options(**options))
        METADATA.create_all(connection.execution_options(**options))
    assert made == place.describe_tables()


@pytest.mark.parametrize("count", range(1, len(REVISIONS) + 1))
def test_upgrade_with_data(place: Place, count: int) -> None:
    """All rows of an earlier revision survive the upgrade, and the tables can be used."""
    place.upgrade(REVISIONS[:count])
    place.fill()
    rows = place.read_rows()
    assert all(len(found) == 1 for found in rows.values())

    place.upgrade()

    after = place.read_rows()
    assert {name: keep_columns(after[name], rows[name]) for name in rows} == rows
    assert set(after) == set(METADATA.tables)
    assert place.check().status == "current"


def keep_columns(rows: list[Row], model: list[Row]) -> list[Row]:
    """Return the rows without columns that the model does not have."""
    return [{name: row[name] for name in model[0]} for row in rows]


@pytest.mark.parametrize("count", range(1, len(REVISIONS) + 1))
def test_states(place: Place, count: int) -> None:
    """A new version needs an upgrade; the previous one goes on after an expansion."""
    known = REVISIONS[:count]
    states = [place.check(known).status]
    for step in range(1, count + 1):
        place.upgrade(REVISIONS[:step])
        states.append(place.check(known).status)
    assert states == ["missing", *["too_old"] * (count - 1), "current"]

    place.upgrade()
    scripts = ScriptDirectory(str(MIGRATIONS))
    later = [scripts.get_revision(name).module.is_expansion for name in REVISIONS[count:]]
    expected = "current" if not later else "compatible" if all(later) else "too_new"
    assert place.check(known) == SchemaState(expected, HEAD, known[-1], place.check(known).message)


async def test_previous_version(place: Place) -> None:
    """A gateway that runs during an expansion goes on, and its successor starts."""
    place.upgrade(REVISIONS[:1])
    store = open_identity_store_of(place, REVISIONS[:1])
    before = await store.find_grant([b"x"])
    await asyncio.to_thread(place.upgrade)
    after = await store.find_grant([b"x"])
    successor = open_identity_store(place.settings, place.state_dir)
    async with successor.transaction() as rows:
        found = await rows.projects.find("proj_a")
    await store.aclose()
    await successor.aclose()
    assert (before, after, found) == (None, None, None)


def open_identity_store_of(place: Place, revisions: Sequence[str]) -> Any:
    """Open the store as the version with these revisions does."""
    from maxgate.stores.database import Database
    from maxgate.stores.identity_store import SqlIdentityStore

    assert place.check(revisions).is_usable
    return SqlIdentityStore(Database(place.settings, place.state_dir))


def test_newer_schema(place: Place) -> None:
    """A schema that a later version has contracted is refused and not changed."""
    place.upgrade()
    place.fill()
    place.execute("UPDATE {place}maxgate_revision SET version_num = '9999'")
    place.execute("DELETE FROM {place}maxgate_compatible_revisions")
    rows = place.read_rows()

    reason = "revision 9999, which this version of maxgate .* cannot use; upgrade maxgate"
    with pytest.raises(SchemaMismatch, match=reason):
        place.upgrade()
    with pytest.raises(SchemaMismatch, match=reason):
        prepare_database(place.settings, place.state_dir)
    with pytest.raises(SchemaMismatch, match=reason):
        open_identity_store(place.settings, place.state_dir)

    assert (place.check().status, place.read_rows()) == ("too_new", rows)


def test_start(place: Place) -> None:
    """A gateway upgrades SQLite when it starts; PostgreSQL only by the command."""
    place.upgrade(REVISIONS[:1])
    if place.settings.is_postgres:
        with pytest.raises(SchemaMismatch, match="run: maxgate db upgrade"):
            open_identity_store(place.settings, place.state_dir)
        assert place.check().status == "too_old"
    else:
        prepare_database(place.settings, place.state_dir)
        assert place.check().status == "current"


SCRIPT = """
import sys
from pathlib import Path
from maxgate.stores.migrate import upgrade_database
from maxgate.stores.settings import DatabaseSettings
settings = DatabaseSettings.model_validate_json(sys.argv[1])
sys.stdin.readline()
print(upgrade_database(settings, Path(sys.argv[2])).status)
"""


def test_two_processes(place: Place) -> None:
    """Of processes that upgrade at once, one does it, and the others wait for it."""
    settings = place.settings.model_dump_json(exclude_unset=True)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, settings, str(place.state_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    output = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert sorted(output) == ["current", "current", "missing"]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert place.check().status == "current"


def test_foreign_tables(place: Place) -> None:
    """Tables of other programs in the same schema survive an upgrade unchanged."""
    if place.schema:
        place.execute(f"CREATE SCHEMA {place.schema}")
    place.execute("CREATE TABLE {place}invoices (id integer, total integer)")
    place.execute("INSERT INTO {place}invoices VALUES (1, 20)")
    # That of another program that uses Alembic.
    place.execute("CREATE TABLE {place}alembic_version (version_num varchar(32))")
    place.execute("INSERT INTO {place}alembic_version VALUES ('abc')")
    for count in range(1, len(REVISIONS) + 1):
        place.upgrade(REVISIONS[:count])
    rows = place.read_rows()
    assert (rows["invoices"], rows["alembic_version"]) == (
        [{"id": 1, "total": 20}],
        [{"version_num": "abc"}],
    )


def test_occupied_names(place: Place) -> None:
    """A foreign table with the name of one of ours is not taken for it."""
    if place.schema:
        place.execute(f"CREATE SCHEMA {place.schema}")
    place.execute("CREATE TABLE {place}users (id integer)")
    place.execute("INSERT INTO {place}users VALUES (7)")
    with pytest.raises(SchemaMismatch, match="another program has the tables users here; set"):
        place.upgrade()
    assert (place.check().status, place.read_rows()) == ("occupied", {"users": [{"id": 7}]})


def test_foreign_schema(postgres: PostgresServer, tmp_path: Path) -> None:
    """Tables of the same names in other schemas are neither used nor changed."""
    name = f"test_{uuid4().hex}"
    postgres.execute(f"CREATE DATABASE {name}")
    url = postgres.url.removesuffix("postgres") + name
    other = Place(DatabaseSettings(url=url, schema_name="public"), tmp_path)
    other.execute("CREATE TABLE public.users (id integer)")
    other.execute("INSERT INTO public.users VALUES (7)")
    ours = Place(DatabaseSettings(url=url), tmp_path)
    ours.upgrade()
    ours.fill()
    assert other.read_rows() == {"users": [{"id": 7}]}
    assert len(ours.read_rows()["users"]) == 1
    ours.close()
    other.close()


def test_role_without_rights(postgres: PostgresServer, tmp_path: Path) -> None:
    """A role that may not create the schema gets the server's message."""
    role = f"role_{uuid4().hex}"
    postgres.execute(f"CREATE ROLE {role} LOGIN")
    url = postgres.url.replace("postgres@", f"{role}@")
    place = Place(DatabaseSettings(url=url, schema_name=f"test_{uuid4().hex}"), tmp_path)
    with pytest.raises(StoreUnavailable, match="permission denied for database postgres"):
        place.upgrade()


def test_failed_upgrade(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade that fails changes nothing, and can be repeated."""
    place.upgrade(REVISIONS[:1])
    place.fill()
    rows = place.read_rows()
    place.execute("CREATE TABLE {place}idempotent_requests (id integer)")
    with pytest.raises(StoreUnavailable, match=r"idempotent_requests.* already exists"):
        place.upgrade()
    place.execute("DROP TABLE {place}idempotent_requests")
    assert (place.check().revision, place.read_rows()) == (REVISIONS[0], rows)
    place.upgrade()
    assert place.check().status == "current"


def test_busy_sqlite(tmp_path: Path) -> None:
    """A start does not wait for another process that writes, if there is nothing to upgrade."""
    upgrade_database(DatabaseSettings(), tmp_path)
    writer = sqlite3.connect(tmp_path / "maxgate.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    assert upgrade_database(DatabaseSettings(), tmp_path).status == "current"
    writer.close()
