"""Limits that are set by the admin APIs are enforced, and their alerts are sent."""

import json
from pathlib import Path
from typing import Any

from maxgate.stores.identity_store import open_identity_store
from maxgate.stores.limits import StoredLimit
from maxgate.stores.settings import DatabaseSettings
from tests.fakes.admin_gateway import MODEL, AdminGateway
from tests.fakes.api_keys import PEPPER, bearer
from tests.fakes.gateway import SMALL_CARD, start
from tests.fakes.max_server import FakeMax
from tests.fakes.server import serving
from tests.fakes.stored_keys import StoredKeys
from tests.fakes.waiting import until


async def test_rate_limit(sqlite_admin_gateway: AdminGateway) -> None:
    """A rate limit applies to the next request, and its removal too."""
    gateway = sqlite_admin_gateway
    project = await gateway.admin.projects.create(name="Research")
    account = await gateway.admin.projects.service_accounts.create(project.id, name="bot")
    key = account.api_key.value
    rate_limits = gateway.admin.projects.rate_limits
    found = [await gateway.chat(key)]
    for amount in (0, 2**53 - 1):
        await rate_limits.update_rate_limit(
            f"rl-{MODEL}", project_id=project.id, max_requests_per_1_minute=amount
        )
        found.append(await gateway.chat(key))
    assert found == [(200, None), (429, "rate_limit_exceeded"), (200, None)]


async def test_key_limits(sqlite_admin_gateway: AdminGateway) -> None:
    """A key of LiteLLM's routes has its limit from its first request on."""
    gateway = sqlite_admin_gateway
    response = await gateway.gateway.client.post(
        "/key/generate", headers=bearer(gateway.key), json={"rpm_limit": 1}
    )
    key = response.json()["key"]
    found = [await gateway.chat(key) for _ in range(2)]
    assert found == [(200, None), (429, "rate_limit_exceeded")]


async def test_budget(sqlite_admin_gateway: AdminGateway) -> None:
    """A spend limit of nothing refuses nothing without prices."""
    gateway = sqlite_admin_gateway
    project = await gateway.admin.projects.create(name="Research")
    account = await gateway.admin.projects.service_accounts.create(project.id, name="bot")
    fields: Any = {"currency": "USD", "interval": "month", "threshold_amount": 1}
    await gateway.admin.projects.spend_limit.update(project.id, **fields)
    assert await gateway.chat(account.api_key.value) == (200, None)


async def test_alert(tmp_path: Path) -> None:
    """A budget that is used up is reported to the webhook, signed, once."""
    store = open_identity_store(DatabaseSettings(), tmp_path)
    key = await StoredKeys(store).add()
    budget = StoredLimit(
        *("", "limit_1", "organization", "", "", "requests", "day", 1, 0), is_budget=True
    )
    async with store.transaction() as rows:
        await rows.limits.add(budget)
    await store.aclose()
    bodies: list[bytes] = []

    async def receive(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        message = await receive()
        bodies.append(message["body"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with serving(receive) as url:
        settings: Any = {
            "auth": {"mode": "keys", "pepper": [PEPPER]},
            "state_dir": tmp_path,
            "cards": [SMALL_CARD],
            "alerts": {"webhook_url": url, "webhook_secret": "whsec_" + "c2VjcmV0" * 4},
        }
        async with start(FakeMax(models=[MODEL]), **settings) as gateway:
            gateway.client.headers.update(bearer(key))
            found = [(await gateway.chat(model=MODEL)).status_code for _ in range(3)]

            async def is_sent() -> bool:
                return bool(bodies)

            await until(is_sent)
    assert found == [200, 429, 429]
    [body] = bodies
    event = json.loads(body)
    assert (event["type"], event["data"]["used"]) == ("budget.exhausted", 1)
