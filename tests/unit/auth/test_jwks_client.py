"""Fetching public keys: which documents, addresses and keys are trusted."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from joserfc.jwk import OctKey

from maxgate.auth.jwk import MAX_KEYS, read_keys
from maxgate.auth.jwks import ProviderUnavailable
from maxgate.auth.jwks_client import MAX_DOCUMENT_BYTES, JwksClient
from maxgate.auth.jwt_settings import ALGORITHMS
from tests.fakes.oidc_provider import DISCOVERY, ISSUER, OidcProvider, Reply, generate
from tests.unit.auth.jwt_examples import build_settings

CONFIGURATION = "/realm" + DISCOVERY
PUBLIC = {**generate("ES256").as_dict(private=False), "kid": "a"}


async def fetch(provider: OidcProvider, **changes: Any) -> list[str | None]:
    """Fetch the keys, and return their ids."""
    settings = build_settings(**{"issuer": provider.issuer, **changes})
    client = JwksClient(settings, transport=httpx.MockTransport(provider.respond))
    try:
        return [key.key_id for key in await client.fetch()]
    finally:
        await client.aclose()


async def fail(provider: OidcProvider, **changes: Any) -> str:
    """Return the error of the fetch."""
    with pytest.raises(ProviderUnavailable) as failure:
        await fetch(provider, **changes)
    return str(failure.value)


def configure(**changes: Any) -> OidcProvider:
    """Build a provider whose configuration differs."""
    provider = OidcProvider()
    document = {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/jwks", **changes}
    provider.replies[CONFIGURATION] = Reply(body=json.dumps(document).encode())
    return provider


def reply(path: str, *reply: Any) -> OidcProvider:
    """Build a provider that responds to a path in another way."""
    provider = OidcProvider()
    provider.replies[path] = Reply(*reply)
    return provider


async def test_discovery() -> None:
    """The address of the keys comes from the provider's configuration."""
    provider = OidcProvider()
    assert await fetch(provider) == ["key-1"]
    assert provider.requests == [ISSUER + DISCOVERY, ISSUER + "/jwks"]


async def test_slash_at_the_end() -> None:
    """An issuer may end in a slash, which is part of its name and not of its address."""
    provider = OidcProvider(ISSUER + "/")
    assert await fetch(provider) == ["key-1"]
    assert provider.requests == [ISSUER + DISCOVERY, ISSUER + "/jwks"]


async def test_jwks_url() -> None:
    """With a URL of the keys, there is no discovery."""
    provider = OidcProvider()
    assert await fetch(provider, jwks_url=f"{ISSUER}/jwks") == ["key-1"]
    assert provider.requests == [ISSUER + "/jwks"]


@pytest.mark.parametrize(
    ("provider", "error"),
    [
        (configure(issuer="https://evil.example.com"), "is for issuer 'https://evil.example.com'"),
        (configure(issuer=ISSUER + "/"), f"instead of '{ISSUER}'; set jwt.issuer"),
        (configure(issuer=None), "is for issuer 'None'"),
        (configure(jwks_uri=None), "has no jwks_uri; set jwt.jwks_url"),
        (configure(jwks_uri=[ISSUER]), "has no jwks_uri; set jwt.jwks_url"),
        (configure(jwks_uri="http://login.example.com/jwks"), "must start with https://"),
        (configure(jwks_uri="http://127.0.0.1:6379/"), "must start with https://"),
        (configure(jwks_uri="file:///etc/passwd"), "not a URL"),
        (configure(jwks_uri="https://a@b/jwks"), "a URL with credentials"),
        (reply(CONFIGURATION, 200, b"[]"), "is for issuer 'None'"),
        (reply(CONFIGURATION, 200, b"<html>"), "Expecting value"),
        (reply(CONFIGURATION, 200, b"[" * 100_000), "recursion"),
        (reply(CONFIGURATION, 503), "responded with status 503"),
        (reply("/realm/jwks", 404), "responded with status 404"),
        (reply("/realm/jwks", 200, b"{}"), "not a JSON object with a list `keys`"),
        (reply("/realm/jwks", 200, b'{"keys": 1}'), "not a JSON object with a list `keys`"),
        (reply("/realm/jwks", 200, b'{"keys": []}'), "has no public key for ES256"),
        (reply("/realm/jwks", 200, b" " * (MAX_DOCUMENT_BYTES + 1)), "exceeds 262144 bytes"),
        (
            reply("/realm/jwks", 200, b"", (("content-encoding", "gzip"),)),
            "responded with a compressed document",
        ),
        (
            reply("/realm/jwks", 302, b"", (("location", "https://evil.example.com/jwks"),)),
            "redirects to another host",
        ),
        (
            reply("/realm/jwks", 302, b"", (("location", "http://login.example.com/jwks"),)),
            "redirects to another host",
        ),
        (
            reply("/realm/jwks", 302, b"", (("location", "https://login.example.com:444/"),)),
            "redirects to another host",
        ),
        (reply("/realm/jwks", 302, b"", (("location", "jwks"),)), "redirects more than 3 times"),
        (reply("/realm/jwks", 302), "responded with status 302"),
    ],
)
async def test_untrusted(provider: OidcProvider, error: str) -> None:
    """A document that is wrong, too large, or from elsewhere is refused with its cause."""
    assert error in await fail(provider)
    assert all(url.startswith(ISSUER) for url in provider.requests)


async def test_redirect() -> None:
    """The same host may redirect."""
    provider = reply("/realm/jwks", 307, b"", (("location", "/keys"),))
    provider.replies["/keys"] = Reply(body=json.dumps(provider.build_jwks()).encode())
    assert await fetch(provider) == ["key-1"]


async def test_network_error() -> None:
    """An error of the network is reported with its text."""
    provider = OidcProvider()
    provider.failure = httpx.ConnectError("Connection refused")
    assert await fail(provider) == "Connection refused"


async def test_timeout() -> None:
    """A provider that does not respond is given up after the timeout."""
    provider = OidcProvider()
    provider.gate = asyncio.Event()
    assert await fail(provider, timeout=0.01) == "no response within 0.01 s"


@pytest.mark.parametrize(
    "entry",
    [
        None,
        [],
        "key",
        {},
        {**PUBLIC, "kty": "oct"},
        {**PUBLIC, "kty": ["EC"]},
        {**PUBLIC, "kid": 1},
        {**PUBLIC, "kid": "k" * 257},
        {**PUBLIC, "use": "enc"},
        {**PUBLIC, "use": 1},
        {**PUBLIC, "key_ops": ["sign"]},
        {**PUBLIC, "key_ops": 1},
        {**PUBLIC, "alg": "ES384"},
        {**PUBLIC, "crv": "P-384"},
        {**PUBLIC, "crv": "secp256k1"},
        {**PUBLIC, "crv": ["P-256"]},
        {**PUBLIC, "x": PUBLIC["y"]},
        {**PUBLIC, "x": 1},
        {**PUBLIC, "x": "*"},
        {key: value for key, value in PUBLIC.items() if key != "y"},
        {**generate("ES256").as_dict(private=True), "kid": "a"},
        OctKey.generate_key(256).as_dict(private=True),
        {"kty": "RSA", "kid": "a", "n": "A" * 342, "e": "AQAB"},
        {"kty": "RSA", "kid": "a", "n": "_" * 170 + "w", "e": "AQAB"},
        {"kty": "RSA", "kid": "a", "n": "_" * 1368, "e": "AQAB"},
        {"kty": "RSA", "kid": "a", "n": 1, "e": "AQAB"},
        {"kty": "RSA", "kid": "a", "n": "_" * 341 + "w", "e": "AQ"},
        {"kty": "OKP", "kid": "a", "crv": "X25519", "x": "A" * 43},
        {"kty": "AKP", "kid": "a", "pub": "A" * 43},
    ],
)
def test_unusable_key(entry: Any) -> None:
    """Secret, private, weak, damaged and other keys are left out, and the rest is used."""
    found = read_keys({"keys": [entry, PUBLIC]}, ALGORITHMS)
    assert [key.key_id for key in found] == ["a"]
    assert set(found[0].algorithms) == {"ES256"}


def test_too_many_keys() -> None:
    """A document with very many keys is refused."""
    assert len(read_keys({"keys": [PUBLIC] * MAX_KEYS}, ["ES256"])) == MAX_KEYS
    with pytest.raises(ValueError, match="more than 100 keys"):
        read_keys({"keys": [PUBLIC] * (MAX_KEYS + 1)}, ["ES256"])
