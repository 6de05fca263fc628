"""The keys of a file, which is read again when it changes."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from typing_extensions import override

from maxgate.auth.key_file import read_key_file
from maxgate.auth.key_verifier import KeyStore, StoredKey
from maxgate.auth.pepper import load_peppers
from maxgate.auth.settings import AuthSettings
from maxgate.errors import ConfigurationError

CHECK_INTERVAL: Final = 5.0
"""Seconds between two looks at the file's time of change."""

_log = structlog.get_logger("auth")


@dataclass(frozen=True, slots=True)
class KeyTable:
    """The keys by their hashes, and the peppers that the hashes were made with."""

    keys: Mapping[bytes, StoredKey]
    peppers: Sequence[bytes]


def load_keys(settings: AuthSettings, state_dir: Path, *, is_optional: bool = False) -> KeyTable:
    """Read keys and peppers; raises ConfigurationError if either is missing or invalid.

    A file that `is_optional` may be missing.
    """
    file = settings.find_key_file(state_dir)
    entries = [] if is_optional and not file.exists() else read_key_file(file)
    peppers = load_peppers(settings, state_dir, create=False)
    if entries and not peppers:
        raise ConfigurationError(
            f"{file}: the pepper that these keys were hashed with is missing. "
            f"Restore {state_dir / 'pepper'}, or set auth.pepper."
        )
    keys = {
        entry.digest: StoredKey(entry.digest, entry.build_identity(), entry.disabled)
        for entry in entries
    }
    return KeyTable(keys, peppers)


class FileKeyStore(KeyStore):
    """Holds the keys of the file; raises ConfigurationError if they are invalid at first.

    A file that `is_optional` may be created later.
    """

    def __init__(
        self, settings: AuthSettings, state_dir: Path, *, is_optional: bool = False
    ) -> None:
        self._settings = settings
        self._state_dir = state_dir
        self._version = self._read_version()
        self._table = load_keys(settings, state_dir, is_optional=is_optional)
        self._lock = asyncio.Lock()

    @property
    @override
    def peppers(self) -> Sequence[bytes]:
        return self._table.peppers

    @override
    def recall(self, digest: bytes) -> StoredKey | None:
        return self._table.keys.get(digest)

    @override
    async def find(self, digest: bytes) -> StoredKey | None:
        return self._table.keys.get(digest)

    async def run(self) -> None:
        """Look at the file at an interval; runs until it is cancelled."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            await self.refresh()

    async def refresh(self) -> None:
        """Read the file if it has changed; if it is invalid, keep the old keys and log why."""
        async with self._lock:  # in a thread, because a disk may hang and a file be large
            table = await asyncio.to_thread(self._load_if_changed)
            if table is not None:
                self._table = table

    def _load_if_changed(self) -> KeyTable | None:
        version = self._read_version()
        if version == self._version:
            return None
        # Before the file is read: a change meanwhile is found by the next look.
        self._version = version
        try:
            table = load_keys(self._settings, self._state_dir)
        except ConfigurationError as error:
            _log.error("the keys were not reloaded, the old ones stay", error=str(error))
            return None
        _log.info("keys reloaded", keys=len(table.keys))
        return table

    def _read_version(self) -> tuple[int, int, int] | None:
        try:
            found = self._settings.find_key_file(self._state_dir).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size
