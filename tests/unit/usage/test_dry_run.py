"""Dry runs of limits over recorded requests."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from maxgate.limits.limit import Unit, Window
from maxgate.stores.usage import UsageEntry
from maxgate.usage.dry_run import Trial, TrialResult, replay
from tests.fakes.rate_cards import CARD, build_cards
from tests.fakes.usage_store import ENTRY

CARDS = build_cards(CARD)


def find_minute(window: Window, time_zone: str, at: float) -> tuple[float, float]:
    """Return the minute; `total` never ends."""
    del time_zone
    return (0, 10**12) if window == "total" else (at // 60 * 60, at // 60 * 60 + 60)


def arrive(*times: float, **fields: Any) -> list[UsageEntry]:
    """Return requests that arrive at these times and take 10 s."""
    return [replace(ENTRY, finished_at=at + 10, total_seconds=10.0, **fields) for at in times]


def run(entries: Sequence[UsageEntry], trial: Trial) -> list[TrialResult]:
    """Replay requests in the reverse order, as the ledger has them."""
    return list(replay(entries[::-1], trial, find_minute, CARDS))


def test_requests() -> None:
    """Requests count in the window in which they arrive, and refused ones do not."""
    trial = Trial("key", "requests", "minute", 2)
    entries = arrive(0, 20, 30, 59, 60, 61, 62)
    assert run(entries, trial) == [TrialResult("key_1", 7, 3, 2, 30.0, 62.0)]


def test_scopes() -> None:
    """Scopes are counted apart, and those with the most refusals come first."""
    entries = [
        *arrive(0, 1, 2, user_id="ann"),
        *arrive(3, 4, user_id="bob"),
        *arrive(5, user_id="cid", project_id="blue"),
    ]
    users = run(entries, Trial("user", "requests", "minute", 1))
    assert [(r.scope_id, r.requests, r.refused) for r in users] == [
        ("ann", 3, 2),
        ("bob", 2, 1),
        ("cid", 1, 0),
    ]
    projects = run(entries, Trial("project", "requests", "minute", 1))
    assert [(r.scope_id, r.refused) for r in projects] == [("red", 4), ("blue", 0)]
    [everyone] = run(entries, Trial("organization", "requests", "minute", 4))
    assert (everyone.scope_id, everyone.refused) == ("", 2)


@pytest.mark.parametrize(
    ("unit", "window", "amount", "refused"),
    [
        ("tokens", "total", 26, 1),
        ("tokens", "total", 39, 0),
        ("input_tokens", "total", 20, 1),
        ("output_tokens", "total", 2, 3),
        ("gpu_milliseconds", "total", 4999, 2),
        ("gpu_milliseconds", "total", 5000, 1),
        ("money", "total", 8335, 2),  # 4,168 each
        ("money", "total", 8336, 1),
        ("tokens_per_request", "none", 12, 3),
        ("tokens_per_request", "none", 13, 0),
    ],
)
def test_units(unit: Unit, window: Window, amount: int, refused: int) -> None:
    """Each unit has its own measure, and an amount may be used up exactly."""
    entries = arrive(0, 1, 2, input_tokens=10, cached_tokens=7, output_tokens=3, gpu_seconds=2.5)
    [result] = run(entries, Trial("key", unit, window, amount))
    assert (result.requests, result.refused) == (3, refused)


def test_concurrent() -> None:
    """A request runs from its arrival to its end, which frees its place."""
    entries = arrive(0, 5, 9.5, 10, 15)
    [result] = run(entries, Trial("key", "concurrent_requests", "none", 2))
    assert (result.refused, result.peak, result.first_refused_at) == (1, 2, 9.5)


def test_model() -> None:
    """A limit of a model leaves out requests to others."""
    entries = [*arrive(0, 1), *arrive(2, 3, model="large")]
    [result] = run(entries, Trial("key", "requests", "minute", 1, model="large"))
    assert (result.requests, result.refused) == (2, 1)
