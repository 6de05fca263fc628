"""Changes of the organization at the same time, on both databases."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from maxgate.auth.organization import keys, people, projects
from maxgate.auth.organization.changes import COMMAND_LINE, Idempotency, Organization
from maxgate.auth.organization.errors import RequestInProgress
from maxgate.clock import SystemClock
from maxgate.errors import Conflict, GatewayError, NotFound
from maxgate.stores.identity import Listing, Page
from maxgate.stores.identity_store import open_identity_store
from maxgate.stores.migrate import upgrade_database
from maxgate.stores.settings import DatabaseSettings


@pytest.fixture(params=["sqlite", "postgres"])
async def organization(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[Organization]:
    """An empty organization."""
    settings = DatabaseSettings()
    if request.param == "postgres":
        url = request.getfixturevalue("postgres").url
        settings = DatabaseSettings(url=url, schema_name=f"test_{uuid4().hex}")
        upgrade_database(settings, tmp_path)
    store = open_identity_store(settings, tmp_path)
    yield Organization(store, lambda: [b"p" * 64], SystemClock())
    await store.aclose()


async def test_last_admin_keys(organization: Organization) -> None:
    """Of two admin keys that are deleted at once, one remains."""
    async with organization.change(COMMAND_LINE) as change:
        ids = [(await keys.create_admin_key(change, name))[0].id for name in ("a", "b")]

    async def delete(key_id: str) -> None:
        async with organization.change(COMMAND_LINE) as change:
            await keys.delete_admin_key(change, key_id)

    results = await asyncio.gather(*map(delete, ids), return_exceptions=True)
    assert all(isinstance(result, GatewayError | None) for result in results)
    async with organization.read() as rows:
        left = (await rows.admin_keys.list(Page())).items
    assert len(left) >= 1
    assert len(left) == sum(result is not None for result in results)


async def test_repeated_at_once(organization: Organization) -> None:
    """Of equal requests at the same time, one is carried out, and a repetition gets its result."""
    again = Idempotency("6f1c", b"create Research")

    async def create() -> dict[str, Any]:
        async with organization.change(COMMAND_LINE, again) as change:
            if change.replay is not None:
                return change.replay
            project = await projects.create_project(change, "Research")
            change.response = {"id": project.id}
            return change.response

    results = await asyncio.gather(*(create() for _ in range(3)), return_exceptions=True)
    responses = [result for result in results if isinstance(result, dict)]
    others = [result for result in results if not isinstance(result, dict)]
    assert all(isinstance(other, RequestInProgress) for other in others)
    assert responses == [await create()] * len(responses)
    async with organization.read() as rows:
        assert [p.id for p in (await rows.projects.list(Page())).items] == [responses[0]["id"]]


async def test_first_keys(organization: Organization) -> None:
    """Keys that are the first ones at the same time are all created."""

    async def create(name: str) -> None:
        async with organization.change(COMMAND_LINE) as change:
            await keys.create_admin_key(change, name)

    await asyncio.gather(*map(create, "abcd"))
    async with organization.read() as rows:
        assert len((await rows.admin_keys.list(Page())).items) == 4


async def test_deletions_at_once(organization: Organization) -> None:
    """A member that is removed while its user is deleted is gone, without a deadlock."""
    async with organization.change(COMMAND_LINE) as change:
        await projects.create_project(change, "Red", "red")
        members = [
            await people.add_project_user(change, "red", "member", email=f"{number}@example.com")
            for number in range(5)
        ]

    async def leave(user_id: str) -> None:
        async with organization.change(COMMAND_LINE) as change:
            await people.remove_project_user(change, "red", user_id)

    async def delete(user_id: str) -> None:
        async with organization.change(COMMAND_LINE) as change:
            await people.delete_user(change, user_id)

    work = [do(user.id) for _, user in members for do in (leave, delete)]
    results = await asyncio.gather(*work, return_exceptions=True)
    assert all(isinstance(result, NotFound | Conflict | None) for result in results), results
    async with organization.read() as rows:
        assert await rows.users.list(Page()) == Listing([], has_more=False)
        for _, user in members:
            found = await rows.project_users.list(Page(after=user.id), project_id="red")
            assert found == Listing([], has_more=False)
