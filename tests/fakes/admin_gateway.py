"""A gateway with a database of keys, and OpenAI's official client of its admin."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai

from maxgate.stores.identity_store import open_identity_store
from maxgate.stores.migrate import upgrade_database
from maxgate.stores.settings import DatabaseSettings
from tests.fakes.api_keys import PEPPER, bearer
from tests.fakes.gateway import EMBEDDING_CARD, EMBEDDING_MODEL, SMALL_CARD, TLS, Gateway, start
from tests.fakes.max_server import FakeMax
from tests.fakes.stored_keys import StoredKeys

MODEL = "smollm2-135m-instruct"


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
        """Send a request of the admin; other paths than /v1 and /key are below /v1/organization."""
        headers = {**bearer(self.key), **options.pop("headers", {})}
        full = path if path.startswith(("/v1/", "/key/")) else f"/v1/organization{path}"
        return await self.gateway.client.request(method, full, headers=headers, **options)

    async def list_routes(self) -> list[tuple[str, str]]:
        """List method and path of all routes of the organization, as the route table has them."""
        document = (await self.gateway.client.get("/openapi.json", headers=bearer(self.key))).json()
        return [
            (method.upper(), path)
            for path, item in document["paths"].items()
            for method in item
            if path.startswith("/v1/organization/")
        ]

    async def chat(self, key: str, model: str = MODEL) -> tuple[int, str | None]:
        """Return status and error code of a chat with a project's key."""
        self.gateway.client.headers.update(bearer(key))
        response = await self.gateway.chat(model=model)
        return response.status_code, response.json().get("error", {}).get("code")


@asynccontextmanager
async def start_admin_gateway(
    database: DatabaseSettings, state_dir: Path
) -> AsyncIterator[AdminGateway]:
    """Run a gateway with two models, this database without rows and one admin key."""
    await asyncio.to_thread(upgrade_database, database, state_dir)
    store = open_identity_store(database, state_dir)
    key = await StoredKeys(store).add_admin()
    await store.aclose()
    settings: dict[str, Any] = {
        "auth": {"mode": "keys", "pepper": [PEPPER], "max_failures": 1_000_000},
        "database": database,
        "state_dir": state_dir,
        "cards": [SMALL_CARD, EMBEDDING_CARD],
    }
    async with (
        start(FakeMax(models=[MODEL, EMBEDDING_MODEL]), **settings) as gateway,
        openai.AsyncOpenAI(
            base_url=f"{gateway.url}/v1",
            api_key="none",
            admin_api_key=key,
            max_retries=0,
            http_client=httpx.AsyncClient(verify=TLS, timeout=30),
        ) as client,
    ):
        yield AdminGateway(gateway, key, client)


async def fill(gateway: AdminGateway, name: str) -> dict[str, str]:
    """Create a project with one of everything; return the ids by the names of the path."""
    admin = gateway.admin
    project = await admin.projects.create(name=name)
    user = await admin.projects.users.create(project.id, role="member", email=f"{name}@example.com")
    account = await admin.projects.service_accounts.create(project.id, name=f"{name}-bot")
    await admin.projects.model_permissions.update(
        project.id, mode="deny_list", model_ids=[f"{name}-model"]
    )
    month: dict[str, Any] = {"currency": "USD", "interval": "month"}
    await admin.projects.spend_limit.update(project.id, **month, threshold_amount=10_000)
    channel = {"type": "email", "recipients": [f"{name}@example.com"]}
    alert = await admin.projects.spend_alerts.create(
        project.id, **month, threshold_amount=5000, notification_channel=channel
    )
    rate_limit = await admin.projects.rate_limits.update_rate_limit(
        f"rl-{MODEL}", project_id=project.id, max_requests_per_1_minute=1_000_000
    )
    return {
        "project_id": project.id,
        "user_id": user.id,
        "service_account_id": account.id,
        "api_key_id": account.api_key.id,
        "key": account.api_key.value,
        "alert_id": alert.id,
        "rate_limit_id": rate_limit.id,
    }
