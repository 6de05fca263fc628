"""Applies the projects of the database to tokens: whether one is archived, and its models.

Projects are kept in memory within the same bounds as keys, which are promises of docs/jwt.md.
"""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final

import structlog
from typing_extensions import override

from maxgate.auth.database_key_store import (
    LOOK_UP_TIMEOUT,
    MAX_AGE,
    MAX_LOOK_UPS,
    MAX_STALE_AGE,
    MAX_WAITING,
    REFRESH_AGE,
    RETRY_SECONDS,
)
from maxgate.auth.identity import (
    AuthenticationUnavailable,
    Identity,
    InvalidCredential,
    Verifier,
)
from maxgate.auth.key_changes import KeyChangeFollower
from maxgate.auth.key_grants import read_permissions
from maxgate.clock import Clock
from maxgate.errors import StackTrace
from maxgate.stores.identity import IdentityStore, ProjectGrant, StoreUnavailable

MAX_PROJECTS: Final = 10_000
"""Projects in memory; beyond it, the one read first is forgotten."""

_log = structlog.get_logger("auth")


@dataclass(frozen=True, slots=True)
class _Entry:
    """A project in memory, None if there is none; `read_at` is of the monotonic clock."""

    project: ProjectGrant | None
    read_at: float


class TokenProjects(KeyChangeFollower):
    """The projects of the database that tokens name; one in use is found without waiting."""

    def __init__(self, store: IdentityStore, clock: Clock, *, requires_known: bool) -> None:
        self._store = store
        self._clock = clock
        self._requires_known = requires_known
        self._entries: dict[str, _Entry] = {}  # in the order in which they were read
        self._reads: dict[str, asyncio.Task[bool]] = {}
        self._outdated: set[str] = set()
        self._slots = asyncio.Semaphore(MAX_LOOK_UPS)
        self._is_away = False
        self._retry_at = 0.0

    async def apply(self, identity: Identity) -> Identity:
        """Return the identity with the rights of its project.

        Raises InvalidCredential for an archived project, and for an unknown one if it must be
        known; raises AuthenticationUnavailable if the database has not said.
        """
        project_id, now = identity.principal.project_id, self._clock.monotonic()
        entry = self._entries.get(project_id)
        if entry is None or not self._is_usable(entry, now):
            entry = await self._look_up(project_id)
        elif now >= entry.read_at + REFRESH_AGE:
            self._read_soon(project_id)
        if entry.project is None:
            if self._requires_known:
                raise InvalidCredential("unknown_project")
            return identity
        if entry.project.project.archived_at is not None:
            raise InvalidCredential("archived_project")
        models = read_permissions(entry.project.permissions)
        return identity if models is None else replace(identity, project_models=models)

    @override
    def forget(self, ids: Collection[str]) -> None:
        self._outdated.update(self._reads)  # they may have read the old rows
        for project_id in set(ids) & set(self._entries):
            del self._entries[project_id]
            self._read_soon(project_id)

    @override
    def refresh(self) -> None:
        self._outdated.update(self._reads)
        for project_id, entry in self._entries.items():
            self._entries[project_id] = replace(entry, read_at=entry.read_at - MAX_AGE)

    @override
    async def aclose(self) -> None:
        reads = list(self._reads.values())
        for read in reads:
            read.cancel()
        await asyncio.gather(*reads, return_exceptions=True)

    def _is_usable(self, entry: _Entry, now: float) -> bool:
        return now < entry.read_at + (MAX_STALE_AGE if self._is_away else MAX_AGE)

    async def _look_up(self, project_id: str) -> _Entry:
        read = self._read_soon(project_id)
        if read is not None:
            await asyncio.wait([read])  # unlike await, does not pass cancellation on
        entry = self._entries.get(project_id)
        if entry is None or not self._is_usable(entry, self._clock.monotonic()):
            raise AuthenticationUnavailable(
                "The project of the token cannot be verified at the moment, because the database is"
                " unreachable or busy. Try again shortly.",
                retry_after=RETRY_SECONDS,
            )
        return entry

    def _read_soon(self, project_id: str) -> asyncio.Task[bool] | None:
        """Begin to read a project, or join its read; None while the database is away or busy."""
        read = self._reads.get(project_id)
        if read is not None:
            return read
        now = self._clock.monotonic()
        if (self._is_away and now < self._retry_at) or len(self._reads) >= MAX_WAITING:
            return None
        self._retry_at = now + RETRY_SECONDS
        read = asyncio.create_task(self._read(project_id))
        self._reads[project_id] = read
        return read

    async def _read(self, project_id: str) -> bool:
        try:
            async with self._slots:
                while True:
                    self._outdated.discard(project_id)
                    read_at = self._clock.monotonic()
                    async with asyncio.timeout(LOOK_UP_TIMEOUT):
                        found = await self._store.find_project(project_id)
                    if project_id not in self._outdated:
                        break
        except (StoreUnavailable, TimeoutError):
            self._is_away = True  # the look-ups of keys report it
            return False
        except Exception as error:  # noqa: BLE001  # projects in memory must stay valid
            self._is_away = True
            _log.error("a look-up of a project has failed", exception=StackTrace(error))
            return False
        finally:
            del self._reads[project_id]
        self._is_away = False
        self._entries.pop(project_id, None)
        self._entries[project_id] = _Entry(found, read_at)
        if len(self._entries) > MAX_PROJECTS:
            del self._entries[next(iter(self._entries))]
        return True


class ProjectVerifier(Verifier):
    """Verifies tokens by another verifier, and then their projects."""

    def __init__(self, tokens: Verifier, projects: TokenProjects) -> None:
        self._tokens = tokens
        self._projects = projects

    @override
    def accepts(self, credential: str) -> bool:
        return self._tokens.accepts(credential)

    @override
    async def verify(self, credential: str) -> Identity:
        return await self._projects.apply(await self._tokens.verify(credential))
