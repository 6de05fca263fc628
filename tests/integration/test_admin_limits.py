"""Rate limits, spend limits and spend alerts by OpenAI's official client."""

from pathlib import Path
from typing import Any

import openai
import pytest

from maxgate.stores.identity import Page
from maxgate.stores.identity_store import open_identity_store
from maxgate.stores.limits import StoredLimit
from maxgate.stores.settings import DatabaseSettings
from tests.fakes.admin_gateway import MODEL, AdminGateway
from tests.fakes.gateway import EMBEDDING_MODEL

UNLIMITED = 2**53 - 1
MONTH: Any = {"currency": "USD", "interval": "month"}
CHANNEL: Any = {"type": "email", "recipients": ["ann@example.com"], "subject_prefix": "[max]"}


async def list_events(gateway: AdminGateway, project_id: str | None = None) -> list[Any]:
    """Return type and requested changes of all limits in the audit log, oldest first."""
    events = (await gateway.send("GET", "/audit_logs?limit=100")).json()["data"]
    return [
        (event["type"], event[event["type"]].get("changes_requested"))
        for event in reversed(events)
        if event["type"].partition("_")[0] in {"rate", "spend"}
        and (event.get("project") or {}).get("id") == project_id
    ]


async def test_rate_limits(admin_gateway: AdminGateway) -> None:
    """A project has limits for each model and for all; numbers that are not sent stay."""
    project = await admin_gateway.admin.projects.create(name="Research")
    rate_limits = admin_gateway.admin.projects.rate_limits
    listed = [limit async for limit in rate_limits.list_rate_limits(project.id, limit=2)]
    assert [(limit.id, limit.model) for limit in listed] == [
        ("rl-all-models", "*"),
        (f"rl-{MODEL}", MODEL),
        (f"rl-{EMBEDDING_MODEL}", EMBEDDING_MODEL),
    ]
    assert {limit.max_requests_per_1_minute for limit in listed} == {UNLIMITED}

    first = await rate_limits.update_rate_limit(
        f"rl-{MODEL}", project_id=project.id, max_requests_per_1_minute=10
    )
    second = await rate_limits.update_rate_limit(
        f"rl-{MODEL}", project_id=project.id, max_tokens_per_1_minute=0, max_requests_per_1_day=99
    )
    assert (first.max_requests_per_1_minute, first.max_tokens_per_1_minute) == (10, UNLIMITED)
    assert second.model_dump(exclude_none=True) == {
        "id": f"rl-{MODEL}",
        "object": "project.rate_limit",
        "model": MODEL,
        "max_requests_per_1_minute": 10,
        "max_tokens_per_1_minute": 0,
        "max_requests_per_1_day": 99,
    }
    third = await rate_limits.update_rate_limit(
        f"rl-{MODEL}",
        project_id=project.id,
        max_requests_per_1_minute=UNLIMITED,
        max_tokens_per_1_minute=0,
    )
    assert third.max_requests_per_1_minute == UNLIMITED
    path = f"/projects/{project.id}/rate_limits/rl-{MODEL}"
    assert (await admin_gateway.send("GET", path)).json() == third.model_dump(exclude_unset=True)
    assert (await admin_gateway.send("DELETE", path)).json()["deleted"] is True
    again = [limit async for limit in rate_limits.list_rate_limits(project.id)]
    assert again == listed
    events = await list_events(admin_gateway, project.id)
    assert [kind for kind, _ in events] == ["rate_limit.updated"] * 3 + ["rate_limit.deleted"] * 3
    assert events[0][1]["amount"] == 10


async def read_limits(
    database: DatabaseSettings, state_dir: Path, project_id: str
) -> list[StoredLimit]:
    """Return the limits of a project, or of the organization, as they are stored."""
    store = open_identity_store(database, state_dir)
    async with store.transaction() as rows:
        found = await rows.limits.list(Page(), project_id=project_id)
    await store.aclose()
    return found.items


@pytest.mark.parametrize("of_project", [False, True])
async def test_spend_limit(
    admin_gateway: AdminGateway,
    identity_database: DatabaseSettings,
    tmp_path: Path,
    of_project: bool,
) -> None:
    """A spend limit is created, replaced and deleted; amounts are in cents."""
    admin = admin_gateway.admin
    project = (await admin.projects.create(name="Research")).id if of_project else None
    client, ids = (admin.projects.spend_limit, [project]) if project else (admin.spend_limit, [])
    kind = "project" if of_project else "organization"
    with pytest.raises(openai.NotFoundError):
        await client.retrieve(*ids)
    for amount in (100, 250):
        found = await client.update(*ids, **MONTH, threshold_amount=amount)
        assert found.model_dump() == {
            "object": f"{kind}.spend_limit",
            "currency": "USD",
            "interval": "month",
            "threshold_amount": amount,
            "enforcement": {"status": "enforcing"},
        }
        assert await client.retrieve(*ids) == found
    [row] = await read_limits(identity_database, tmp_path, project or "")
    assert (row.scope, row.amount, row.is_budget, row.version) == (kind, 2_500_000, True, 2)
    deleted = await client.delete(*ids)
    assert (deleted.object, deleted.deleted) == (f"{kind}.spend_limit.deleted", True)
    with pytest.raises(openai.NotFoundError):
        await client.retrieve(*ids)
    events = await list_events(admin_gateway, project)
    assert [kind for kind, _ in events] == ["spend_limit.updated"] * 2 + ["spend_limit.deleted"]


@pytest.mark.parametrize("of_project", [False, True])
async def test_spend_alerts(admin_gateway: AdminGateway, of_project: bool) -> None:
    """Spend alerts are created, replaced, listed page by page and deleted."""
    admin = admin_gateway.admin
    project = (await admin.projects.create(name="Research")).id if of_project else None
    client = admin.projects.spend_alerts if project else admin.spend_alerts
    ids, options = ([project], {"project_id": project}) if project else ([], {})
    fields: Any = {**MONTH, "notification_channel": CHANNEL}
    created = [
        await client.create(*ids, **fields, threshold_amount=amount) for amount in (100, 200, 300)
    ]
    assert created[0].object == f"{'project' if project else 'organization'}.spend_alert"
    assert created[0].notification_channel.model_dump() == CHANNEL
    changed = await client.update(created[1].id, **options, **fields, threshold_amount=250)
    assert changed.threshold_amount == 250
    assert await client.retrieve(created[1].id, **options) == changed
    listed = [alert async for alert in client.list(*ids, limit=2)]
    assert listed == [created[0], changed, created[2]]
    newest = [alert.id async for alert in client.list(*ids, limit=2, order="desc")]
    assert newest == [alert.id for alert in reversed(created)]
    deleted = await client.delete(created[0].id, **options)
    assert (deleted.id, deleted.deleted) == (created[0].id, True)
    with pytest.raises(openai.NotFoundError):
        await client.retrieve(created[0].id, **options)
    events = [kind for kind, _ in await list_events(admin_gateway, project)]
    assert events == ["spend_alert.created"] * 3 + ["spend_alert.updated", "spend_alert.deleted"]


async def test_deleted_owners(sqlite_admin_gateway: AdminGateway, tmp_path: Path) -> None:
    """The limits of a key are deleted with it, also if that is deleted with its owner."""
    gateway, admin = sqlite_admin_gateway, sqlite_admin_gateway.admin
    project = await admin.projects.create(name="Research")
    for _ in range(2):
        await gateway.gateway.client.post(
            "/key/generate",
            headers={"authorization": f"Bearer {gateway.key}"},
            json={"team_id": project.id, "rpm_limit": 5, "model_tpm_limit": {MODEL: 10}},
        )
    before = await read_limits(DatabaseSettings(), tmp_path, project.id)
    accounts = [account async for account in admin.projects.service_accounts.list(project.id)]
    found = [key async for key in admin.projects.api_keys.list(project.id)]
    await admin.projects.api_keys.delete(found[0].id, project_id=project.id)
    await admin.projects.service_accounts.delete(accounts[1].id, project_id=project.id)
    after = await read_limits(DatabaseSettings(), tmp_path, project.id)
    assert (len(before), after) == (4, [])
