"""Fetches the public keys of an identity provider (OpenID Connect Discovery 1.0, section 4)."""

import asyncio
import json
import ssl
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from maxgate.auth.jwk import VerificationKey, read_keys
from maxgate.auth.jwks import ProviderUnavailable
from maxgate.auth.jwt_settings import JwtSettings, check_provider_url, is_loopback_http

MAX_DOCUMENT_BYTES: Final = 262_144
_MAX_REDIRECTS: Final = 3
_HEADERS: Final = {
    "accept": "application/json",
    # Bounds what a response takes in memory by what it takes on the wire.
    "accept-encoding": "identity",
}


class JwksClient:
    """The connections of this process to the identity provider.

    Environment variables such as HTTPS_PROXY have no effect. `transport` replaces the network.
    """

    def __init__(
        self, settings: JwtSettings, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._settings = settings
        self._issuer = settings.issuer or ""
        # Not httpx's own certificates, which lack those of companies.
        verify = transport is not None or ssl.create_default_context(cafile=settings.ca_file)
        self._client = httpx.AsyncClient(
            transport=transport,
            verify=verify,
            trust_env=False,
            headers=_HEADERS,
            timeout=settings.timeout,  # of each step; `fetch` bounds the sum
        )

    async def fetch(self) -> list[VerificationKey]:
        """Fetch the keys; raises ProviderUnavailable, at the latest after the timeout."""
        try:
            async with asyncio.timeout(self._settings.timeout):
                url = self._settings.jwks_url or await self._discover()
                keys = read_keys(await self._read_json(url), self._settings.algorithms)
        except TimeoutError as error:
            reason = f"no response within {self._settings.timeout} s"
            raise ProviderUnavailable(reason) from error
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, RecursionError, OSError) as error:
            raise ProviderUnavailable(str(error) or type(error).__name__) from error
        if not keys:
            algorithms = ", ".join(self._settings.algorithms)
            raise ProviderUnavailable(f"{url} has no public key for {algorithms}")
        return keys

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def _discover(self) -> str:
        url = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
        document = await self._read_json(url)
        issuer = document.get("issuer") if isinstance(document, dict) else None
        if issuer != self._issuer:
            # Also when a multi-tenant provider returns a template.
            raise ProviderUnavailable(
                f"{url} is for issuer {str(issuer)[:200]!r} instead of {self._issuer!r};"
                " set jwt.issuer to the value of `iss` in the tokens, and jwt.jwks_url if that"
                " differs from the issuer of the configuration"
            )
        found = document.get("jwks_uri")
        if not isinstance(found, str):
            raise ProviderUnavailable(f"{url} has no jwks_uri; set jwt.jwks_url")
        try:
            check_provider_url(found, allow_http=is_loopback_http(urlsplit(self._issuer)))
        except ValueError as error:
            raise ProviderUnavailable(f"jwks_uri {found[:200]!r}: {error}") from error
        return found

    async def _read_json(self, url: str) -> Any:
        """Read a document; raises ProviderUnavailable, httpx.HTTPError or ValueError."""
        for _ in range(_MAX_REDIRECTS + 1):
            async with self._client.stream("GET", url) as response:
                if response.next_request is None:
                    return json.loads(await _read_body(response))
                target = response.next_request.url
                if _get_origin(target) != _get_origin(response.url):
                    raise ProviderUnavailable(f"{url} redirects to another host; set jwt.jwks_url")
                url = str(target)
        raise ProviderUnavailable(f"{url} redirects more than {_MAX_REDIRECTS} times")


async def _read_body(response: httpx.Response) -> bytes:
    if response.status_code != 200:
        raise ProviderUnavailable(f"{response.url} responded with status {response.status_code}")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise ProviderUnavailable(f"{response.url} responded with a compressed document")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_DOCUMENT_BYTES:
            raise ProviderUnavailable(f"{response.url} exceeds {MAX_DOCUMENT_BYTES} bytes")
    return bytes(body)


def _get_origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
