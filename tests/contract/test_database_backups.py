"""The commands of docs/database.md back up and restore a database."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from uuid import uuid4

import pytest

from maxgate.auth.api_key import hash_key
from maxgate.stores.identity_store import SqlIdentityStore, open_identity_store
from maxgate.stores.migrate import check_database, upgrade_database
from maxgate.stores.settings import DatabaseSettings
from tests.conftest import ROOT
from tests.fakes.api_keys import PEPPER
from tests.fakes.postgres_server import PROGRAMS, PostgresServer
from tests.fakes.stored_keys import StoredKeys

STATE = Path(".local/share/maxgate")


def read_commands(*words: str) -> list[str]:
    """Return the commands of the section on backups that begin with one of these words."""
    section = (ROOT / "docs" / "database.md").read_text().partition("## Backup\n")[2]
    commands = re.findall(r"^    (\S.*)$", section, re.MULTILINE)
    return [command for command in commands if command.startswith(words)]


def run_commands(commands: list[str], home: Path, url: str) -> None:
    """Run commands in a home folder, by the programs of the same version as the server."""
    environment = {
        "HOME": str(home),
        "DATABASE_URL": url,
        "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
    }
    for command in commands:
        subprocess.run(
            ["bash", "-c", command],  # noqa: S607
            check=True,
            cwd=home,
            env=environment,
            timeout=30,
        )


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest) -> DatabaseSettings:
    """A database of each kind without tables, at the place that the page names."""
    if request.param == "sqlite":
        if shutil.which("sqlite3") is None:
            pytest.skip("the program sqlite3 is not installed")
        return DatabaseSettings()
    server: PostgresServer = request.getfixturevalue("postgres")
    name = f"test_{uuid4().hex}"
    server.execute(f"CREATE DATABASE {name}")
    return DatabaseSettings(url=server.url.removesuffix("postgres") + name)


async def has_key(store: SqlIdentityStore, key: str) -> bool:
    """Return whether the store has the key."""
    return await store.find_grant([hash_key(key, PEPPER.encode())]) is not None


async def test_backup(place: DatabaseSettings, tmp_path: Path) -> None:
    """A backup is made while a gateway writes, and restored with all that it had."""
    state_dir = tmp_path / STATE
    upgrade_database(place, state_dir)
    words = ("pg_dump", "psql", "pg_restore") if place.is_postgres else ("sqlite3", "rm", "cp")
    backup, *restore = read_commands(*words)
    assert len(restore) == 2
    store = open_identity_store(place, state_dir)
    keys = StoredKeys(store)
    revoked = await keys.add("key_1")

    run_commands([backup], tmp_path, place.url or "")

    async with store.transaction() as rows:
        assert await rows.keys.delete("proj_key_1", "key_1")
    later = await keys.add("key_2")
    assert [await has_key(store, key) for key in (revoked, later)] == [False, True]
    await store.aclose()

    run_commands(restore, tmp_path, place.url or "")

    assert check_database(place, state_dir).status == "current"
    restored = open_identity_store(place, state_dir)
    assert [await has_key(restored, key) for key in (revoked, later)] == [True, False]
    assert await StoredKeys(restored).add("key_2")
    await restored.aclose()
