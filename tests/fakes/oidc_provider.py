"""A minimal OpenID Connect provider, whose keys, responses and failures the test decides."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from functools import cache
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import httpx
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
from joserfc.jws import JWSRegistry
from joserfc.util import urlsafe_b64encode

ISSUER: Final = "https://login.example.com/realm"
DISCOVERY: Final = "/.well-known/openid-configuration"


def generate(kind: str, number: int = 0) -> Key:
    """Generate a private key for an algorithm; equal arguments give the same one."""
    return _generate(kind, number)


@cache
def _generate(kind: str, number: int) -> Key:
    if kind in {"EdDSA", "Ed25519"}:
        return OKPKey.generate_key("Ed25519")
    if kind.startswith("ES"):
        return ECKey.generate_key({"256": "P-256", "384": "P-384", "512": "P-521"}[kind[2:]])
    return RSAKey.generate_key(2048)


def encode_json(value: Any) -> str:
    """Encode a part of a token; a string is taken as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return urlsafe_b64encode(text.encode()).decode()


def sign(header: Any, claims: Any, key: Any, algorithm: str) -> str:
    """Sign any two texts or objects by any algorithm, as an attacker might."""
    signed = f"{encode_json(header)}.{encode_json(claims)}"
    signature = JWSRegistry.algorithms[algorithm].sign(signed.encode(), key)
    return f"{signed}.{urlsafe_b64encode(signature).decode()}"


class Reply(NamedTuple):
    """A response of the provider."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


class _Body(httpx.AsyncByteStream):
    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._content), 65_536):
            yield self._content[start : start + 65_536]


class OidcProvider:
    """Publishes keys, and signs tokens with the one that was added last.

    `requests` has the URLs in order. `replies` has responses to paths, and `failure` an exception
    in place of all responses; requests wait for `gate`, if there is one.
    """

    def __init__(self, issuer: str = ISSUER, algorithm: str = "ES256") -> None:
        self.issuer = issuer
        self.keys: dict[str, tuple[str, Key]] = {}
        self.requests: list[str] = []
        self.replies: dict[str, Reply] = {}
        self.failure: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.add_key("key-1", algorithm)

    def add_key(self, key_id: str, algorithm: str = "ES256") -> None:
        """Publish one more key."""
        self.keys[key_id] = algorithm, generate(algorithm, len(self.keys))

    def sign(
        self,
        claims: Mapping[str, Any],
        key_id: str | None = None,
        header: Mapping[str, Any] | None = None,
    ) -> str:
        """Sign a token."""
        key_id = key_id or list(self.keys)[-1]
        algorithm, key = self.keys[key_id]
        head = {"alg": algorithm, "typ": "JWT", "kid": key_id, **(header or {})}
        return sign(head, dict(claims), key, algorithm)

    def build_jwks(self) -> dict[str, Any]:
        """Build the document with the public keys."""
        return {
            "keys": [
                {**key.as_dict(private=False), "kid": key_id, "alg": algorithm, "use": "sig"}
                for key_id, (algorithm, key) in self.keys.items()
            ]
        }

    async def respond(self, request: httpx.Request) -> httpx.Response:
        """Respond to a request, for httpx.MockTransport."""
        self.requests.append(str(request.url))
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        reply = self._build_reply(request.url.path)
        return httpx.Response(reply.status, headers=[*reply.headers], stream=_Body(reply.body))

    def _build_reply(self, path: str) -> Reply:
        base = urlsplit(self.issuer).path.rstrip("/")
        configuration = {"issuer": self.issuer, "jwks_uri": f"{self.issuer.rstrip('/')}/jwks"}
        replies = {
            base + DISCOVERY: Reply(body=json.dumps(configuration).encode()),
            f"{base}/jwks": Reply(body=json.dumps(self.build_jwks()).encode()),
            **self.replies,
        }
        return replies.get(path, Reply(404))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Respond over a socket, as an ASGI application."""
        if scope["type"] == "lifespan":
            for event in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{event}.complete"})
            return
        self.requests.append(scope["path"])
        reply = self._build_reply(scope["path"])
        headers = [(name.encode(), value.encode()) for name, value in reply.headers]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})
