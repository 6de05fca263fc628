"""Attacks on authentication, through the whole gateway: refused before the body is read."""

import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

import pytest
from joserfc.util import urlsafe_b64encode

from maxgate.app import create_app
from maxgate.auth.api_key import generate_key
from maxgate.settings import Settings
from maxgate.stores.identity_store import open_identity_store
from maxgate.stores.migrate import upgrade_database
from maxgate.stores.settings import DatabaseSettings
from tests.fakes.api_keys import PEPPER, KeyFolder
from tests.fakes.asgi import SentMessages, http_scope
from tests.fakes.oidc_provider import OidcProvider, encode_json, generate, sign
from tests.fakes.server import serving
from tests.fakes.stored_keys import StoredKeys

AUDIENCE: Final = "gateway"
Header = tuple[bytes, bytes]
Send = Callable[..., Awaitable[tuple[int, Any]]]


def forge_hmac(header: dict[str, Any], claims: dict[str, Any], secret: bytes) -> str:
    """Sign by HMAC with a secret, such as the text of a public key."""
    signed = f"{encode_json(header)}.{encode_json(claims)}"
    digest = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{urlsafe_b64encode(digest).decode()}"


def list_tokens(provider: OidcProvider) -> Iterator[str]:
    """List tokens that must be refused."""
    now = int(time.time())
    claims = {"iss": provider.issuer, "aud": AUDIENCE, "sub": "a", "exp": now + 600}
    valid = provider.sign(claims)
    head, body, signature = valid.split(".")
    for name in ("none", "None", "NONE", "nOnE", ""):
        for end in ("", signature):
            yield f"{encode_json({'alg': name, 'kid': 'key-1'})}.{body}.{end}"
    public = generate("RS256").as_pem(private=False)
    for secret in (
        public,
        public.strip(),
        b"",
        b"secret",
        json.dumps(provider.build_jwks()).encode(),
    ):
        yield forge_hmac({"alg": "HS256", "kid": "key-1"}, claims, secret)
        yield forge_hmac({"alg": "RS256", "kid": "key-1"}, claims, secret)
    for changes in (
        {"aud": "other"},
        {"aud": []},
        {"aud": None},
        {"aud": [AUDIENCE, 1]},
        {"aud": AUDIENCE.upper()},
        {"iss": "https://attacker.example"},
        {"iss": f"{provider.issuer}/"},
        {"iss": None},
        {"exp": now - 3600},
        {"exp": None},
        {"exp": str(now + 600)},
        {"exp": 1e300},
        {"nbf": now + 3600},
        {"iat": now + 3600},
        {"sub": None},
        {"sub": "a\nb"},
        {"sub": ["a"]},
        {"sub": "a" * 300},
    ):
        yield provider.sign({**claims, **changes})
    attacker = generate("RS256", 9)
    jwk = attacker.as_dict(private=False)
    for tricks in (
        {"jku": "https://attacker.example/jwks"},
        {"jwk": jwk},
        {"x5u": "https://attacker.example/cert"},
        {"x5c": ["AAAA"]},
        {"kid": "../../../../dev/null"},
        {"kid": "' UNION SELECT 'key'--"},
        {"kid": "key-1\n2026 forged log line"},
        {"kid": "|/bin/sh"},
        {"kid": "a" * 5000},
        {"kid": ["key-1"]},
        {"crit": ["exp"]},
        {"b64": False},
        {"zip": "DEF"},
        {"cty": "JWT"},
        {"typ": "logout+jwt"},
    ):
        yield sign({"alg": "RS256", "kid": "key-1", **tricks}, claims, attacker, "RS256")
    yield from (f"{head}.{body}", f"{valid}.", f"{head}..{signature}", f"{valid}{'A' * 20_000}")
    yield from (f"{head}.{body}.", f"{head}.{body}.{signature[:-4]}", "eyJ", "eyJ..", "eyJ" * 9000)


def list_headers(provider: OidcProvider, key: str) -> Iterator[list[Header]]:
    """List headers that must be refused."""
    for token in list_tokens(provider):
        yield [(b"authorization", f"Bearer {token}".encode())]
    yield from list_key_headers(key)


def list_key_headers(key: str) -> Iterator[list[Header]]:
    """List headers with other keys than the valid one, or none, that must be refused."""
    valid = key.encode()
    for text in (
        b"' OR '1'='1",
        b"sk-mg-' OR 1=1--",
        b"sk-mg-'; DROP TABLE api_keys;--",
        b"sk-mg-%",
        b"*",
        b"sk-mg-" + b"\x00" * 43,
        valid + b"\r\nx-admin: 1",
        valid + b"\n2026 forged log line",
        b"\xff\xfe",
        b"sk-mg-" + b"a" * 30_000,
        valid[:-1],
        valid + b"a",
        valid.upper(),
    ):
        yield [(b"authorization", b"Bearer " + text)]
        yield [(b"x-api-key", text)]
        yield [(b"api-key", text)]
    authorization = (b"authorization", b"Bearer " + valid)
    other = generate_key().encode()
    yield [authorization, authorization]
    yield [authorization, (b"authorization", b"Bearer " + other)]
    yield [authorization, (b"x-api-key", other)]
    yield [(b"x-api-key", valid), (b"api-key", other)]
    yield [(b"authorization", b"Basic " + valid)]
    yield [(b"proxy-authorization", b"Bearer " + valid)]
    yield [(b"x-forwarded-authorization", b"Bearer " + valid)]
    yield [(b"cookie", b"api_key=" + valid)]
    yield from ([(b"authorization", b"Bearer " + generate_key().encode())] for _ in range(100))


async def test_attacks(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Each has the one 401, before its body is read, and at most one line in the log."""
    keys, provider = KeyFolder(tmp_path), OidcProvider(algorithm="RS256")
    key = keys.add()
    async with serving(provider) as issuer:
        provider.issuer = issuer
        auth = {**keys.settings["auth"], "mode": "keys+jwt", "max_failures": 1_000_000}
        jwt = {"issuer": issuer, "audiences": [AUDIENCE], "algorithms": ["RS256"]}
        settings = {"auth": auth, "jwt": jwt, "database": {"url": "none"}}
        app = create_app(Settings.model_validate(settings))
        async with app.router.lifespan_context(app):
            attempts = list(list_headers(provider, key))
            for headers in attempts:
                sent = SentMessages()
                scope = http_scope("POST", "/v1/chat/completions", headers=headers)
                await app({**scope, "client": ("127.0.0.1", 1)}, refuse_to_read, sent)
                assert (sent.status, json.loads(sent.body)["error"]["code"]) in {
                    (401, "invalid_api_key"),
                    (431, "headers_too_large"),
                }, headers
            # Valid ones are accepted, so the attempts were not refused for another reason.
            now = int(time.time())
            token = provider.sign({"iss": issuer, "aud": AUDIENCE, "sub": "a", "exp": now + 600})
            for credential in (key, token):
                sent = SentMessages()
                headers = [(b"authorization", f"Bearer {credential}".encode())]
                scope = http_scope("GET", "/v1/models", headers=headers)
                await app(
                    {**scope, "client": ("127.0.0.1", 1), "query_string": b""}, refuse_to_read, sent
                )
                assert sent.status == 200
    output = "".join(capfd.readouterr())
    assert key not in output
    assert all("authentication failed" in line for line in output.splitlines() if "forged" in line)
    assert not any(line.startswith("2026 forged") for line in output.splitlines())
    assert len(attempts) == 209


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> DatabaseSettings:
    """A database of each kind with tables."""
    settings = DatabaseSettings()
    if request.param == "postgres":
        url = request.getfixturevalue("postgres").url
        settings = DatabaseSettings(url=url, schema_name=f"test_{uuid4().hex}")
    upgrade_database(settings, tmp_path)
    return settings


@asynccontextmanager
async def run_with_database(
    database: DatabaseSettings, state_dir: Path, **auth: Any
) -> AsyncIterator[tuple[Send, StoredKeys]]:
    """Yield a function that sends a request with headers, and the keys in the database."""
    store = open_identity_store(database, state_dir)
    settings = {
        "auth": {"mode": "keys", "pepper": [PEPPER], **auth},
        "database": database,
        "state_dir": state_dir,
    }
    app = create_app(Settings.model_validate(settings))

    async def send(path: str, headers: list[Header], method: str = "GET") -> tuple[int, Any]:
        sent = SentMessages()
        path, _, query = path.partition("?")
        scope = http_scope(method, path, headers=headers)
        peer = {"client": ("127.0.0.1", 1), "query_string": query.encode()}
        await app({**scope, **peer}, refuse_to_read, sent)
        return sent.status, json.loads(sent.body)

    yield send, StoredKeys(store)
    await app.state.organization._store.aclose()
    await store.aclose()


async def test_attacks_on_database(
    database: DatabaseSettings, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Keys that are looked up in a database are refused in the same way, and rows stay."""
    async with run_with_database(database, tmp_path, max_failures=1_000_000) as (send, keys):
        key = await keys.add()
        attempts = list(list_key_headers(key))
        for headers in attempts:
            status, body = await send("/v1/chat/completions", headers, "POST")
            assert (status, body["error"]["code"]) in {
                (401, "invalid_api_key"),
                (431, "headers_too_large"),
            }, headers
        assert (await send("/v1/models", [(b"authorization", b"Bearer " + key.encode())]))[0] == 200
        stored = await keys.find()
    assert (len(attempts), stored.id) == (147, "key_1")
    assert key not in "".join(capfd.readouterr())


async def test_brute_force_on_database(database: DatabaseSettings, tmp_path: Path) -> None:
    """Guesses of an address are refused without a look-up that delays others; good keys work."""
    async with run_with_database(database, tmp_path, max_failures=5) as (send, keys):
        key = await keys.add()
        statuses = []
        for _ in range(300):
            guess = generate_key().encode()
            statuses.append((await send("/v1/models", [(b"api-key", guess)]))[0])
        found = await send("/v1/models", [(b"api-key", key.encode())])
    assert (statuses[:5], set(statuses[5:]), found[0]) == ([401] * 5, {429}, 200)


INJECTIONS: Final = (
    "' OR '1'='1",
    "'; DROP TABLE api_keys;--",
    "x' UNION SELECT digest FROM key_digests--",
    '" OR ""="',
    "%",
    "_",
    "\\' OR 1=1--",
    "$1",
    ":digests",
    "%(id)s",
    "null",
)


async def test_injections(database: DatabaseSettings, tmp_path: Path) -> None:
    """SQL in ids, filters and cursors matches nothing, and changes nothing."""
    async with run_with_database(database, tmp_path) as (send, keys):
        await keys.add()
        admin = [(b"authorization", b"Bearer " + (await keys.add_admin()).encode())]
        organization, found = "/v1/organization", set[tuple[int, Any]]()
        for text in INJECTIONS:
            value = quote(text, safe="")
            for path in (
                f"/projects/{text}",
                f"/projects/proj_key_1/api_keys/{text}",
                f"/users/{text}",
                f"/projects?after={value}",
                f"/users?emails[]={value}",
                f"/audit_logs?actor_ids[]={value}&event_types[]={value}",
                f"/audit_logs?resource_ids[]={value}&project_ids[]={value}",
            ):
                status, body = await send(organization + path, admin)
                found.add((status, body["error"]["code"] if "error" in body else len(body["data"])))
            status, body = await send(f"/key/info?key={value}", admin)
            found.add((status, body["error"]["code"]))
        stored = await keys.find()
        status, projects = await send(f"{organization}/projects", admin)
    assert found == {(404, "not_found"), (400, None), (200, 0)}
    assert (stored.id, status, len(projects["data"])) == ("key_1", 200, 1)


async def refuse_to_read() -> dict[str, Any]:
    """Fail the test: no body is read before the response."""
    raise AssertionError("the body was read")
