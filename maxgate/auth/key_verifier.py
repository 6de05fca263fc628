"""Verifies API keys; where their hashes are kept is up to a KeyStore."""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from typing_extensions import override

from maxgate.auth.api_key import PREFIX, hash_key, is_well_formed
from maxgate.auth.identity import (
    AuthenticationUnavailable,
    Identity,
    InvalidCredential,
    Verifier,
)
from maxgate.clock import Clock

MAX_REMEMBERED: Final = 100_000
"""Keys whose HMAC each worker remembers."""


@dataclass(frozen=True, slots=True)
class StoredKey:
    """The record of a key: its hash, and the identity of callers that have it."""

    digest: bytes
    identity: Identity
    is_disabled: bool = False


class KeyStore(Protocol):
    """Finds keys by their hashes."""

    @property
    def peppers(self) -> Sequence[bytes]:
        """The peppers that keys may be hashed with, the newest first."""
        ...

    def recall(self, digest: bytes) -> StoredKey | None:
        """Return the key with this hash if it is in memory and may be used as it is."""
        del digest
        return None

    async def find(self, digest: bytes) -> StoredKey | None:
        """Return the key with this hash; raises AuthenticationUnavailable if that is not known."""
        ...


class KeyVerifier(Verifier):
    """Verifies API keys by the HMAC of the whole key.

    A look-up by HMAC reveals nothing by its duration: clients cannot choose the HMAC. The HMACs of
    keys that were found are remembered, because computing one takes longer than all the rest; the
    store still decides about every request.
    """

    def __init__(self, store: KeyStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._digests: dict[str, bytes] = {}

    @override
    def accepts(self, credential: str) -> bool:
        return credential.startswith(PREFIX)

    @override
    async def verify(self, credential: str) -> Identity:
        digest = self._digests.get(credential)
        key = None
        if digest is not None:
            key = self._store.recall(digest) or await self._store.find(digest)
        if key is None or digest is None or not hmac.compare_digest(key.digest, digest):
            key = await self._find(credential)
        if key.is_disabled:
            raise InvalidCredential("revoked")
        identity = key.identity
        if identity.expires_at is not None and self._clock.wall() >= identity.expires_at:
            raise InvalidCredential("expired")
        return identity

    async def _find(self, credential: str) -> StoredKey:
        self._digests.pop(credential, None)
        if not is_well_formed(credential):
            raise InvalidCredential("malformed")
        unavailable: AuthenticationUnavailable | None = None
        for pepper in self._store.peppers:
            digest = hash_key(credential, pepper)
            try:
                key = await self._store.find(digest)
            except AuthenticationUnavailable as error:  # another hash may be known
                unavailable = error
                continue
            if key is not None and hmac.compare_digest(key.digest, digest):
                if len(self._digests) >= MAX_REMEMBERED:
                    self._digests.clear()
                self._digests[credential] = digest
                return key
        raise unavailable or InvalidCredential("unknown_key")
