"""Keys are verified by their hashes, and a changed file is read again."""

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typing_extensions import override

from maxgate.auth.api_key import generate_key, hash_key
from maxgate.auth.file_key_store import FileKeyStore, load_keys
from maxgate.auth.identity import AuthenticationUnavailable, Identity, InvalidCredential
from maxgate.auth.key_verifier import KeyStore, KeyVerifier, StoredKey
from maxgate.auth.settings import AuthSettings
from maxgate.errors import ConfigurationError
from maxgate.generation.context import Principal
from tests.fakes.api_keys import PEPPER, KeyFolder
from tests.fakes.clock import FakeClock

OTHER_PEPPER = "f" * 64


@pytest.fixture
def folder(tmp_path: Path) -> KeyFolder:
    """A folder without keys."""
    return KeyFolder(tmp_path)


def build_store(folder: KeyFolder, *peppers: str) -> FileKeyStore:
    """Build the store of the folder's keys."""
    folder.file.touch()
    settings = AuthSettings.model_validate(
        {"mode": "keys", "keys_file": folder.file, "pepper": peppers or [PEPPER]}
    )
    return FileKeyStore(settings, folder.path)


async def find_reason(verifier: KeyVerifier, key: str) -> str:
    """Return the reason for which a key is refused, or the id of a valid one."""
    try:
        return (await verifier.verify(key)).principal.key_id
    except InvalidCredential as error:
        return error.reason


async def test_verify(folder: KeyFolder) -> None:
    """A key is valid as a whole only; one with the same beginning is not."""
    key, revoked = folder.add("a"), folder.add("b", disabled=True)
    verifier = KeyVerifier(build_store(folder), FakeClock())

    assert await find_reason(verifier, key) == "a"
    assert await find_reason(verifier, revoked) == "revoked"
    assert await find_reason(verifier, generate_key()) == "unknown_key"
    assert await find_reason(verifier, key[:-1]) == "malformed"
    assert await find_reason(verifier, key.swapcase()) == "malformed"
    assert await find_reason(verifier, f"{key} ") == "malformed"
    assert verifier.accepts(key)
    assert not verifier.accepts("eyJhbGciOi")


async def test_expiry(folder: KeyFolder) -> None:
    """A key is valid until the moment at which it expires."""
    clock = FakeClock()
    now = datetime.fromtimestamp(clock.wall(), UTC)
    key = folder.add("a", expires=now.replace(year=now.year + 1))
    verifier = KeyVerifier(build_store(folder), clock)
    seconds = now.replace(year=now.year + 1).timestamp() - clock.wall()

    clock.advance(seconds - 1)
    assert await find_reason(verifier, key) == "a"
    clock.advance(1)
    assert await find_reason(verifier, key) == "expired"


async def test_rotated_pepper(folder: KeyFolder) -> None:
    """Keys of all configured peppers are valid, and those of others are unknown."""
    old, new = folder.add("old", pepper=OTHER_PEPPER), folder.add("new")
    both = KeyVerifier(build_store(folder, PEPPER, OTHER_PEPPER), FakeClock())
    one = KeyVerifier(build_store(folder, PEPPER), FakeClock())

    assert [await find_reason(both, key) for key in (old, new)] == ["old", "new"]
    assert [await find_reason(one, key) for key in (old, new)] == ["unknown_key", "new"]


async def test_comparison(folder: KeyFolder) -> None:
    """A store that finds another key than the hash names is not believed."""
    key = folder.add("a")
    store = build_store(folder)
    [stored] = load_keys(store._settings, folder.path).keys.values()

    class Careless(FileKeyStore):
        async def find(self, digest: bytes) -> StoredKey | None:
            return stored

    careless = KeyVerifier(Careless(store._settings, folder.path), FakeClock())
    assert await find_reason(careless, key) == "a"
    assert await find_reason(careless, generate_key()) == "unknown_key"


async def test_refresh(folder: KeyFolder) -> None:
    """A changed file takes effect as a whole; an invalid or missing one changes nothing."""
    key = folder.add("a")
    store = build_store(folder)
    verifier = KeyVerifier(store, FakeClock())
    valid = folder.file.read_text()

    for text in ("keys: [", valid.replace("id: a", "id: a\n    unknown: 1")):
        folder.file.write_text(text)
        await store.refresh()
        assert await find_reason(verifier, key) == "a"
    folder.file.unlink()
    await store.refresh()
    assert await find_reason(verifier, key) == "a"

    folder.file.write_text(valid)
    folder.disable("a")
    new = folder.add("b")
    await store.refresh()
    assert await find_reason(verifier, key) == "revoked"
    assert await find_reason(verifier, new) == "b"


async def test_unchanged(folder: KeyFolder) -> None:
    """A file with the same time of change, size and number is not read again."""
    key = folder.add("a")
    store = build_store(folder)
    found = folder.file.stat()
    content = folder.file.read_text()
    folder.file.write_text("#" * len(content))
    os.utime(folder.file, ns=(found.st_atime_ns, found.st_mtime_ns))

    await store.refresh()

    assert await find_reason(KeyVerifier(store, FakeClock()), key) == "a"


async def test_concurrent_refresh(folder: KeyFolder) -> None:
    """Refreshes at the same time end with the file's last content."""
    store = build_store(folder)
    keys = []
    for number in range(5):
        keys.append(folder.add(f"k{number}"))
        await asyncio.gather(*(store.refresh() for _ in range(4)))
    verifier = KeyVerifier(store, FakeClock())

    assert [await find_reason(verifier, key) for key in keys] == [f"k{n}" for n in range(5)]


def test_lost_pepper(folder: KeyFolder) -> None:
    """Keys without the pepper that they were hashed with are an error, not a gateway of 401s."""
    folder.add("a")
    settings = AuthSettings(mode="keys", keys_file=folder.file)

    with pytest.raises(ConfigurationError) as caught:
        load_keys(settings, folder.path)

    assert str(caught.value) == (
        f"{folder.file}: the pepper that these keys were hashed with is missing. "
        f"Restore {folder.path / 'pepper'}, or set auth.pepper."
    )
    assert not (folder.path / "pepper").exists()


class HalfKnown(KeyStore):
    """Has keys in memory; of all others, it is not known whether they exist."""

    peppers = (PEPPER.encode(), OTHER_PEPPER.encode())

    def __init__(self, *keys: StoredKey) -> None:
        self._keys = {key.digest: key for key in keys}

    @override
    async def find(self, digest: bytes) -> StoredKey | None:
        if digest not in self._keys:
            raise AuthenticationUnavailable("The database is away.")
        return self._keys[digest]


async def test_outage_with_two_peppers() -> None:
    """A key in memory by its second hash is found; one that is not gets no 401."""
    key, identity = generate_key(), Identity(Principal("red", "red", "ann", "key_1", "default"))
    verifier = KeyVerifier(
        HalfKnown(StoredKey(hash_key(key, OTHER_PEPPER.encode()), identity)), FakeClock()
    )

    assert await verifier.verify(key) is identity
    with pytest.raises(AuthenticationUnavailable):
        await verifier.verify(generate_key())
