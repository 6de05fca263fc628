"""Grants of keys in memory, as a database has them; it can be away or slow."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

from typing_extensions import override

from maxgate.stores.identity import (
    ApiKey,
    IdentityStore,
    IdentityTransaction,
    KeyGrant,
    Project,
    ProjectGrant,
    StoreUnavailable,
)
from tests.fakes.limit_store import FakeLimitStore


class FakeIdentityStore(IdentityStore):
    """Holds `grants` by digest and `projects` by id; `reads` are the digests of all look-ups."""

    def __init__(self) -> None:
        self.grants: dict[bytes, KeyGrant] = {}
        self.projects: dict[str, ProjectGrant] = {}
        self.project_reads: list[str] = []
        self.reads: list[bytes] = []
        self.running = 0
        self.most_running = 0
        self.touched: list[dict[str, int]] = []
        self.is_away = False
        self.bug: Exception | None = None
        self.is_open = asyncio.Event()
        self.is_open.set()
        self.limits = FakeLimitStore()

    def add(self, digest: bytes, **fields: Any) -> KeyGrant:
        """Add a key of the project `red`, whose owner is a member of it."""
        key = ApiKey(
            **{
                "project_id": "red",
                "id": f"key_{digest.decode()}",
                "name": "",
                "owner_type": "user",
                "owner_id": "ann",
                "digest": digest,
                "redacted_value": "sk-mg-…",
                "created_at": 0,
                **fields,
            }
        )
        grant = KeyGrant(key, Project(key.project_id, "", 0), "member")
        self.grants[digest] = grant
        return grant

    def change(self, digest: bytes, **fields: Any) -> None:
        """Change fields of a key."""
        grant = self.grants[digest]
        self.grants[digest] = replace(grant, key=replace(grant.key, **fields))

    @override
    def transaction(self) -> AbstractAsyncContextManager[IdentityTransaction]:
        raise NotImplementedError

    @override
    async def find_grant(self, digests: Sequence[bytes]) -> KeyGrant | None:
        [digest] = digests
        self.reads.append(digest)
        found = self.grants.get(digest)  # as of now, however late the reply
        await self._respond()
        return found

    @override
    async def find_project(self, project_id: str) -> ProjectGrant | None:
        self.project_reads.append(project_id)
        found = self.projects.get(project_id)
        await self._respond()
        return found

    async def _respond(self) -> None:
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            await self.is_open.wait()
        finally:
            self.running -= 1
        if self.bug is not None:
            raise self.bug
        if self.is_away:
            raise StoreUnavailable("connection refused")

    @override
    async def touch_keys(self, used_at: Mapping[str, int]) -> None:
        if self.is_away:
            raise StoreUnavailable("connection refused")
        self.touched.append(dict(used_at))

    @override
    async def aclose(self) -> None:
        pass
