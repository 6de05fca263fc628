"""The keys of a gateway: those of a file come first, then those of a database."""

import asyncio
from collections.abc import Collection, Sequence
from pathlib import Path

import structlog
from typing_extensions import override

from maxgate.auth.database_key_store import DatabaseKeyStore
from maxgate.auth.file_key_store import FileKeyStore
from maxgate.auth.key_changes import KeyChangeFollower, KeyChangePublisher, KeyChanges
from maxgate.auth.key_verifier import KeyStore, StoredKey
from maxgate.auth.pepper import load_peppers
from maxgate.auth.settings import AuthSettings
from maxgate.clock import Clock
from maxgate.stores.identity import IdentityStore

_log = structlog.get_logger("auth")


class KeySources(KeyStore, KeyChangePublisher):
    """The file of keys, and the database if there is one.

    With a database, the file may be missing, unless `auth.keys_file` names it. The peppers are
    those of the file's store; without a file, those at the start. Raises ConfigurationError if keys
    or peppers cannot be read.
    """

    def __init__(
        self,
        settings: AuthSettings,
        state_dir: Path,
        clock: Clock,
        identities: IdentityStore | None = None,
        changes: KeyChanges | None = None,
        followers: Sequence[KeyChangeFollower] = (),
    ) -> None:
        has_database = identities is not None
        had_pepper = bool(load_peppers(settings, state_dir, create=False))
        peppers = load_peppers(settings, state_dir, create=has_database)
        if peppers and not had_pepper:
            _log.warning(
                "a pepper was generated; keys that were hashed with another one are refused",
                file=str(state_dir.expanduser() / "pepper"),
            )
        is_optional = has_database and settings.keys_file is None
        self._file = FileKeyStore(settings, state_dir, is_optional=is_optional)
        self._identities = identities
        self._database = (
            None
            if identities is None
            else DatabaseKeyStore(identities, peppers, clock, changes, followers)
        )

    @property
    @override
    def peppers(self) -> Sequence[bytes]:
        return self._file.peppers

    @override
    def recall(self, digest: bytes) -> StoredKey | None:
        key = self._file.recall(digest)
        if key is not None or self._database is None:
            return key
        return self._database.recall(digest)

    @override
    async def find(self, digest: bytes) -> StoredKey | None:
        key = await self._file.find(digest)
        if key is not None or self._database is None:
            return key
        return await self._database.find(digest)

    async def refresh(self) -> None:
        """Read the file again if it has changed, and keys of the database before their next use."""
        if self._database is not None:
            self._database.refresh()
        await self._file.refresh()

    @override
    async def publish(self, ids: Collection[str]) -> None:
        # In this process they take effect at once, and in other gateways as docs/keys.md says.
        if self._database is not None:
            await self._database.announce(ids)

    async def run(self) -> None:
        """Keep the keys up to date; runs until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._file.run())
            if self._database is not None:
                tasks.create_task(self._database.run())

    async def aclose(self) -> None:
        """Write times of use, and close the database."""
        if self._database is not None:
            await self._database.aclose()
        if self._identities is not None:
            await self._identities.aclose()
