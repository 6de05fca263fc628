"""Keys come from the file first and from the database second, which needs no file."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from maxgate.auth.api_key import hash_key
from maxgate.auth.identity import InvalidCredential
from maxgate.auth.key_sources import KeySources
from maxgate.auth.key_verifier import KeyVerifier
from maxgate.auth.settings import AuthSettings
from maxgate.clock import SystemClock
from maxgate.errors import ConfigurationError
from maxgate.stores.identity import IdentityStore
from maxgate.stores.identity_store import open_identity_store
from maxgate.stores.settings import DatabaseSettings
from tests.fakes.api_keys import PEPPER, KeyFolder
from tests.fakes.stored_keys import StoredKeys


@pytest.fixture
def folder(tmp_path: Path) -> KeyFolder:
    """The state folder, without keys."""
    return KeyFolder(tmp_path)


@pytest.fixture
async def identities(tmp_path: Path) -> AsyncIterator[IdentityStore]:
    """A database without keys."""
    store = open_identity_store(DatabaseSettings(), tmp_path)
    yield store
    await store.aclose()


def open_sources(folder: KeyFolder, identities: IdentityStore | None, **auth: Any) -> KeySources:
    """Open the keys of a gateway."""
    settings = AuthSettings.model_validate({"mode": "keys", "pepper": [PEPPER], **auth})
    return KeySources(settings, folder.path, SystemClock(), identities)


async def find_id(sources: KeySources, key: str) -> str:
    """Return the id of the key, or why it is refused."""
    try:
        return (await KeyVerifier(sources, SystemClock()).verify(key)).principal.key_id
    except InvalidCredential as error:
        return error.reason


async def test_database_only(folder: KeyFolder, identities: IdentityStore) -> None:
    """Keys in the database need no file; a file that appears later is read."""
    key = await StoredKeys(identities).add()
    sources = open_sources(folder, identities)
    assert await find_id(sources, key) == "key_1"

    other = folder.add("in_file")
    await sources.refresh()

    assert [await find_id(sources, key), await find_id(sources, other)] == ["key_1", "in_file"]


async def test_order(folder: KeyFolder, identities: IdentityStore) -> None:
    """The file decides about a key that is in both."""
    key = folder.add("in_file")
    digest = hash_key(key, PEPPER.encode())
    await StoredKeys(identities).add("in_database", digest=digest)
    sources = open_sources(folder, identities)
    assert await find_id(sources, key) == "in_file"

    folder.disable("in_file")
    await sources.refresh()

    assert await find_id(sources, key) == "revoked"


async def test_file_only(folder: KeyFolder) -> None:
    """Without a database, the file is needed, and works alone."""
    with pytest.raises(ConfigurationError, match="does not exist"):
        open_sources(folder, None)
    key = folder.add()

    sources = open_sources(folder, None)

    assert await find_id(sources, key) == "key_1"
    assert await find_id(sources, key[:-1]) == "malformed"


async def test_missing_file(folder: KeyFolder, identities: IdentityStore) -> None:
    """A file that is named by the setting must exist."""
    with pytest.raises(ConfigurationError, match="does not exist"):
        open_sources(folder, identities, keys_file=folder.path / "other.yaml")


async def test_generated_pepper(folder: KeyFolder, identities: IdentityStore, capfd) -> None:
    """With a database, the pepper is generated at the first start, and the log says so."""
    sources = open_sources(folder, identities, pepper=[])
    assert capfd.readouterr().out.count("a pepper was generated") == 1
    open_sources(folder, identities, pepper=[])
    assert "a pepper was generated" not in capfd.readouterr().out

    pepper = (folder.path / "pepper").read_text().strip()
    key = await StoredKeys(identities, pepper=pepper).add()
    assert await find_id(sources, key) == "key_1"


async def test_times_of_use(folder: KeyFolder, identities: IdentityStore) -> None:
    """The time of the last use is in the database after the shutdown."""
    keys = StoredKeys(identities)
    key = await keys.add()
    other = open_identity_store(DatabaseSettings(), folder.path)
    sources = open_sources(folder, other)
    assert await find_id(sources, key) == "key_1"
    assert (await keys.find()).last_used_at is None

    await sources.aclose()

    assert abs(((await keys.find()).last_used_at or 0) - SystemClock.wall()) < 60
