"""Verifies JSON Web Tokens in compact form (RFC 7519, RFC 8725).

Needs the extra `jwt`; import it within `requires_extra("auth.mode jwt", "jwt")`.
"""

import json
import secrets
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import httpx
from typing_extensions import override

from maxgate.auth.identity import Identity, InvalidCredential, Verifier
from maxgate.auth.jwk import MAX_KEY_ID_LENGTH, VerificationKey, decode_base64
from maxgate.auth.jwks import Jwks
from maxgate.auth.jwks_client import JwksClient
from maxgate.auth.jwt_claims import ClaimsReader
from maxgate.auth.jwt_settings import JwtSettings
from maxgate.clock import Clock, SystemClock

MAX_TOKEN_LENGTH: Final = 16_384

_PREFIX: Final = "eyJ"
"""Every compact form of a header begins with `{"`."""
_TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt", "application/jwt"})
# Extensions that change how a token is read (RFC 7515, section 4.1.11; RFC 7797), and nested
# tokens. Headers that name keys, such as `jku`, are legal and have no effect.
_REFUSED_HEADERS: Final = ("crit", "b64", "cty", "enc", "zip")


class _Entry(NamedTuple):
    identity: Identity
    expires_at: float
    key: VerificationKey


class _Header(NamedTuple):
    algorithm: str
    key_id: str | None


class JwtVerifier(Verifier):
    """Verifies tokens of one issuer; each valid one is verified in full only once.

    Remembers the hash of a token until it expires, or its key is withdrawn or too old. The key of
    the hash is random, so clients cannot construct collisions. Errors and logs contain no token.
    """

    def __init__(self, settings: JwtSettings, jwks: Jwks, clock: Clock) -> None:
        self._algorithms = frozenset(settings.algorithms)
        self._claims = ClaimsReader(settings)
        self._jwks = jwks
        self._clock = clock
        self._hash_key = secrets.token_bytes(32)
        self._cache: OrderedDict[bytes, _Entry] = OrderedDict()
        self._cache_size = settings.cache_size

    @override
    def accepts(self, credential: str) -> bool:
        return credential.startswith(_PREFIX)

    @override
    async def verify(self, credential: str) -> Identity:
        if len(credential) > MAX_TOKEN_LENGTH:
            raise InvalidCredential("too_long")
        if not credential.isascii():
            raise InvalidCredential("malformed")
        token = credential.encode()
        digest = blake2b(token, key=self._hash_key, digest_size=32).digest()
        now = self._clock.wall()
        entry = self._cache.get(digest)
        if entry is not None:
            if now < entry.expires_at and self._jwks.holds(entry.key):
                self._cache.move_to_end(digest)
                return entry.identity
            del self._cache[digest]
        entry = await self._verify(credential)
        self._cache[digest] = entry
        if len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)
        return entry.identity

    async def _verify(self, credential: str) -> _Entry:
        parts = credential.split(".")
        if len(parts) != 3:
            raise InvalidCredential("malformed")
        header = self._check_header(_decode_object(parts[0]))
        key = await self._jwks.find(header.key_id, header.algorithm)
        signed, _, _ = credential.rpartition(".")
        if not key.verifies(header.algorithm, signed.encode(), _decode(parts[2])):
            raise InvalidCredential("wrong_signature")
        # Nothing is read from claims before their signature is verified.
        identity = self._claims.read(_decode_object(parts[1]), self._clock.wall())
        return _Entry(identity, identity.expires_at or 0, key)

    def _check_header(self, header: dict[str, Any]) -> _Header:
        if any(name in header for name in _REFUSED_HEADERS):
            raise InvalidCredential("unsupported_header")
        algorithm, token_type, key_id = (
            header.get("alg"),
            header.get("typ", "JWT"),
            header.get("kid"),
        )
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            raise InvalidCredential("wrong_algorithm")
        if not isinstance(token_type, str) or token_type.lower() not in _TYPES:
            raise InvalidCredential("wrong_type")
        if key_id is not None and not (
            isinstance(key_id, str) and 0 < len(key_id) <= MAX_KEY_ID_LENGTH
        ):
            raise InvalidCredential("malformed")
        return _Header(algorithm, key_id)


class JwtAuthentication:
    """A verifier with its connections and its task, which fetches keys from `start` to `aclose`."""

    def __init__(
        self,
        settings: JwtSettings,
        *,
        clock: Clock | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        clock = clock or SystemClock()
        self._client = JwksClient(settings, transport=transport)
        self._jwks = Jwks(self._client.fetch, settings, clock)
        self.verifier = JwtVerifier(settings, self._jwks, clock)

    def start(self) -> None:
        """Start to fetch keys; needs a running event loop. Tokens wait for the first fetch."""
        self._jwks.start()

    async def aclose(self) -> None:
        """Stop fetching, and close the connections."""
        await self._jwks.aclose()
        await self._client.aclose()


def _decode(part: str) -> bytes:
    try:
        return decode_base64(part)
    except ValueError:
        raise InvalidCredential("malformed") from None


def _decode_object(part: str) -> dict[str, Any]:
    """Decode a part of a token; names that occur twice and NaN are refused."""
    try:
        text = _decode(part).decode()
        value = json.loads(text, object_pairs_hook=_build_object, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        # The cause would show the token in a traceback.
        raise InvalidCredential("malformed") from None
    if not isinstance(value, dict):
        raise InvalidCredential("malformed")
    return value


def _build_object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name occurs twice")
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
