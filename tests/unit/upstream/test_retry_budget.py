"""Retries are bounded by the recent requests of all workers."""

from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

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


class Machine(RuleBasedStateMachine):
    """Two workers count requests and take retries; the clock goes on by part of a second or more.

    `sent` and `taken` have the second of each request and retry that a worker has counted.
    """

    def __init__(self) -> None:
        super().__init__()
        counts = [memoryview(bytearray(8 * WORDS)).cast("q") for _ in range(2)]
        self.budgets = [RetryBudget(SETTINGS, own, lambda: counts) for own in counts]
        self.now = 100.0
        self.sent: list[int] = []
        self.taken: list[int] = []

    @rule(seconds=st.sampled_from([0.1, 0.5, 1, 3, 9.9, 10, 11, 60]))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    @rule(worker=st.sampled_from([0, 1]), requests=st.integers(0, 300), repeated=st.integers(0, 20))
    def receive(self, worker: int, requests: int, repeated: int) -> None:
        """Receive requests, some of them announced as retries by the client."""
        self.budgets[worker].requests += requests
        self.budgets[worker].client_retries += repeated

    @rule(worker=st.sampled_from([0, 1]))
    def tick(self, worker: int) -> None:
        """Count what has been received."""
        budget = self.budgets[worker]
        self.sent += [int(self.now)] * budget.requests
        self.taken += [int(self.now)] * budget.client_retries
        budget.tick(self.now)
        assert (budget.requests, budget.client_retries) == (0, 0)

    @rule(worker=st.sampled_from([0, 1]), wanted=st.integers(1, 80), last_resort=st.booleans())
    def take(self, worker: int, wanted: int, *, last_resort: bool) -> None:
        """Take retries while the budget has some, and not one more or less."""
        self.tick(worker)
        limit = max(30, 0.2 * self.count_recent(self.sent)) / (2 if last_resort else 1)
        for _ in range(wanted):
            is_allowed = self.count_recent(self.taken) < limit
            assert self.budgets[worker].take(self.now, last_resort=last_resort) is is_allowed
            self.taken += [int(self.now)] * is_allowed

    def count_recent(self, seconds: list[int]) -> int:
        """Return how many of these are in the current second or the nine before."""
        return sum(second > int(self.now) - 10 for second in seconds)

    @invariant()
    def workers_agree(self) -> None:
        """Each worker knows all requests and retries of the window that have been counted."""
        recent = (self.count_recent(self.sent), self.count_recent(self.taken))
        assert [budget._count(int(self.now)) for budget in self.budgets] == [recent] * 2


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
