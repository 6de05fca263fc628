"""Counters of limits that were lost are rebuilt from the ledger."""

from typing import Final

import pytest

from maxgate.limits.limit import Limit, Scope, Unit, Window
from maxgate.usage.reports import UsageReports
from maxgate.usage.window_use import WindowUse
from tests.fakes.clock import FakeClock
from tests.fakes.rate_cards import DAY, HOUR, build_cards
from tests.fakes.usage_store import FakeUsageStore

START: Final = 10 * DAY


def count_uses() -> WindowUse:
    """Return the use of a ledger with lines of two keys, before and after the start."""
    store = FakeUsageStore()
    for at in (START - 1, START, START + HOUR):
        for key in ("key_a", "key_b"):
            store.add(
                at, api_key_id=key, model="small", input_tokens=10, output_tokens=5, gpu_seconds=0.5
            )
    store.add(START, api_key_id="key_a", model="large", input_tokens=1)
    clock = FakeClock()
    clock.advance(START + 2 * HOUR - clock.wall())
    rates = [{"model": "small", "valid_from": 0, "price": {"input": 2}}]
    return WindowUse(UsageReports(store, build_cards(*rates), clock))


def build_limit(scope: Scope, unit: Unit, window: Window = "day") -> Limit:
    """Return a budget."""
    return Limit(scope, unit, window, 1000, "budget", is_budget=True)


@pytest.mark.parametrize(
    ("unit", "used"),
    [
        ("requests", 2),
        ("tokens", 30),
        ("input_tokens", 20),
        ("output_tokens", 10),
        ("money", 40),
        ("gpu_milliseconds", 1000),
        ("concurrent_requests", 0),
    ],
)
async def test_units(unit: Unit, used: int) -> None:
    """Each unit is summed over the lines of the scope since the start of the window."""
    scope = Scope("key", "key_a", "small")
    assert await count_uses()(build_limit(scope, unit), START) == used


@pytest.mark.parametrize(
    ("scope", "window", "start", "used"),
    [
        (Scope("key", "key_a"), "day", START, 3),
        (Scope("key", "key_a"), "month", START, 3),
        (Scope("key", "key_c"), "day", START, 0),
        (Scope("organization"), "day", START, 5),
        (Scope("organization", model="large"), "day", START, 1),
        (Scope("organization"), "total", 0.0, 7),
    ],
)
async def test_scopes(scope: Scope, window: Window, start: float, used: int) -> None:
    """Lines of other keys and models do not count."""
    assert await count_uses()(build_limit(scope, "requests", window), start) == used
