"""A gateway whose pepper is not that of the keys in its database does not start."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from maxgate.auth.organization.changes import COMMAND_LINE, Organization
from maxgate.auth.organization.keys import create_admin_key
from maxgate.auth.pepper import fingerprint_pepper
from maxgate.auth.pepper_check import (
    WrongPepper,
    accept_peppers,
    check_peppers,
    open_checked_store,
)
from maxgate.auth.settings import AuthSettings
from maxgate.clock import SystemClock
from maxgate.stores.identity import IdentityStore
from maxgate.stores.migrate import REVISIONS, upgrade_database
from maxgate.stores.peppers import read_fingerprints
from maxgate.stores.settings import DatabaseSettings
from tests.fakes.stored_keys import StoredKeys

OLD, NEW, OTHER = "o" * 32, "n" * 32, "x" * 32
Open = Callable[..., Any]


def read_settings(*peppers: str) -> AuthSettings:
    """Return the settings of a gateway with these peppers; without any, that of a file."""
    return AuthSettings.model_validate({"mode": "keys", "pepper": list(peppers)})


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> DatabaseSettings:
    """A database of each kind without tables."""
    if request.param == "sqlite":
        return DatabaseSettings()
    server = request.getfixturevalue("postgres")
    return DatabaseSettings(url=server.url, schema_name=f"test_{uuid4().hex}")


@pytest.fixture
def open_store(database: DatabaseSettings, tmp_path: Path) -> Open:
    """Returns a function that starts a gateway with some peppers, and returns its store."""
    upgrade_database(database, tmp_path)

    @asynccontextmanager
    async def open_with(*peppers: str) -> AsyncIterator[IdentityStore]:
        store = open_checked_store(read_settings(*peppers), database, tmp_path)
        yield store
        await store.aclose()

    return open_with


async def create_key(store: IdentityStore, *peppers: str) -> None:
    """Create a key as the admin API of a gateway with these peppers."""
    encoded = [pepper.encode() for pepper in peppers]
    organization = Organization(store, lambda: encoded, SystemClock())
    async with organization.change(COMMAND_LINE) as change:
        await create_admin_key(change, "root")


async def test_first_key(open_store: Open, database: DatabaseSettings, tmp_path: Path) -> None:
    """Any pepper will do until the first key; from then on, another one is refused."""
    for pepper in (OTHER, OLD):
        async with open_store(pepper) as store:
            assert read_fingerprints(database, tmp_path) == (frozenset(), False)
    async with open_store(OLD) as store:
        await create_key(store, OLD)
        await create_key(store, OLD)
    assert read_fingerprints(database, tmp_path) == (
        frozenset({fingerprint_pepper(OLD.encode())}),
        True,
    )

    with pytest.raises(WrongPepper) as raised:
        async with open_store(OTHER):
            pass

    assert str(raised.value) == (
        "setting auth.pepper: no key in the database was hashed with this pepper, so all of them "
        "would be refused; restore state_dir/pepper, or set auth.pepper to the right one. If it is "
        "lost, run `maxgate db accept-pepper`, and create all keys anew"
    )


async def test_missing(open_store: Open, tmp_path: Path) -> None:
    """A missing pepper is refused, too, and none is generated."""
    async with open_store(OLD) as store:
        await create_key(store, OLD)
    with pytest.raises(WrongPepper, match=f"^{tmp_path}/pepper: the pepper that the keys .* were"):
        async with open_store():
            pass
    assert not (tmp_path / "pepper").exists()


async def test_rotation(open_store: Open) -> None:
    """A pepper is replaced: the new one first, then keys, and then the old one is removed."""
    async with open_store(OLD) as store:
        await create_key(store, OLD)
    with pytest.raises(WrongPepper):
        async with open_store(NEW):
            pass
    async with open_store(NEW, OLD) as store:
        await create_key(store, NEW, OLD)
    for peppers in ([NEW], [OLD], [OLD, NEW], [OTHER, NEW]):
        async with open_store(*peppers):
            pass


async def test_lost(open_store: Open, database: DatabaseSettings, tmp_path: Path) -> None:
    """For a lost pepper, another one is accepted explicitly."""
    async with open_store(OLD) as store:
        await create_key(store, OLD)
    for _ in range(2):
        accept_peppers(read_settings(), database, tmp_path)
    async with open_store():
        pass
    with pytest.raises(WrongPepper):
        check_peppers(read_settings(OTHER), database, tmp_path)


async def test_upgraded(database: DatabaseSettings, tmp_path: Path) -> None:
    """With the keys of an earlier version, a gateway takes its own pepper for theirs."""
    upgrade_database(database, tmp_path, revisions=REVISIONS[:2])
    upgrade_database(database, tmp_path)
    store = open_checked_store(read_settings(OLD), database, tmp_path)
    await StoredKeys(store, pepper=OLD).add()
    check_peppers(read_settings(OTHER), database, tmp_path)  # a command does not
    await store.aclose()

    for _ in range(2):
        await open_checked_store(read_settings(NEW, OLD), database, tmp_path).aclose()

    found = {fingerprint_pepper(pepper.encode()) for pepper in (OLD, NEW)}
    assert read_fingerprints(database, tmp_path) == (frozenset(found), True)
    with pytest.raises(WrongPepper):
        open_checked_store(read_settings(OTHER), database, tmp_path)
