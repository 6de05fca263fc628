"""Rules of limits in the organization."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from maxgate.auth.organization import limits, people, projects
from maxgate.auth.organization.changes import COMMAND_LINE, Change, Organization
from maxgate.auth.organization.errors import PreconditionFailed
from maxgate.auth.organization.limits import ORGANIZATION, NewLimit
from maxgate.clock import SystemClock
from maxgate.errors import Conflict, InvalidRequest, NotFound
from maxgate.stores.identity_store import open_identity_store
from maxgate.stores.settings import DatabaseSettings

RATE = NewLimit("requests", "minute", 60)
BUDGET = NewLimit("money", "month", 5_000_000, is_budget=True)


@pytest.fixture
async def change(tmp_path: Path) -> AsyncIterator[Change]:
    """A change of an empty organization in SQLite."""
    store = open_identity_store(DatabaseSettings(), tmp_path)
    organization = Organization(store, lambda: [b"p" * 64], SystemClock())
    async with organization.change(COMMAND_LINE) as started:
        yield started
    await store.aclose()


async def test_replaced(change: Change) -> None:
    """A limit replaces the one with the same unit, window and model, and keeps its id."""
    first = await limits.set_limit(change, ORGANIZATION, RATE)
    other = await limits.set_limit(change, ORGANIZATION, replace(RATE, model="llama"))
    second = await limits.set_limit(change, ORGANIZATION, replace(RATE, amount=90), version=1)
    assert second == replace(first, amount=90, version=2)
    assert await limits.list_limits(change.rows, ORGANIZATION) == [second, other]
    with pytest.raises(PreconditionFailed):
        await limits.set_limit(change, ORGANIZATION, RATE, version=1)
    with pytest.raises(PreconditionFailed):
        await limits.remove_limit(change, ORGANIZATION, second, version=1)


async def test_archived_project(change: Change) -> None:
    """The limits and alerts of an archived project cannot be changed."""
    project = await projects.create_project(change, "Research")
    holder = await limits.hold_project(change.rows, project.id)
    limit = await limits.set_limit(change, holder, RATE)
    await projects.archive_project(change, project.id)
    with pytest.raises(Conflict):
        await limits.set_limit(change, holder, BUDGET)
    with pytest.raises(Conflict):
        await limits.remove_limit(change, holder, limit)
    with pytest.raises(Conflict):
        await limits.save_spend_alert(change, holder, None, 100, [], None)


async def test_unknown_scopes(change: Change) -> None:
    """A limit needs an existing project, user, service account or key of this project."""
    first, second = [await projects.create_project(change, name) for name in "ab"]
    account = await people.create_service_account(change, first.id, "bot")
    holder = await limits.hold_service_account(change.rows, first.id, account.id)
    assert (holder.project_id, holder.scope) == (first.id, ("user", account.id))
    for refused in (
        limits.hold_project(change.rows, "proj_x"),
        limits.hold_user(change.rows, "user-x"),
        limits.hold_service_account(change.rows, second.id, account.id),
        limits.hold_key(change.rows, first.id, "key_x"),
    ):
        with pytest.raises(NotFound):
            await refused


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"amount": -1}, "amount"),
        ({"amount": 10**15 + 1}, "amount"),
        ({"amount": None}, "amount"),
        ({"window": "minute"}, "window"),
        ({"window": "none"}, "window"),
        ({"unit": "concurrent_requests"}, "window"),
        ({"unit": "concurrent_requests", "window": "none"}, "unit"),
        ({"is_budget": False}, "unit"),
        ({"time_zone": "Nowhere"}, "time_zone"),
        ({"time_zone": "/etc/passwd"}, "time_zone"),
        ({"time_zone": "\0"}, "time_zone"),
        ({"time_zone": ""}, "time_zone"),
        ({"model": "a\nb"}, "model"),
        ({"alert_percents": (0,)}, "alert_percents"),
        ({"alert_percents": (100,)}, "alert_percents"),
        ({"alert_amount": -1}, "alert_amount"),
        ({"unit": "tokens", "is_budget": False, "alert_amount": 1}, "alert_amount"),
    ],
)
async def test_refused(change: Change, fields: dict[str, Any], param: str) -> None:
    """A limit that cannot be meant is refused by the name of the field."""
    with pytest.raises(InvalidRequest) as raised:
        await limits.set_limit(change, ORGANIZATION, replace(BUDGET, **fields))
    assert raised.value.param == param
    assert await limits.list_limits(change.rows, ORGANIZATION) == []
