"""The store of limits has the same rules in both databases."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from maxgate.stores import limit_store
from maxgate.stores.identity import AlreadyExists, Listing, Page, Project, VersionConflict
from maxgate.stores.identity_store import SqlIdentityStore, open_identity_store
from maxgate.stores.limit_store import ALERT_RETENTION
from maxgate.stores.limits import LimitChanges, ScopeKey, SpendAlert, StoredLimit
from maxgate.stores.migrate import upgrade_database
from maxgate.stores.settings import DatabaseSettings

OF_ALL = StoredLimit("", "limit_1", "organization", "", "", "tokens", "minute", 1000, 100)
BUDGET = StoredLimit(
    project_id="proj_a",
    id="limit_2",
    scope="project",
    scope_id="proj_a",
    model="",
    unit="money",
    window="month",
    amount=5_000_000,
    created_at=110,
    time_zone="Europe/Berlin",
    is_budget=True,
    alert_percents=(50, 80),
)
OF_KEY = StoredLimit(
    "proj_a", "limit_3", "key", "key_1", "llama", "money", "total", None, 120, alert_amount=7
)
ALERT = SpendAlert("proj_a", "alert_1", 1_000_000, ("a@example.com",), "[max]", 130)
ALERT_OF_ALL = SpendAlert("", "alert_2", 2_000_000, (), None, 140)


@pytest.fixture(params=["sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqlIdentityStore]:
    """A store with limits and alerts."""
    settings = DatabaseSettings()
    if request.param == "postgres":
        url = request.getfixturevalue("postgres").url
        settings = DatabaseSettings(url=url, schema_name=f"test_{uuid4().hex}")
        upgrade_database(settings, tmp_path)
    opened = open_identity_store(settings, tmp_path)
    async with opened.transaction() as rows:
        await rows.projects.add(Project("proj_a", "A", 1))
        for limit in (OF_ALL, BUDGET, OF_KEY):
            await rows.limits.add(limit)
        for alert in (ALERT, ALERT_OF_ALL):
            await rows.spend_alerts.add(alert)
    yield opened
    await opened.aclose()


async def test_rows(store: SqlIdentityStore) -> None:
    """Limits are found and listed as they were added, each for its project only."""
    async with store.transaction() as rows:
        found = [
            await rows.limits.find("", "limit_1"),
            await rows.limits.find("proj_a", "limit_2"),
            await rows.limits.find("proj_b", "limit_2"),
            await rows.spend_alerts.find("proj_a", "alert_1"),
            await rows.spend_alerts.find("", "alert_1"),
        ]
        listed = [
            await rows.limits.list(Page(), project_id="proj_a"),
            await rows.limits.list(Page(), project_id="proj_a", scope="key", scope_id="key_1"),
            await rows.limits.list(Page(), project_id=""),
        ]
        with pytest.raises(TypeError, match="project_id"):
            await rows.limits.list(Page())
    assert found == [OF_ALL, BUDGET, None, ALERT, None]
    assert listed == [
        Listing([BUDGET, OF_KEY], False),
        Listing([OF_KEY], False),
        Listing([OF_ALL], False),
    ]


async def test_one_limit_per_kind(store: SqlIdentityStore) -> None:
    """A scope has one limit for a unit, window and model."""
    async with store.transaction() as rows:
        with pytest.raises(AlreadyExists):
            await rows.limits.add(replace(BUDGET, id="limit_4", is_budget=False))
        await rows.limits.add(replace(BUDGET, id="limit_4", model="llama"))


async def test_versions(store: SqlIdentityStore) -> None:
    """An update counts the version, and one of an older version is refused."""
    async with store.transaction() as rows:
        updated = await rows.limits.update(replace(BUDGET, amount=1))
        with pytest.raises(VersionConflict):
            await rows.limits.update(replace(BUDGET, amount=2))
    assert updated == replace(BUDGET, amount=1, version=2)


async def test_all_changes(store: SqlIdentityStore) -> None:
    """The first read has all limits, and the next one nothing."""
    changes = await store.limits.read_changes(None)
    assert changes == LimitChanges(5, None, [OF_ALL, BUDGET, OF_KEY], [ALERT, ALERT_OF_ALL])
    assert await store.limits.read_changes(5) == LimitChanges(5, ())


async def test_changes(store: SqlIdentityStore) -> None:
    """Later reads have all limits of the scopes that were changed, and of no others."""
    async with store.transaction() as rows:
        await rows.limits.delete("proj_a", "limit_2")
        await rows.limits.delete("proj_a", "limit_2")
        await rows.spend_alerts.update(replace(ALERT_OF_ALL, amount=3))
    changes = await store.limits.read_changes(5)
    scopes = {ScopeKey("project", "proj_a"), ScopeKey("organization")}
    assert (changes.revision, set(changes.scopes or ())) == (7, scopes)
    assert changes.limits == [OF_ALL]
    assert changes.alerts == [ALERT, replace(ALERT_OF_ALL, amount=3, version=2)]


async def test_undone_change(store: SqlIdentityStore) -> None:
    """A change that is rolled back is not noted."""
    with pytest.raises(ZeroDivisionError):
        async with store.transaction() as rows:
            await rows.limits.update(replace(BUDGET, amount=1))
            raise ZeroDivisionError
    assert await store.limits.read_changes(5) == LimitChanges(5, ())


async def test_restored_backup(store: SqlIdentityStore) -> None:
    """A reader of a later state than the database has gets all limits."""
    changes = await store.limits.read_changes(9)
    assert (changes.revision, changes.scopes, len(changes.limits)) == (5, None, 3)


async def test_missed_changes(store: SqlIdentityStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that has missed more changes than are remembered gets all limits."""
    monkeypatch.setattr(limit_store, "MAX_CHANGES", 2)
    async with store.transaction() as rows:
        await rows.limits.update(replace(BUDGET, amount=1))
    found = [(await store.limits.read_changes(since)).scopes for since in (3, 4, 5)]
    assert found[0] is None
    assert [set(scopes or ()) for scopes in found[1:]] == [
        {ScopeKey("organization"), ScopeKey("project", "proj_a")},
        {ScopeKey("project", "proj_a")},
    ]


async def test_concurrent_changes(store: SqlIdentityStore) -> None:
    """Changes at the same time get revisions of their own, and none is missed."""

    async def add(number: int) -> None:
        async with store.transaction() as rows:
            await rows.limits.add(replace(OF_KEY, id=f"limit_k{number}", scope_id=f"key_k{number}"))

    await asyncio.gather(*map(add, range(5)))
    changes = await store.limits.read_changes(5)
    assert changes.revision == 10
    assert set(changes.scopes or ()) == {ScopeKey("key", f"key_k{number}") for number in range(5)}


async def test_claims(store: SqlIdentityStore) -> None:
    """One gateway sends an alert; another takes over after the lease, until it was sent."""
    claims = store.limits
    found = [
        await claims.claim_alert("a", 100, 60),
        await claims.claim_alert("a", 159, 60),
        await claims.claim_alert("b", 159, 60),
        await claims.claim_alert("a", 160, 60),
    ]
    await claims.finish_alert("a", 165)
    found.append(await claims.claim_alert("a", 500, 60))
    assert found == ["own", "busy", "own", "own", "sent"]


async def test_concurrent_claims(store: SqlIdentityStore) -> None:
    """Of gateways that claim an alert at once, one gets it."""
    results = await asyncio.gather(*(store.limits.claim_alert("a", 100, 60) for _ in range(5)))
    assert sorted(results) == ["busy"] * 4 + ["own"]


async def test_old_claims(store: SqlIdentityStore) -> None:
    """Alerts of windows that are over are forgotten, and those of a budget in total are not."""
    names, later = ("money/month/1", "money/total/0"), 100 + ALERT_RETENTION + 1
    for name in names:
        await store.limits.claim_alert(name, 100, 60)
        await store.limits.finish_alert(name, 100)
    found = [await store.limits.claim_alert(name, later, 60) for name in names]
    assert found == ["own", "sent"]
