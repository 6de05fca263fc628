"""OpenAI's admin API with its official client, in front of both databases."""

import asyncio
import re
from functools import partial
from typing import Any

import httpx
import openai
import pytest

from maxgate.app import create_app
from maxgate.auth.api_key import is_well_formed
from maxgate.settings import Settings
from tests.conftest import ROOT
from tests.fakes.admin_gateway import MODEL, AdminGateway
from tests.fakes.gateway import EMBEDDING_MODEL, TLS

PAGE = ROOT / "docs" / "admin-api.md"


async def test_life_of_a_key(admin_gateway: AdminGateway) -> None:
    """A project gets an account, its key chats, is rotated and revoked, and the log has it all."""
    admin = admin_gateway.admin
    project = await admin.projects.create(name="Research")
    account = await admin.projects.service_accounts.create(project.id, name="bot")
    key = account.api_key.value
    assert is_well_formed(key)
    assert await admin_gateway.chat(key) == (200, None)

    await admin.projects.model_permissions.update(project.id, mode="deny_list", model_ids=[MODEL])
    assert await admin_gateway.chat(key) == (404, "model_not_found")
    await admin.projects.model_permissions.update(project.id, mode="allow_list", model_ids=[MODEL])
    assert await admin_gateway.chat(key) == (200, None)

    path = f"/projects/{project.id}/api_keys/{account.api_key.id}"
    rotated = await admin_gateway.send("POST", f"{path}/rotate", json={"grace_seconds": 60})
    new = rotated.json()["value"]
    assert [await admin_gateway.chat(k) for k in (key, new)] == [(200, None)] * 2

    await admin.projects.api_keys.delete(account.api_key.id, project_id=project.id)
    assert [await admin_gateway.chat(k) for k in (key, new)] == [(401, "invalid_api_key")] * 2

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


async def test_projects(admin_gateway: AdminGateway) -> None:
    """The official client creates, renames, archives and lists projects, page by page."""
    projects = admin_gateway.admin.projects
    created = [await projects.create(name=f"Project {n}") for n in range(5)]
    renamed = await projects.update(created[1].id, name="Labs")
    archived = await projects.archive(created[2].id)
    assert (renamed.name, renamed.id, renamed.status) == ("Labs", created[1].id, "active")
    assert (archived.status, archived.archived_at is not None) == ("archived", True)
    assert await projects.retrieve(created[1].id) == renamed

    active = [created[0], renamed, created[3], created[4]]
    assert [project async for project in projects.list(limit=2)] == active
    everything = [p.id async for p in projects.list(limit=2, include_archived=True)]
    assert everything == [project.id for project in created]
    for refused in (
        projects.update(archived.id, name="x"),
        projects.users.create(archived.id, role="member", email="a@example.com"),
    ):
        with pytest.raises(openai.ConflictError, match="is archived"):
            await refused


async def test_users(admin_gateway: AdminGateway) -> None:
    """A user is added by its address, changes roles, and leaves the project and organization."""
    admin = admin_gateway.admin
    first, second = [await admin.projects.create(name=name) for name in ("A", "B")]
    member = await admin.projects.users.create(first.id, role="member", email="ann@example.com")
    assert (member.name, member.email, member.role) == ("ann", "ann@example.com", "member")
    again = await admin.projects.users.create(second.id, role="owner", user_id=member.id)
    assert (again.id, again.role) == (member.id, "owner")
    changed = await admin.projects.users.update(member.id, project_id=first.id, role="owner")
    assert await admin.projects.users.retrieve(member.id, project_id=first.id) == changed
    assert [user async for user in admin.projects.users.list(first.id)] == [changed]

    user = await admin.users.update(member.id, role="owner")
    assert user == await admin.users.retrieve(member.id)
    other = await admin.projects.users.create(first.id, role="member", email="bob@example.com")
    assert [found.id async for found in admin.users.list(limit=1)] == [user.id, other.id]
    assert [found.id async for found in admin.users.list(emails=["BOB@example.com"])] == [other.id]

    assert (await admin.projects.users.delete(member.id, project_id=first.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await admin.projects.users.retrieve(member.id, project_id=first.id)
    assert (await admin.users.delete(member.id)).object == "organization.user.deleted"
    assert [found async for found in admin.projects.users.list(second.id)] == []


async def test_service_accounts(admin_gateway: AdminGateway) -> None:
    """A service account gets keys, with and without an expiry, and takes them with it."""
    projects = admin_gateway.admin.projects
    project = await projects.create(name="Research")
    accounts, keys = projects.service_accounts, projects.api_keys
    bot = await accounts.create(project.id, name="bot", expires_in_seconds=3600)
    assert (bot.role, bot.api_key.expires_at) == ("member", bot.api_key.created_at + 3600)
    bare = await accounts.create(project.id, name="bare", create_service_account_only=True)
    assert (bare.role, bare.api_key) == ("none", None)
    more = await accounts.api_keys.create(bot.id, project_id=project.id, name="second")
    useless = await accounts.api_keys.create(bare.id, project_id=project.id)
    found = [await admin_gateway.chat(key.value) for key in (bot.api_key, more, useless)]
    assert found == [(200, None), (200, None), (401, "invalid_api_key")]

    listed = [key async for key in keys.list(project.id, limit=1)]
    assert [(key.id, key.owner.service_account.id, key.owner_project_access) for key in listed] == [
        (bot.api_key.id, bot.id, "active"),
        (more.id, bot.id, "active"),
        (useless.id, bare.id, "inactive"),
    ]
    by_access = {
        access: [
            key.id async for key in keys.list(project.id, limit=1, owner_project_access=access)
        ]
        for access in ("active", "inactive", "any")
    }
    assert by_access == {
        "active": [bot.api_key.id, more.id],
        "inactive": [useless.id],
        "any": [bot.api_key.id, more.id, useless.id],
    }
    later = await keys.update(more.id, project_id=project.id, expires_in_seconds=60)
    assert later.expires_at is not None
    assert await keys.retrieve(more.id, project_id=project.id) == later

    owner = await accounts.update(bare.id, project_id=project.id, name="ops", role="owner")
    assert (owner.name, owner.role) == ("ops", "owner")
    assert await admin_gateway.chat(useless.value) == (200, None)
    assert await accounts.retrieve(bare.id, project_id=project.id) == owner
    assert [a.id async for a in accounts.list(project.id, limit=1)] == [bot.id, bare.id]
    assert (await accounts.delete(bot.id, project_id=project.id)).deleted
    assert [key.id async for key in keys.list(project.id)] == [useless.id]
    found = [await admin_gateway.chat(key.value) for key in (bot.api_key, more)]
    assert found == [(401, "invalid_api_key")] * 2


async def test_limits_of_keys(admin_gateway: AdminGateway) -> None:
    """A new key may be limited to models, networks and a class; a rotation keeps its limits."""
    projects = admin_gateway.admin.projects
    project, keys = await projects.create(name="Research"), projects.api_keys
    limits = {"models": [MODEL], "networks": ["127.0.0.0/8"], "service_class": "flex"}
    account = await projects.service_accounts.create(project.id, name="bot", extra_body=limits)
    path = f"/projects/{project.id}/service_accounts/{account.id}/api_keys"
    second = (await admin_gateway.send("POST", path, json=limits)).json()
    plain = (await admin_gateway.send("POST", path, json={"models": None})).json()
    afar = (await admin_gateway.send("POST", path, json={"networks": ["10.0.0.0/8"]})).json()
    other = (await admin_gateway.send("POST", path, json={"models": [EMBEDDING_MODEL]})).json()
    api_key = f"/projects/{project.id}/api_keys/{second['id']}"
    rotated = (await admin_gateway.send("POST", f"{api_key}/rotate")).json()
    read = await keys.retrieve(second["id"], project_id=project.id)

    def list_limits(described: Any) -> dict[str, Any]:
        return {name: described[name] for name in limits}

    for described in (account.api_key.model_dump(), second, rotated, read.model_dump()):
        assert list_limits(described) == limits
    assert list_limits(plain) == dict.fromkeys(limits)
    tried = (account.api_key.value, rotated["value"], plain["value"], afar["value"], other["value"])
    assert [await admin_gateway.chat(key) for key in tried] == [
        *[(200, None)] * 3,
        (401, "invalid_api_key"),
        (404, "model_not_found"),
    ]
    assert await admin_gateway.chat(tried[0], EMBEDDING_MODEL) == (404, "model_not_found")


async def test_blocked_key(admin_gateway: AdminGateway) -> None:
    """A blocked key is refused at once, and works again when it is unblocked."""
    project = await admin_gateway.admin.projects.create(name="Research")
    created = await admin_gateway.admin.projects.service_accounts.create(project.id, name="bot")
    path, key = f"/projects/{project.id}/api_keys/{created.api_key.id}", created.api_key.value
    statuses = [(await admin_gateway.chat(key))[0]]
    for blocked in (True, False):
        response = await admin_gateway.send("POST", path, json={"blocked": blocked})
        assert response.json()["blocked"] is blocked
        statuses.append((await admin_gateway.chat(key))[0])
    assert statuses == [200, 401, 200]


async def test_admin_keys(admin_gateway: AdminGateway) -> None:
    """A new admin key works at once, and no longer when it is deleted; the last one stays."""
    keys = admin_gateway.admin.admin_api_keys
    new = await keys.create(name="second", expires_in_seconds=60)
    assert is_well_formed(new.value)
    with_new = admin_gateway.client.copy(admin_api_key=new.value).admin.organization.admin_api_keys
    listed = [key async for key in with_new.list(limit=1, order="desc")]
    assert [key.id for key in listed] == [new.id, "key_admin"]
    assert await keys.retrieve(new.id) == listed[0]

    assert (await keys.delete(new.id)).deleted
    with pytest.raises(openai.AuthenticationError):
        await with_new.retrieve("key_admin")
    with pytest.raises(openai.ConflictError, match="last valid admin key"):
        await keys.delete("key_admin")


async def test_model_permissions(admin_gateway: AdminGateway) -> None:
    """Permissions are denied models or allowed ones; without any, all models are allowed."""
    projects = admin_gateway.admin.projects
    project, permissions = await projects.create(name="Research"), projects.model_permissions
    found = [await permissions.retrieve(project.id)]
    found.append(await permissions.update(project.id, mode="allow_list", model_ids=["a", "b", "a"]))
    deleted = [(await permissions.delete(project.id)).deleted for _ in range(2)]
    found.append(await permissions.retrieve(project.id))
    assert [(each.mode, each.api_model_ids) for each in found] == [
        ("deny_list", []),
        ("allow_list", ["a", "b"]),
        ("deny_list", []),
    ]
    assert deleted == [True, False]


async def test_audit_log(admin_gateway: AdminGateway) -> None:
    """The log is filtered by its fields, and read page by page both ways."""
    admin = admin_gateway.admin
    projects = [await admin.projects.create(name=name) for name in ("A", "B")]
    await admin.projects.update(projects[0].id, name="C")
    key = await admin.admin_api_keys.create(name="second")
    other = admin_gateway.client.copy(admin_api_key=key.value).admin.organization
    await other.projects.archive(projects[1].id)
    everything = [event async for event in admin.audit_logs.list(limit=2)]
    assert [event.type for event in everything] == [
        "project.archived",
        "api_key.created",
        "project.updated",
        "project.created",
        "project.created",
    ]
    last = everything[0]
    assert last.actor.api_key.id == key.id
    assert last.actor.session.ip_address == "127.0.0.1"
    assert (last.project.id, last.project.name) == (projects[1].id, "B")
    assert last.project_archived.id == projects[1].id
    assert everything[2].project_updated.changes_requested.title == "C"
    assert (everything[4].project_created.data.name, everything[1].project) == ("A", None)

    async def find(**filters: Any) -> list[int]:
        listed = [event.id async for event in admin.audit_logs.list(limit=1, **filters)]
        return [[event.id for event in everything].index(found) for found in listed]

    now = last.effective_at
    assert await find(event_types=["project.updated", "api_key.created"]) == [1, 2]
    assert await find(actor_ids=[key.id]) == [0]
    assert await find(project_ids=[projects[0].id]) == [2, 4]
    assert await find(resource_ids=[projects[0].id, key.id, "none", "\0"]) == [1, 2, 4]
    assert await find(effective_at={"gt": now}) == []
    assert await find(effective_at={"gte": now - 60, "lte": now}) == [0, 1, 2, 3, 4]
    assert await find(effective_at={"lt": now - 60}) == []
    before = await admin.audit_logs.list(limit=2, before=everything[3].id)
    assert [event.id for event in before.data] == [event.id for event in everything[1:3]]


async def test_deletion_while_listing(admin_gateway: AdminGateway) -> None:
    """A loop over a list may delete what it gets, whatever is listed."""
    admin, project = admin_gateway.admin, await admin_gateway.admin.projects.create(name="A")
    accounts, members = admin.projects.service_accounts, admin.projects.users
    created = [await accounts.create(project.id, name=f"bot {n}") for n in range(3)]
    people = [
        await members.create(project.id, role="member", email=f"{n}@example.com") for n in range(6)
    ]
    admin_keys = [await admin.admin_api_keys.create(name=f"key {n}") for n in range(3)]

    async def delete_all(page: Any, delete: Any) -> list[str]:
        deleted = []
        async for item in page:
            await delete(item.id)
            deleted.append(item.id)
        return deleted

    async def delete_admin_key(key_id: str) -> None:
        if key_id != "key_admin":
            await admin.admin_api_keys.delete(key_id)

    parts = {"project_id": project.id}
    keys = admin.projects.api_keys
    assert await delete_all(
        keys.list(project.id, limit=1), lambda key_id: keys.delete(key_id, **parts)
    ) == [account.api_key.id for account in created]
    assert await delete_all(
        accounts.list(project.id, limit=1), lambda found: accounts.delete(found, **parts)
    ) == [account.id for account in created]
    assert await delete_all(
        members.list(project.id, limit=2),
        # Some leave with the whole user, which takes the membership with it.
        lambda found: (
            members.delete(found, **parts) if found == people[1].id else admin.users.delete(found)
        ),
    ) == [user.id for user in people]
    assert [user.id async for user in admin.users.list(limit=1)] == [people[1].id]
    more = [await members.create(project.id, role="member", email=f"x{n}@a.b") for n in range(3)]
    assert await delete_all(admin.users.list(limit=1), admin.users.delete) == [
        people[1].id,
        *(user.id for user in more),
    ]
    assert await delete_all(admin.admin_api_keys.list(limit=1, order="desc"), delete_admin_key) == [
        *(key.id for key in reversed(admin_keys)),
        "key_admin",
    ]
    assert await delete_all(admin.projects.list(limit=1), admin.projects.archive) == [project.id]
    for kind in (keys, accounts, members):
        assert [item async for item in kind.list(project.id)] == []


def test_documented_routes() -> None:
    """docs/admin-api.md lists the routes of the route table."""
    document = create_app(Settings()).openapi()
    prefix = "/v1/organization"
    routes = {
        f"{method.upper()} {path.removeprefix(prefix)}"
        for path, item in document["paths"].items()
        for method in item
        if path.startswith(f"{prefix}/")
    }
    assert set(re.findall(r"^\| `([A-Z]+ /\S*)` \|", PAGE.read_text(), re.MULTILINE)) == routes


async def test_documented_example(
    sqlite_admin_gateway: AdminGateway, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    """The example of docs/admin-api.md works as it is."""
    monkeypatch.setenv("OPENAI_BASE_URL", f"{sqlite_admin_gateway.gateway.url}/v1")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", sqlite_admin_gateway.key)
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    example = "".join(blocks)
    # The clients of the example are open until the end of the process.
    with httpx.Client(verify=TLS) as connections:
        monkeypatch.setattr(openai, "OpenAI", partial(openai.OpenAI, http_client=connections))
        await asyncio.to_thread(exec, compile(example, PAGE, "exec"), {})
    found = re.findall(r"^[0-9]{10} (\S+) key_admin$", capsys.readouterr().out, re.MULTILINE)
    assert found == [
        "project.updated",
        "api_key.created",
        "service_account.created",
        "project.created",
    ]
