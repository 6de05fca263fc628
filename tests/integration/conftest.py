"""Import MAX in the background while other tests run, and run gateways with an admin."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from maxgate.stores.settings import DatabaseSettings
from tests.integration.max_reading import MaxReading

if TYPE_CHECKING:
    from tests.fakes.admin_gateway import AdminGateway
    from tests.fakes.postgres_server import PostgresServer

READING = pytest.StashKey[MaxReading]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start importing MAX, which takes ten seconds, if a selected test needs it."""
    needed = any("max_answers" in getattr(item, "fixturenames", ()) for item in session.items)
    if needed and not session.config.option.collectonly:
        session.stash[READING] = MaxReading()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End the process that imports MAX."""
    if READING in session.stash:
        session.stash[READING].end()


@pytest.fixture(params=["sqlite", "postgres"])
def identity_database(request: pytest.FixtureRequest) -> DatabaseSettings:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return DatabaseSettings()
    postgres: PostgresServer = request.getfixturevalue("postgres")
    return DatabaseSettings(url=postgres.url, schema_name=f"test_{uuid4().hex}")


@pytest.fixture
async def admin_gateway(
    identity_database: DatabaseSettings, tmp_path: Path
) -> "AsyncIterator[AdminGateway]":
    """A gateway with each database and one admin key."""
    from tests.fakes.admin_gateway import start_admin_gateway  # slow to import

    async with start_admin_gateway(identity_database, tmp_path) as started:
        yield started


@pytest.fixture
async def sqlite_admin_gateway(tmp_path: Path) -> "AsyncIterator[AdminGateway]":
    """A gateway with the default database, for what does not depend on it."""
    from tests.fakes.admin_gateway import start_admin_gateway

    async with start_admin_gateway(DatabaseSettings(), tmp_path) as started:
        yield started
