"""Keys in a database, which may be away: each worker keeps those in use in memory.

The bounds are promises of docs/keys.md.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from typing_extensions import override

from maxgate.auth.identity import AuthenticationUnavailable
from maxgate.auth.key_changes import POLL_INTERVAL, KeyChangeFollower, KeyChanges, NoKeyChanges
from maxgate.auth.key_grants import GrantedKey, read_grant
from maxgate.auth.key_verifier import KeyStore, StoredKey
from maxgate.clock import Clock
from maxgate.errors import StackTrace
from maxgate.stores.identity import IdentityStore, StoreUnavailable

MAX_AGE: Final = 60.0
"""Seconds for which a key is used as it was read, counted from the beginning of the read."""
REFRESH_AGE: Final = 30.0
"""Age in seconds from which a key in use is read again in the background."""
MAX_STALE_AGE: Final = 900.0
"""The same as MAX_AGE while the database is away."""
REFUSED_AGE: Final = 5.0
"""Seconds for which an unknown or disabled key is refused without a look-up."""
MAX_KEYS: Final = 100_000
"""Keys in memory; beyond it, the one read first is forgotten."""
MAX_UNKNOWN: Final = 10_000
"""Unknown keys in memory, apart from the others."""
MAX_LOOK_UPS: Final = 2
"""Concurrent look-ups of keys in memory, and as many of others: less than all connections."""
MAX_WAITING: Final = 256
"""Look-ups of keys that are not in memory, waiting ones included; further ones get 503."""
LOOK_UP_TIMEOUT: Final = 2.0
RETRY_SECONDS: Final = 1.0
"""Interval of trial look-ups while the database is away; all others fail at once."""
TOUCH_INTERVAL: Final = 60.0
"""Seconds between two writes of `last_used_at`."""

_TOUCH_BATCH: Final = 500
_NEVER: Final = float("-inf")

_log = structlog.get_logger("auth")


@dataclass(slots=True)
class _Entry:
    """A key in memory; times are of the monotonic clock."""

    granted: GrantedKey
    key: StoredKey
    read_at: float
    refresh_at: float
    expires_at: float
    used_at: float
    touched_at: float


class _Lane:
    """Look-ups of one kind, which cannot delay those of the other."""

    def __init__(self, max_waiting: float) -> None:
        self.slots = asyncio.Semaphore(MAX_LOOK_UPS)
        self.waiting = 0
        self.max_waiting = max_waiting


class DatabaseKeyStore(KeyStore):
    """Finds keys in the database; one in use is found in memory, without waiting.

    While the database is away, keys in memory stay valid for MAX_STALE_AGE. `followers` forget
    what the same changes affect. Call `run` and `aclose` on the same event loop as the rest.
    """

    def __init__(
        self,
        store: IdentityStore,
        peppers: Sequence[bytes],
        clock: Clock,
        changes: KeyChanges | None = None,
        followers: Sequence[KeyChangeFollower] = (),
    ) -> None:
        self._followers = followers
        self._store = store
        self._peppers = peppers
        self._clock = clock
        self._changes = changes or NoKeyChanges()
        # In the order in which they were read.
        self._entries: dict[bytes, _Entry] = {}
        self._unknown: dict[bytes, float] = {}
        self._reads: dict[bytes, asyncio.Task[bool]] = {}
        self._outdated: set[bytes] = set()
        self._known_lane = _Lane(float("inf"))  # bounded by MAX_KEYS
        self._unknown_lane = _Lane(MAX_WAITING)
        self._away_since: float | None = None
        self._retry_at = 0.0

    @property
    @override
    def peppers(self) -> Sequence[bytes]:
        return self._peppers

    @override
    def recall(self, digest: bytes) -> StoredKey | None:
        now = self._clock.monotonic()
        entry = self._entries.get(digest)
        if entry is None or now >= entry.refresh_at:
            return None
        entry.used_at = now
        return entry.key

    @override
    async def find(self, digest: bytes) -> StoredKey | None:
        now = self._clock.monotonic()
        entry = self._entries.get(digest)
        if entry is None:
            if now < self._unknown.get(digest, _NEVER):
                return None
            return await self._look_up(digest, self._unknown_lane)
        entry.used_at = now
        if now < entry.refresh_at:
            return entry.key
        if now < entry.expires_at or self._may_be_stale(entry, now):
            self._read_soon(digest, self._known_lane)
            return entry.key
        return await self._look_up(digest, self._known_lane)

    async def announce(self, ids: Collection[str]) -> None:
        """Read keys again after a change, in this process and in other gateways.

        `ids` are those of the changed keys, or of projects, users and service accounts whose keys
        are affected. Call it when the change is committed.
        """
        self.forget(ids)
        await self._changes.publish(ids)

    def refresh(self) -> None:
        """Read each key again before its next use, if the database is there."""
        self._outdated.update(self._reads)
        self._unknown.clear()
        for entry in self._entries.values():
            entry.refresh_at = entry.expires_at = _NEVER
        for follower in self._followers:
            follower.refresh()

    def forget(self, ids: Collection[str]) -> None:
        """Forget these keys, and those of these projects and owners, and read them again.

        While the database is away, they are refused with AuthenticationUnavailable.
        """
        self._outdated.update(self._reads)  # they may have read the old rows
        changed = [
            digest
            for digest, entry in self._entries.items()
            if not entry.granted.ids.isdisjoint(ids)
        ]
        for digest in changed:
            del self._entries[digest]
            self._read_soon(digest, self._known_lane)
        for follower in self._followers:
            follower.forget(ids)

    async def run(self) -> None:
        """Follow changes, and write times of use; runs until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_repeat(self.follow_changes, POLL_INTERVAL))
            tasks.create_task(_repeat(self.touch, TOUCH_INTERVAL))

    async def follow_changes(self) -> None:
        """Take over the changes since the last call."""
        ids, is_complete = await self._changes.poll()
        if ids:
            self.forget(ids)
        if not is_complete:
            for entry in self._entries.values():
                entry.refresh_at = _NEVER
            for follower in self._followers:
                follower.refresh()

    async def touch(self) -> None:
        """Write when keys were used since the last call, if the database is there."""
        now, wall = self._clock.monotonic(), self._clock.wall()
        while self._entries:  # those that nobody has used for long
            digest, oldest = next(iter(self._entries.items()))
            if now < oldest.read_at + MAX_STALE_AGE:
                break
            del self._entries[digest]
        used = [
            (entry, entry.used_at)
            for entry in self._entries.values()
            if entry.used_at > entry.touched_at and not entry.key.is_disabled
        ]
        for start in range(0, len(used), _TOUCH_BATCH):
            batch = used[start : start + _TOUCH_BATCH]
            times = {entry.granted.key_id: int(wall - now + at) for entry, at in batch}
            if self._away_since is not None:
                return
            try:
                async with asyncio.timeout(LOOK_UP_TIMEOUT):
                    await self._store.touch_keys(times)
            except (StoreUnavailable, TimeoutError):
                return  # the look-ups report it
            for entry, at in batch:
                entry.touched_at = at

    async def aclose(self) -> None:
        """Write times of use, and end all look-ups; the database stays open."""
        await self.touch()
        reads = list(self._reads.values())
        for read in reads:
            read.cancel()
        await asyncio.gather(*reads, return_exceptions=True)
        for follower in self._followers:
            await follower.aclose()
        await self._changes.aclose()

    def _may_be_stale(self, entry: _Entry, now: float) -> bool:
        return self._away_since is not None and now < entry.read_at + MAX_STALE_AGE

    async def _look_up(self, digest: bytes, lane: _Lane) -> StoredKey | None:
        read = self._read_soon(digest, lane)
        if read is not None:
            # Unlike await, does not pass cancellation on, neither to the read nor to callers.
            await asyncio.wait([read])
            if not read.cancelled() and read.result():
                found = self._entries.get(digest)
                return None if found is None else found.key
        entry = self._entries.get(digest)  # it may have been forgotten meanwhile
        if entry is not None and self._clock.monotonic() < entry.read_at + MAX_STALE_AGE:
            return entry.key
        raise AuthenticationUnavailable(
            "The key cannot be verified at the moment, because the database is unreachable or"
            " busy. Try again shortly.",
            retry_after=RETRY_SECONDS,
        )

    def _read_soon(self, digest: bytes, lane: _Lane) -> asyncio.Task[bool] | None:
        """Begin to read a key, or join its read; None while the database is away or too busy.

        The result is whether the database has responded.
        """
        read = self._reads.get(digest)
        if read is not None:
            return read
        is_trial = self._away_since is not None
        if is_trial:
            now = self._clock.monotonic()
            if now < self._retry_at:
                return None
            self._retry_at = now + RETRY_SECONDS
        elif lane.waiting >= lane.max_waiting:
            return None
        lane.waiting += 1
        read = asyncio.create_task(self._read(digest, lane, is_trial=is_trial))
        self._reads[digest] = read
        return read

    async def _read(self, digest: bytes, lane: _Lane, *, is_trial: bool) -> bool:
        try:
            async with lane.slots:
                if self._away_since is not None and not is_trial:
                    return False  # another look-up has failed meanwhile
                while True:
                    self._outdated.discard(digest)
                    read_at = self._clock.monotonic()
                    async with asyncio.timeout(LOOK_UP_TIMEOUT):
                        grant = await self._store.find_grant([digest])
                    if digest not in self._outdated:
                        break
            granted = None if grant is None else read_grant(grant, digest)
        except TimeoutError:
            return self._report_failure(f"no response within {LOOK_UP_TIMEOUT} s")
        except StoreUnavailable as error:
            return self._report_failure(str(error))
        except Exception as error:  # noqa: BLE001  # keys in memory must stay valid
            return self._report_failure("a bug in the gateway", StackTrace(error))
        finally:
            lane.waiting -= 1
            del self._reads[digest]
            self._outdated.discard(digest)
        self._report_success()
        self._keep(digest, granted, read_at)
        return True

    def _keep(self, digest: bytes, granted: GrantedKey | None, read_at: float) -> None:
        previous = self._entries.pop(digest, None)
        self._unknown.pop(digest, None)
        if granted is None:
            if len(self._unknown) >= MAX_UNKNOWN:
                del self._unknown[next(iter(self._unknown))]
            self._unknown[digest] = self._clock.monotonic() + REFUSED_AGE
            return
        if len(self._entries) >= MAX_KEYS:
            del self._entries[next(iter(self._entries))]
        is_disabled = granted.key.is_disabled
        self._entries[digest] = _Entry(
            granted,
            granted.key,
            read_at,
            refresh_at=read_at + (REFUSED_AGE if is_disabled else REFRESH_AGE),
            expires_at=read_at + (REFUSED_AGE if is_disabled else MAX_AGE),
            used_at=read_at if previous is None else previous.used_at,
            touched_at=_NEVER if previous is None else previous.touched_at,
        )

    def _report_failure(self, reason: str, trace: str | None = None) -> bool:
        now = self._clock.monotonic()
        self._retry_at = now + RETRY_SECONDS
        if self._away_since is None:
            self._away_since = now
            details = {} if trace is None else {"exception": trace}
            _log.warning("API keys are verified from memory", error=reason, **details)
        return False

    def _report_success(self) -> None:
        if self._away_since is not None:
            seconds = round(self._clock.monotonic() - self._away_since, 1)
            self._away_since = None
            _log.info("API keys are verified by the database again", seconds=seconds)


async def _repeat(work: Callable[[], Awaitable[None]], interval: float) -> None:
    while True:
        try:
            await work()
        except Exception as error:  # noqa: BLE001  # the next time must come
            _log.error("a task of the key store failed", exception=StackTrace(error))
        await asyncio.sleep(interval)
