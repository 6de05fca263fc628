"""Clients authenticate by tokens of an identity provider, through the whole gateway."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import openai
import pytest
from typing_extensions import override

from maxgate.app import create_app
from maxgate.auth.database_key_store import MAX_AGE
from maxgate.auth.organization.changes import COMMAND_LINE, Organization
from maxgate.auth.organization.projects import (
    archive_project,
    create_project,
    delete_model_permissions,
    set_model_permissions,
)
from maxgate.settings import Settings
from maxgate.stores.identity_store import open_identity_store
from maxgate.stores.settings import DatabaseSettings
from tests.clients.openai_client import create_client
from tests.fakes.api_keys import PEPPER, KeyFolder, bearer
from tests.fakes.clock import FakeClock
from tests.fakes.gateway import SMALL_CARD, TLS, StartGateway
from tests.fakes.max_server import FakeMax
from tests.fakes.oidc_provider import DISCOVERY, OidcProvider, Reply
from tests.fakes.processes import api_server
from tests.fakes.server import serving
from tests.integration.test_oidc_provider import CLIENT, run_provider

HELLO: Final[Any] = [{"role": "user", "content": "Hello"}]
MODEL: Final = "smollm2-135m-instruct"
_DOWN: Final = Reply(500)


class _Clock(FakeClock):
    """Intervals and the lives of tokens pass when the test says so."""

    @override
    def wall(self) -> float:
        return time.time() + self.monotonic() - FakeClock().monotonic()


def build_jwt(issuer: str, **changes: Any) -> dict[str, Any]:
    """Build the section `jwt` for a provider."""
    return {"issuer": issuer, "audiences": [CLIENT], "algorithms": ["RS256"], **changes}


@asynccontextmanager
async def running(
    provider: OidcProvider, clock: FakeClock, **changes: Any
) -> AsyncIterator[tuple[str, str]]:
    """Yield the URLs of a gateway with its own clock, and of a provider with these keys."""
    async with serving(FakeMax()) as engine, serving(provider) as issuer:
        provider.issuer = issuer
        chosen = Settings.model_validate(
            {
                "engines": [engine],
                "cards": [SMALL_CARD],
                "auth": {"mode": "jwt"},
                "jwt": build_jwt(issuer, **changes),
            }
        )
        async with serving(create_app(chosen, clock=clock)) as url:
            yield url, issuer


def build_claims(issuer: str, lifetime: float = 600, **claims: Any) -> dict[str, Any]:
    """Build the claims of a valid token."""
    return {"iss": issuer, "aud": CLIENT, "sub": "a", "exp": int(time.time() + lifetime), **claims}


async def chat(url: str, credential: str) -> str:
    """Chat by the official SDK, and return the text."""
    async with create_client(url).with_options(api_key=credential) as client:
        completion = await client.chat.completions.create(model=MODEL, messages=HELLO)
    return completion.choices[0].message.content or ""


async def test_client(start_gateway: StartGateway, tmp_path: Path) -> None:
    """The SDK chats and streams with a token of a real provider, and keys work beside it."""
    keys = KeyFolder(tmp_path)
    key = keys.add()
    with run_provider() as provider:
        settings = {**keys.settings, "jwt": build_jwt(provider.issuer, project_claim="team")}
        settings["auth"] = {**settings["auth"], "mode": "keys+jwt"}
        async with start_gateway(**settings) as gateway:
            token = provider.log_in()
            assert await chat(gateway.url, token) == await chat(gateway.url, key)
            async with create_client(gateway.url).with_options(api_key=token) as client:
                stream = await client.chat.completions.create(
                    model=MODEL, messages=HELLO, stream=True
                )
                reasons = [chunk.choices[0].finish_reason async for chunk in stream]
            assert reasons[-1] == "stop"

            provider.stop()
            assert await chat(gateway.url, token)
            with pytest.raises(openai.AuthenticationError):
                await chat(gateway.url, token[:-8] + "AAAAAAAA")


async def test_roll_over_and_outage() -> None:
    """New keys are fetched, known ones outlive an outage, and unknown ones get 503 in it."""
    provider, clock = OidcProvider(algorithm="RS256"), _Clock()
    async with running(provider, clock) as (url, issuer):
        old, other = (provider.sign(build_claims(issuer, 5000, jti=jti)) for jti in "ab")
        assert await chat(url, old)
        provider.add_key("key-2", "RS256")
        clock.advance(10)
        assert await chat(url, provider.sign(build_claims(issuer, 5000)))

        provider.replies = dict.fromkeys((DISCOVERY, "/jwks"), _DOWN)
        clock.advance(600)
        assert await chat(url, old)
        assert await chat(url, other)
        provider.add_key("key-3", "RS256")
        with pytest.raises(openai.InternalServerError) as refusal:
            await chat(url, provider.sign(build_claims(issuer, 5000)))
        assert (refusal.value.status_code, refusal.value.code) == (
            503,
            "authentication_unavailable",
        )


async def test_expired() -> None:
    """A token that has worked is refused once it expires, leeway included."""
    provider, clock = OidcProvider(algorithm="RS256"), _Clock()
    async with running(provider, clock) as (url, issuer):
        token = provider.sign(build_claims(issuer, 60))
        assert await chat(url, token)
        clock.advance(85)
        assert await chat(url, token)
        clock.advance(10)
        with pytest.raises(openai.AuthenticationError):
            await chat(url, token)


async def test_claims() -> None:
    """Claims decide about models and the admin API."""
    provider, clock = OidcProvider(algorithm="RS256"), _Clock()
    mapping = {"models_claim": "models", "admin_groups": ["ops"]}
    async with running(provider, clock, **mapping) as (url, issuer):
        admin = provider.sign(build_claims(issuer, models=[MODEL], groups=["ops"]))
        user = provider.sign(build_claims(issuer, models=["other"]))
        assert await chat(url, admin)
        with pytest.raises(openai.NotFoundError):
            await chat(url, user)
        async with httpx.AsyncClient(base_url=url, verify=TLS) as client:
            statuses = [
                (await client.get("/admin/engines", headers=bearer(token))).status_code
                for token in (admin, user)
            ]
        assert statuses == [200, 403]


async def test_projects_of_database(tmp_path: Path) -> None:
    """A token has the models of its project in the database, and none once it is archived."""
    provider, clock = OidcProvider(algorithm="RS256"), _Clock()
    async with serving(FakeMax()) as engine, serving(provider) as issuer:
        provider.issuer = issuer
        settings = {
            "engines": [engine],
            "cards": [SMALL_CARD],
            "state_dir": tmp_path,
            "auth": {"mode": "keys+jwt", "pepper": [PEPPER]},
            "jwt": build_jwt(issuer, project_claim="team", require_known_project=True),
        }
        store = open_identity_store(DatabaseSettings(), tmp_path)
        organization = Organization(store, lambda: [PEPPER.encode()], clock)
        async with organization.change(COMMAND_LINE) as change:
            await create_project(change, "Red", "red")
        token, other = (
            provider.sign(build_claims(issuer, 5000, team=team)) for team in ("red", "blue")
        )

        async def try_chat(credential: str) -> int:
            clock.advance(MAX_AGE)
            try:
                return 200 if await chat(url, credential) else 0
            except openai.APIStatusError as error:
                return error.status_code

        async with serving(create_app(Settings.model_validate(settings), clock=clock)) as url:
            statuses = [await try_chat(credential) for credential in (token, other)]
            async with organization.change(COMMAND_LINE) as change:
                await set_model_permissions(change, "red", "deny_list", [MODEL])
            statuses.append(await try_chat(token))
            async with organization.change(COMMAND_LINE) as change:
                await delete_model_permissions(change, "red")
            statuses.append(await try_chat(token))
            async with organization.change(COMMAND_LINE) as change:
                await archive_project(change, "red")
            statuses.append(await try_chat(token))
        await store.aclose()
    assert statuses == [200, 401, 404, 200, 401]


async def test_process() -> None:
    """A gateway process authenticates by tokens, and shows no part of one."""
    provider = OidcProvider(algorithm="RS256")
    async with serving(FakeMax()) as engine, serving(provider) as issuer:
        provider.issuer = issuer
        environment = {
            "MAXGATE_AUTH__MODE": "jwt",
            "MAXGATE_JWT__ISSUER": issuer,
            "MAXGATE_JWT__AUDIENCES": CLIENT,
            "MAXGATE_JWT__ALGORITHMS": "RS256",
        }
        flags = ("--engine-url", engine, "--card", str(SMALL_CARD))
        async with api_server(*flags, **environment) as server:
            tokens = [
                provider.sign(build_claims(issuer, **claims)) for claims in ({}, {"aud": "b"})
            ]
            assert await chat(server.url, tokens[0])
            with pytest.raises(openai.AuthenticationError) as refusal:
                await chat(server.url, tokens[1])
            async with httpx.AsyncClient(
                base_url=server.url, headers=bearer(tokens[0]), verify=TLS
            ) as client:
                pages = [(await client.get(path)).text for path in ("/health", "/metrics")]
            server.process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(server.process.wait(), 30)
            texts = [*pages, str(refusal.value), *server.lines]
    assert any('"reason":"wrong_audience"' in line for line in server.lines)
    for part in (part for token in tokens for part in token.split(".")):
        assert not any(part in text for text in texts)
