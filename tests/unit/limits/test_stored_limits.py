"""Limits of the database in memory: which apply to a caller, and when changes take effect."""

from dataclasses import replace
from typing import get_args

import pytest

from maxgate.generation.context import Principal
from maxgate.limits import limit as limits
from maxgate.limits.limit import UNLIMITED, Alert, Limit, Scope
from maxgate.limits.stored_limits import StoredLimits
from maxgate.stores import limits as stored
from maxgate.stores.limits import ScopeKey, SpendAlert, StoredLimit
from tests.fakes.limit_store import FakeLimitStore

ANN = Principal("red", "red", "ann", "key_1", "default")
BOB = Principal("blue", "blue", "bob", "key_2", "default")
OF_KEY = StoredLimit("red", "l1", "key", "key_1", "", "requests", "minute", 10, 0)
OF_USER = StoredLimit("", "l2", "user", "ann", "", "tokens", "day", 20, 0, time_zone="Asia/Tokyo")
OF_PROJECT = StoredLimit("red", "l3", "project", "red", "llama", "tokens", "minute", 30, 0)
OF_ALL = StoredLimit("", "l4", "organization", "", "", "concurrent_requests", "none", 40, 0)
BUDGET = StoredLimit(
    *("red", "l5", "project", "red", "", "money", "month", 1001, 0),
    is_budget=True,
    alert_percents=(50, 80),
    alert_amount=700,
)


@pytest.fixture
def store() -> FakeLimitStore:
    """An empty store."""
    return FakeLimitStore()


async def read(store: FakeLimitStore, *rows: StoredLimit) -> StoredLimits:
    """Return the limits of a store with these rows."""
    store.limits += rows
    source = StoredLimits(store)
    await source.refresh()
    return source


def test_same_names() -> None:
    """The store and the enforcement have the same scopes, units and windows."""
    for name in ("ScopeKind", "Unit", "Window"):
        assert get_args(getattr(limits, name)) == get_args(getattr(stored, name))
    assert stored.MAX_AMOUNT < UNLIMITED


async def test_find(store: FakeLimitStore) -> None:
    """A caller has the limits of its key, owner, project and organization, for its model."""
    source = await read(store, OF_ALL, OF_PROJECT, OF_USER, OF_KEY)
    expected = [
        Limit(Scope("key", "key_1"), "requests", "minute", 10, "requests per minute"),
        Limit(Scope("user", "ann"), "tokens", "day", 20, "tokens per day", time_zone="Asia/Tokyo"),
        Limit(
            Scope("project", "red", "llama"),
            *("tokens", "minute", 30),
            "tokens per minute",
        ),
        Limit(
            Scope("organization"),
            *("concurrent_requests", "none", 40),
            "concurrent requests",
        ),
    ]
    assert list(source.find(ANN, "llama")) == expected
    assert list(source.find(ANN, "qwen")) == [expected[0], expected[1], expected[3]]
    assert list(source.find(BOB, "llama")) == [expected[3]]


async def test_warm(store: FakeLimitStore) -> None:
    """A caller's limits are looked up once, until one changes."""
    source = await read(store, OF_KEY)
    assert source.find(ANN, "llama") is source.find(ANN, "llama")


async def test_on_change(store: FakeLimitStore) -> None:
    """Changes are announced once they apply, such as the first limit of tokens per request."""
    source = StoredLimits(store)
    found: list[bool] = []
    source.on_change(lambda: found.append(source.bounds_requests))
    await source.refresh()
    store.limits.append(replace(OF_ALL, unit="tokens_per_request"))
    source = StoredLimits(store)
    source.on_change(lambda: found.append(source.bounds_requests))
    await source.refresh()
    assert found == [False, True]


async def test_is_empty(store: FakeLimitStore) -> None:
    """Without any limit of anyone, nobody has to be looked up."""
    source = await read(store)
    assert source.is_empty
    store.limits.append(OF_KEY)
    store.note(OF_KEY.scope_key)
    await source.refresh()
    assert not source.is_empty
    store.limits.clear()
    store.note(OF_KEY.scope_key)
    await source.refresh()
    assert source.is_empty


async def test_aliases(store: FakeLimitStore) -> None:
    """A limit may name its model by an alias."""
    store.limits = [replace(OF_PROJECT, model="fast")]
    source = StoredLimits(store, aliases={"fast": "llama"})
    await source.refresh()
    found = [len(source.find(ANN, model)) for model in ("llama", "fast", "qwen")]
    assert found == [1, 0, 0]


async def test_configured(store: FakeLimitStore) -> None:
    """Limits of the settings apply to every caller, also before the database was read."""
    of_settings = Limit(Scope("organization"), "requests", "minute", 5, "requests per minute")
    source = StoredLimits(store, configured=[of_settings])
    assert list(source.find(BOB, "llama")) == [of_settings]


async def test_alerts(store: FakeLimitStore) -> None:
    """A budget has alerts at its shares, rounded up, at other amounts, and at its end."""
    store.alerts = [SpendAlert("red", "a1", 900, ("x@example.com",), "[x]", 0)]
    source = await read(store, BUDGET)
    [found] = source.find(ANN, "llama")
    assert (found.amount, found.name, found.is_budget) == (1001, "spend per month", True)
    assert found.alerts == (
        Alert("l5-50", 501, 50),
        Alert("l5-soft", 700),
        Alert("l5-80", 801, 80),
        Alert("a1", 900, None, ("x@example.com",), "[x]"),
        Alert("l5-100", 1001, 100),
    )


async def test_alerts_without_budget(store: FakeLimitStore) -> None:
    """An alert without a budget belongs to a limit that refuses nothing."""
    store.alerts = [SpendAlert("", "a1", 900, (), None, 0)]
    source = await read(store, replace(BUDGET, amount=None, alert_percents=()))
    of_project, of_all = source.find(ANN, "llama")
    assert (of_project.amount, of_project.alerts) == (UNLIMITED, (Alert("l5-soft", 700),))
    assert of_all == Limit(
        Scope("organization"),
        *("money", "month", UNLIMITED, "spend per month"),
        is_budget=True,
        alerts=(Alert("a1", 900),),
    )


async def test_changes(store: FakeLimitStore) -> None:
    """Changed and removed limits take effect with the next read, which has only those."""
    source = await read(store, OF_KEY, OF_USER)
    assert len(source.find(ANN, "llama")) == 2
    store.limits = [replace(OF_KEY, amount=11)]
    store.note(ScopeKey("key", "key_1"), ScopeKey("user", "ann"))
    await source.publish(["key_1"])
    assert [found.amount for found in source.find(ANN, "llama")] == [11]
    assert store.reads == [None, 0]


async def test_outage(store: FakeLimitStore) -> None:
    """While the database is away, limits stay as they were."""
    source = await read(store, OF_KEY)
    store.limits, store.is_away = [], True
    store.note(ScopeKey("key", "key_1"))
    await source.publish([])
    assert len(source.find(ANN, "llama")) == 1
    store.is_away = False
    await source.publish([])
    assert source.find(ANN, "llama") == ()


async def test_start_without_database(
    store: FakeLimitStore, caplog: pytest.LogCaptureFixture
) -> None:
    """A gateway starts without its database, and takes the limits over afterwards."""
    store.limits, store.is_away = [OF_KEY], True
    source = StoredLimits(store)
    await source.start()
    assert source.find(ANN, "llama") == ()
    store.is_away = False
    await source.publish([])
    assert len(source.find(ANN, "llama")) == 1
