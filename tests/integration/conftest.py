"""Databases of keys, and gateways with an admin."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from maxgate.stores.migrate import upgrade_database
from maxgate.stores.settings import DatabaseSettings
from maxgate.stores.tables import METADATA

if TYPE_CHECKING:
    from tests.fakes.admin_gateway import AdminGateway
    from tests.fakes.postgres_server import PostgresServer


@pytest.fixture(scope="session")
def sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database, to be copied: creating its tables takes 0.2 s of CPU time."""
    folder = tmp_path_factory.mktemp("sqlite")
    upgrade_database(DatabaseSettings(), folder)
    return folder / "maxgate.db"


@pytest.fixture(scope="session")
def postgres_schema(
    postgres: "PostgresServer", tmp_path_factory: pytest.TempPathFactory
) -> DatabaseSettings:
    """A schema with all tables, to be emptied."""
    found = DatabaseSettings(url=postgres.url, schema_name=f"test_{uuid4().hex}")
    upgrade_database(found, tmp_path_factory.mktemp("postgres"))
    return found


@pytest.fixture(params=["sqlite", "postgres"])
def identity_database(request: pytest.FixtureRequest, tmp_path: Path) -> DatabaseSettings:
    """An empty database of each kind; that of SQLite is in `tmp_path`."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_file"), tmp_path)
        return DatabaseSettings()
    found: DatabaseSettings = request.getfixturevalue("postgres_schema")
    tables = ", ".join(f"{found.schema_name}.{name}" for name in METADATA.tables)
    request.getfixturevalue("postgres").execute(f"TRUNCATE {tables}")
    return found


@pytest.fixture
async def admin_gateway(
    identity_database: DatabaseSettings, tmp_path: Path
) -> "AsyncIterator[AdminGateway]":
    """A gateway with each database and one admin key."""
    from tests.fakes.admin_gateway import start_admin_gateway  # slow to import

    async with start_admin_gateway(identity_database, tmp_path) as started:
        yield started


@pytest.fixture
async def sqlite_admin_gateway(sqlite_file: Path, tmp_path: Path) -> "AsyncIterator[AdminGateway]":
    """A gateway with the default database, for what does not depend on it."""
    from tests.fakes.admin_gateway import start_admin_gateway

    shutil.copy(sqlite_file, tmp_path)
    async with start_admin_gateway(DatabaseSettings(), tmp_path) as started:
        yield started
