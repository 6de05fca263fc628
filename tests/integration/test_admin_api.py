"""OpenAI's admin API with its official client, in front of both databases."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import openai
import pytest

from maxgate.auth.api_key import is_well_formed
from maxgate.stores.identity_store import open_identity_store
from maxgate.stores.migrate import upgrade_database
from maxgate.stores.settings import DatabaseSettings
from tests.fakes.api_keys import PEPPER, bearer
from tests.fakes.gateway import EMBEDDING_CARD, EMBEDDING_MODEL, SMALL_CARD, TLS, Gateway, start
from tests.fakes.max_server import FakeMax
from tests.fakes.postgres_server import PostgresServer
from tests.fakes.stored_keys import StoredKeys

MODEL = "smollm2-135m-instruct"
HELLO: Any = [{"role": "user", "content": "Hello"}]


@dataclass
class AdminGateway:
    """A gateway with a database, and the official client with an admin's key."""

    gateway: Gateway
    key: str
    client: openai.AsyncOpenAI

    @property
    def admin(self) -> Any:
        """The official admin client."""
        return self.client.admin.organization

    async def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request of the admin; `path` is below /v1/organization."""
        headers = {**bearer(self.key), **options.pop("headers", {})}
        return await self.gateway.client.request(
            method, f"/v1/organization{path}", headers=headers, **options
        )

    async def chat(self, key: str, model: str = MODEL) -> tuple[int, str | None]:
        """Return status and error code of a chat with a project's key."""
        self.gateway.client.headers.update(bearer(key))
        response = await self.gateway.chat(model=model)
        return response.status_code, response.json().get("error", {}).get("code")


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> DatabaseSettings:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return DatabaseSettings()
    postgres: PostgresServer = request.getfixturevalue("postgres")
    return DatabaseSettings(url=postgres.url, schema_name=f"test_{uuid4().hex}")


@pytest.fixture
async def running(database: DatabaseSettings, tmp_path: Path) -> AsyncIterator[AdminGateway]:
    """A gateway with two models, this database and one admin key."""
    await asyncio.to_thread(upgrade_database, database, tmp_path)
    store = open_identity_store(database, tmp_path)
    key = await StoredKeys(store).add_admin()
    await store.aclose()
    settings: dict[str, Any] = {
        "auth": {"mode": "keys", "pepper": [PEPPER], "max_failures": 1_000_000},
        "database": database,
        "state_dir": tmp_path,
        "cards": [SMALL_CARD, EMBEDDING_CARD],
    }
    async with start(FakeMax(models=[MODEL, EMBEDDING_MODEL]), **settings) as gateway:
        http_client = httpx.AsyncClient(verify=TLS)
        async with openai.AsyncOpenAI(
            base_url=f"{gateway.url}/v1",
            api_key="none",
            admin_api_key=key,
            max_retries=0,
            http_client=http_client,
        ) as client:
            yield AdminGateway(gateway, key, client)


async def test_life_of_a_key(running: AdminGateway) -> None:
    """A project gets an account, its key chats, is rotated and revoked, and the log has it all."""
    admin = running.admin
    project = await admin.projects.create(name="Research")
    account = await admin.projects.service_accounts.create(project.id, name="bot")
    key = account.api_key.value
    assert is_well_formed(key)
    assert await running.chat(key) == (200, None)

    await admin.projects.model_permissions.update(project.id, mode="deny_list", model_ids=[MODEL])
    assert await running.chat(key) == (404, "model_not_found")
    await admin.projects.model_permissions.update(project.id, mode="allow_list", model_ids=[MODEL])
    assert await running.chat(key) == (200, None)

    path = f"/projects/{project.id}/api_keys/{account.api_key.id}"
    rotated = await running.send("POST", f"{path}/rotate", json={"grace_seconds": 60})
    new = rotated.json()["value"]
    assert [await running.chat(k) for k in (key, new)] == [(200, None)] * 2

    await admin.projects.api_keys.delete(account.api_key.id, project_id=project.id)
    assert [await running.chat(k) for k in (key, new)] == [(401, "invalid_api_key")] * 2

    events = await admin.audit_logs.list(project_ids=[project.id], limit=100)
    assert [event.type for event in reversed(events.data)] == [
        "project.created",
        "service_account.created",
        "api_key.created",
        "project.updated",
        "project.updated",
        "api_key.updated",
        "api_key.deleted",
    ]
    assert {event.actor.api_key.id for event in events.data} == {"key_admin"}


def list_routes(document: dict[str, Any]) -> list[tuple[str, str]]:
    """List the organization's routes of the live route table, as the document has it."""
    return [
        (method.upper(), path)
        for path, item in document["paths"].items()
        for method in item
        if path.startswith("/v1/organization/")
    ]


async def test_refused_keys(running: AdminGateway) -> None:
    """Every route, unknown ones included, is closed to keys of projects and without a key."""
    client, admin = running.gateway.client, running.admin
    project = await admin.projects.create(name="Research")
    key = (await admin.projects.service_accounts.create(project.id, name="bot")).api_key.value
    before = (await running.send("GET", "/audit_logs?limit=100")).json()
    document = (await client.get("/openapi.json", headers=bearer(running.key))).json()
    routes = list_routes(document)
    assert len(routes) >= 33
    unknown = ["/v1/organization", "/v1/organization/", "/v1/organization/costs"]
    for method, path in [*routes, *(("GET", path) for path in unknown)]:
        filled = re.sub("{[^}]*}", project.id, path)
        responses = [
            await client.request(method, filled, json={"name": "a"}, headers=headers)
            for headers in (bearer(key), {})
        ]
        found = [(r.status_code, r.json()["error"]["code"]) for r in responses]
        assert found == [(403, "insufficient_permissions"), (401, "invalid_api_key")], filled
    assert (await running.send("GET", "/audit_logs?limit=100")).json() == before
