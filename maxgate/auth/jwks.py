"""The public keys of an identity provider (JWKS, RFC 7517): fetched, refreshed and kept.

Fetching never depends on a token: `jku`, `x5u` and `jwk` in its header are ignored, and unknown
key ids cause at most one fetch in `unknown_key_interval`.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from maxgate.auth.identity import AuthenticationUnavailable, InvalidCredential
from maxgate.auth.jwk import VerificationKey
from maxgate.auth.jwt_settings import JwtSettings
from maxgate.clock import Clock
from maxgate.errors import MaxgateError

FetchKeys = Callable[[], Awaitable[Sequence[VerificationKey]]]

# Workers that start together must not fetch together.
_JITTER: Final = 0.2

_log = structlog.get_logger("auth")


class ProviderUnavailable(MaxgateError):
    """The identity provider cannot be reached, or its response is invalid."""


class Jwks:
    """The current public keys of the provider.

    `fetch` returns them or raises ProviderUnavailable. One task fetches them at the start and at an
    interval; callers that need a fetch share it. Keys that are still published stay the same
    objects. After a failure, the known keys remain in use for `max_stale` seconds.
    """

    def __init__(self, fetch: FetchKeys, settings: JwtSettings, clock: Clock) -> None:
        self._fetch = fetch
        self._settings = settings
        self._clock = clock
        self._keys: frozenset[VerificationKey] = frozenset()
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._failed_since: float | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._background: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start to fetch in the background."""
        self._background = asyncio.create_task(self._refresh_regularly())

    async def aclose(self) -> None:
        """Stop fetching; the tasks have ended afterwards."""
        tasks = [task for task in (self._background, self._fetching) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def holds(self, key: VerificationKey) -> bool:
        """Whether the key is still published, as far as known, and recent enough to be used."""
        return key in self._keys and not self._is_stale()

    async def find(self, key_id: str | None, algorithm: str) -> VerificationKey:
        """Find the key of a token, after a fetch if it is unknown and one is due.

        A token without key id is accepted if only one key suits its algorithm. Raises
        InvalidCredential, or AuthenticationUnavailable if the provider might know the key.
        """
        key = self._select(key_id, algorithm)
        if key is None or self._is_stale():
            await self._refresh_if_due()
            key = self._select(key_id, algorithm)
        if self._is_stale() or (key is None and self._failed_since is not None):
            raise AuthenticationUnavailable(
                "The token cannot be verified at the moment, because the identity provider is"
                " unreachable. Try again shortly.",
                retry_after=self._settings.unknown_key_interval,
            )
        if key is None:
            raise InvalidCredential("unknown_key")
        return key

    def _select(self, key_id: str | None, algorithm: str) -> VerificationKey | None:
        named = [key for key in self._keys if key_id is None or key.key_id == key_id]
        suitable = [key for key in named if algorithm in key.algorithms]
        if named and not suitable:
            raise InvalidCredential("wrong_algorithm")
        return suitable[0] if len(suitable) == 1 else None

    def _is_stale(self) -> bool:
        age = None if self._fetched_at is None else self._clock.monotonic() - self._fetched_at
        return age is None or age > self._settings.max_stale

    async def _refresh_if_due(self) -> None:
        age = None if self._tried_at is None else self._clock.monotonic() - self._tried_at
        is_due = age is None or age >= self._settings.unknown_key_interval
        if is_due or self._fetching is not None:
            await self._refresh()

    async def _refresh_regularly(self) -> None:
        while True:
            await self._refresh()
            pause = self._settings.refresh_interval
            if self._failed_since is not None:
                pause = min(pause, self._settings.unknown_key_interval)
            await asyncio.sleep(pause * (1 - _JITTER * random.random()))  # noqa: S311  # no secret

    async def _refresh(self) -> None:
        """Fetch the keys, or wait for the fetch that is in progress."""
        if self._fetching is None:
            self._tried_at = self._clock.monotonic()
            self._fetching = asyncio.create_task(self._replace_keys())
        # Unlike await, does not pass cancellation on, neither to the fetch nor to callers.
        await asyncio.wait([self._fetching])

    async def _replace_keys(self) -> None:
        try:
            fetched = await self._fetch()
        except ProviderUnavailable as error:
            self._report_failure(str(error))
        except Exception as error:  # noqa: BLE001  # the refreshes must go on
            self._report_failure("a bug in the gateway", error)
        else:
            self._accept(fetched)
        finally:
            self._fetching = None

    def _accept(self, fetched: Sequence[VerificationKey]) -> None:
        known = {key.fingerprint: key for key in self._keys}
        keys = frozenset(known.get(key.fingerprint, key) for key in fetched)
        now = self._clock.monotonic()
        if self._failed_since is not None:
            seconds = round(now - self._failed_since, 1)
            _log.info("The identity provider is available again", seconds=seconds)
        elif self._fetched_at is not None and keys != self._keys:
            added, removed = len(keys - self._keys), len(self._keys - keys)
            _log.info("The identity provider changed its keys", added=added, removed=removed)
        self._keys = keys
        self._fetched_at = now
        self._failed_since = None

    def _report_failure(self, reason: str, bug: Exception | None = None) -> None:
        if self._failed_since is None:
            self._failed_since = self._clock.monotonic()
            _log.warning(
                "The identity provider is unavailable",
                issuer=self._settings.issuer,
                error=reason,
                **({"exc_info": bug} if bug else {}),
            )
