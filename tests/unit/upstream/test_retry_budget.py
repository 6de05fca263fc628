"""Retries are bounded by the recent requests of all workers."""

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from maxgate.upstream.client import HttpxEngineClient
from maxgate.upstream.pool import ReplicaPool
from maxgate.upstream.retry_budget import WORDS, RetryBudget
from maxgate.upstream.settings import RetrySettings, UpstreamSettings

SETTINGS = RetrySettings(budget_share=0.2, budget_minimum=3)


def take_all(budget: RetryBudget, now: float) -> int:
    """Return how many retries can be taken at once."""
    return next(count for count in range(10_000) if not budget.take(now))


def test_minimum() -> None:
    """Without requests, three retries a second are allowed."""
    assert take_all(RetryBudget(SETTINGS), 100.0) == 30


def test_share() -> None:
    """A fifth of the requests of the last ten seconds may be retried."""
    budget = RetryBudget(SETTINGS)
    for second in range(20):
        budget.requests += 100
        budget.tick(100.0 + second)
    assert take_all(budget, 119.5) == 200


def test_last_resort() -> None:
    """Retries at replicas that are probably broken get half of the budget."""
    budget = RetryBudget(SETTINGS)
    taken = next(count for count in range(99) if not budget.take(100.0, last_resort=True))
    assert (taken, take_all(budget, 100.0)) == (15, 15)


def test_window() -> None:
    """Retries are allowed again when the earlier ones are ten seconds old."""
    budget = RetryBudget(SETTINGS)
    assert take_all(budget, 100.0) == 30
    assert take_all(budget, 109.9) == 0
    assert take_all(budget, 110.0) == 30


def test_retries_of_clients() -> None:
    """Requests that clients announce as retries use up the budget."""
    budget = RetryBudget(SETTINGS)
    budget.requests, budget.client_retries = 500, 90
    assert take_all(budget, 100.0) == 10


def test_workers_share_the_budget() -> None:
    """Requests and retries of all workers count."""
    counts = [memoryview(bytearray(8 * WORDS)).cast("q") for _ in range(2)]
    first, second = (RetryBudget(SETTINGS, own, lambda: counts) for own in counts)
    first.requests = second.requests = 100
    first.tick(100.0)
    second.tick(100.0)
    assert (take_all(first, 100.0), take_all(second, 100.0)) == (40, 0)


def test_pools_share_the_budget() -> None:
    """The pools of two workers take their retries from the same counts, model by model."""
    rows: dict[str, list[memoryview]] = {"small": [], "large": []}

    def open_counts(model: str) -> tuple[memoryview, Callable[[], list[memoryview]]]:
        own = memoryview(bytearray(8 * WORDS)).cast("q")
        rows[model].append(own)
        return own, lambda: rows[model]

    first, second = (
        ReplicaPool([], HttpxEngineClient(), UpstreamSettings(), open_counts=open_counts)
        for _ in range(2)
    )
    assert take_all(first.traffic("small").budget, 100.0) == 30
    assert take_all(second.traffic("small").budget, 100.0) == 0
    assert take_all(second.traffic("large").budget, 100.0) == 30


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 50), st.integers(0, 50))))
def test_never_exceeded(steps: list[tuple[float, int, int]]) -> None:
    """At no time do the retries of the last ten seconds exceed the budget."""
    budget, now, sent, taken = RetryBudget(SETTINGS), 100.0, [], []
    for seconds, requests, wanted in steps:
        now += seconds
        budget.requests += requests
        budget.tick(now)
        sent += [int(now)] * requests
        for _ in range(wanted):
            if budget.take(now):
                taken.append(int(now))
                recent = [at for at in sent if at > int(now) - 10]
                assert sum(at > int(now) - 10 for at in taken) <= max(30, 0.2 * len(recent) + 1)
