"""Settings, claims and verifiers of the tests of JSON Web Tokens."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx
import pytest

from maxgate.auth.identity import Identity, InvalidCredential
from maxgate.auth.jwt_settings import JwtSettings
from maxgate.auth.jwt_verifier import JwtAuthentication, JwtVerifier
from tests.fakes.clock import FakeClock
from tests.fakes.oidc_provider import ISSUER, OidcProvider

NOW: Final = FakeClock().wall()
AUDIENCE: Final = "https://gateway.example.com"


def build_settings(**changes: Any) -> JwtSettings:
    """Build settings for the provider; `changes` replace them."""
    required = {"issuer": ISSUER, "audiences": [AUDIENCE], "algorithms": ["ES256"]}
    return JwtSettings(**{**required, **changes})


def build_claims(**changes: Any) -> dict[str, Any]:
    """Build claims that are valid for an hour; None removes one."""
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "alice",
        "iat": int(NOW) - 10,
        "exp": int(NOW) + 3600,
        **changes,
    }
    return {name: value for name, value in claims.items() if value is not None}


@asynccontextmanager
async def verifying(
    provider: OidcProvider, clock: FakeClock | None = None, **changes: Any
) -> AsyncIterator[JwtVerifier]:
    """Yield a verifier that fetches keys from the provider when it first needs them."""
    authentication = JwtAuthentication(
        build_settings(**changes),
        clock=clock or FakeClock(),
        transport=httpx.MockTransport(provider.respond),
    )
    try:
        yield authentication.verifier
    finally:
        await authentication.aclose()


async def verify(provider: OidcProvider, token: str, **changes: Any) -> Identity:
    """Verify one token by a new verifier."""
    async with verifying(provider, **changes) as verifier:
        return await verifier.verify(token)


async def refuse(provider: OidcProvider, token: str, **changes: Any) -> str:
    """Return the reason why a token is refused; its error must not show the token."""
    with pytest.raises(InvalidCredential) as refusal:
        await verify(provider, token, **changes)
    assert all(part not in str(refusal.value) for part in token.split(".") if len(part) > 5)
    return refusal.value.reason
