"""Tokens of real identity providers: one of the Python index, and a minimal one over a socket."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from typing_extensions import override

from maxgate.auth.identity import AuthenticationUnavailable, InvalidCredential
from maxgate.auth.jwt_settings import JwtSettings
from maxgate.auth.jwt_verifier import JwtAuthentication
from tests.conftest import ROOT
from tests.fakes.clock import FakeClock
from tests.fakes.oidc_provider import OidcProvider
from tests.fakes.server import serving

CLIENT: Final = "gateway"
TLS: Final = ROOT / "tests" / "data" / "tls"
_USER: Final = '{"sub": "alice", "team": "team-a", "roles": ["ops"]}'


class _Clock(FakeClock):
    """Intervals pass when the test says so; tokens have real dates."""

    @override
    def wall(self) -> float:
        return time.time()


class ProviderProcess:
    """The provider of the package oidc-provider-mock, which makes a new key at each start."""

    def __init__(self, port: int) -> None:
        self.issuer = f"http://127.0.0.1:{port}"
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = ["--port", str(self._port), "--user-claims", _USER]
        command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", *options]
        output = subprocess.DEVNULL
        self._process = subprocess.Popen(command, stdout=output, stderr=output)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                httpx.get(f"{self.issuer}/jwks", trust_env=False)
            except httpx.TransportError:
                os.sched_yield()
            else:
                return
        raise TimeoutError("the provider has not started")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def log_in(self, user: str = "alice") -> str:
        """Log in by the authorization code flow, and return the ID token."""
        redirect = "http://localhost/callback"
        client = {"client_id": CLIENT, "redirect_uri": redirect}
        with httpx.Client(base_url=self.issuer, trust_env=False) as browser:
            query = {**client, "response_type": "code", "scope": "openid"}
            page = browser.post("/oauth2/authorize", params=query, data={"sub": user})
            code = parse_qs(urlsplit(page.headers["location"]).query)["code"][0]
            grant = {"grant_type": "authorization_code", "code": code, "client_secret": "x"}
            response = browser.post("/oauth2/token", data={**client, **grant})
            return str(response.json()["id_token"])


@contextmanager
def run_provider() -> Iterator[ProviderProcess]:
    """Run the provider on a free port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    provider = ProviderProcess(port)
    provider.start()
    try:
        yield provider
    finally:
        provider.stop()


def authenticate(issuer: str, clock: FakeClock, **changes: Any) -> JwtAuthentication:
    """Build the verification of tokens of a provider."""
    settings = {"audiences": [CLIENT], "algorithms": ["RS256"], **changes}
    return JwtAuthentication(JwtSettings(issuer=issuer, **settings), clock=clock)


async def test_provider_of_others() -> None:
    """A token is verified through an outage; after a restart, only those of the new key are."""
    clock = _Clock()
    with run_provider() as provider:
        mapping = {"project_claim": "team", "groups_claim": "roles", "allowed_groups": ["ops"]}
        authentication = authenticate(provider.issuer, clock, **mapping)
        verifier = authentication.verifier
        try:
            tokens = [provider.log_in() for _ in range(2)]
            identity = await verifier.verify(tokens[0])
            assert identity.principal.project_id == "team-a"
            with pytest.raises(InvalidCredential) as refusal:
                await verifier.verify(provider.log_in("bob"))
            assert refusal.value.reason == "no_groups"

            provider.stop()
            clock.advance(800)
            assert await verifier.verify(tokens[0]) is identity
            assert (await verifier.verify(tokens[1])).principal == identity.principal

            clock.advance(101)
            with pytest.raises(AuthenticationUnavailable):
                await verifier.verify(tokens[0])

            provider.start()
            clock.advance(10)
            renewed = await verifier.verify(provider.log_in())
            assert renewed.principal == identity.principal
            with pytest.raises(InvalidCredential) as refusal:
                await verifier.verify(tokens[0])
            assert refusal.value.reason in {"unknown_key", "wrong_signature"}
        finally:
            await authentication.aclose()


async def test_roll_over() -> None:
    """The provider adds a key, signs with it, and withdraws the old one: no token is refused."""
    provider, clock = OidcProvider(algorithm="RS256"), _Clock()
    async with serving(provider) as url:
        provider.issuer = url
        authentication = authenticate(url, clock)
        verifier = authentication.verifier
        claims = {"iss": url, "aud": CLIENT, "sub": "alice", "exp": int(time.time()) + 600}
        try:
            old = await verifier.verify(provider.sign(claims, "key-1"))
            provider.add_key("key-2", "RS256")
            clock.advance(10)
            new = await verifier.verify(provider.sign(claims, "key-2"))
            assert old.principal == new.principal
            assert await verifier.verify(provider.sign(claims, "key-1")) is old
            del provider.keys["key-1"]
            assert await verifier.verify(provider.sign(claims, "key-2")) is new
        finally:
            await authentication.aclose()
    assert provider.requests == ["/.well-known/openid-configuration", "/jwks"] * 2


async def test_private_ca() -> None:
    """A provider behind TLS is trusted with its CA file, and not without."""
    provider = OidcProvider()
    files = {"ssl_keyfile": str(TLS / "key.pem"), "ssl_certfile": str(TLS / "ca.pem")}
    async with serving(provider, **files) as plain:
        provider.issuer = plain.replace("http://", "https://")
        claims = {"iss": provider.issuer, "aud": CLIENT, "sub": "a", "exp": time.time() + 600}
        for ca_file in (TLS / "ca.pem", None):
            options = {"algorithms": ["ES256"], "ca_file": ca_file}
            authentication = authenticate(provider.issuer, _Clock(), **options)
            try:
                if ca_file is not None:
                    await authentication.verifier.verify(provider.sign(claims))
                else:
                    with pytest.raises(AuthenticationUnavailable):
                        await authentication.verifier.verify(provider.sign(claims))
            finally:
                await authentication.aclose()
    assert provider.requests == ["/.well-known/openid-configuration", "/jwks"]


async def test_background() -> None:
    """Once started, keys are fetched before the first token, and all tasks end with it."""
    provider = OidcProvider()
    async with serving(provider) as url:
        provider.issuer = url
        authentication = authenticate(url, _Clock(), algorithms=["ES256"])
        authentication.start()
        claims = {"iss": url, "aud": CLIENT, "sub": "alice", "exp": int(time.time()) + 600}
        identity = await authentication.verifier.verify(provider.sign(claims))
        await authentication.aclose()
    assert identity.principal.owner_id.startswith("user:")
    assert provider.requests == ["/.well-known/openid-configuration", "/jwks"]
