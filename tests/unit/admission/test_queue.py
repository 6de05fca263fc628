"""The queue serves classes in order, tenants by tokens, and nobody starves."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from maxgate.admission.bounded_queue import BoundedQueue, Pace
from maxgate.admission.queue import CLASSES, OTHERS, Accounts, FairQueue, Waiter
from maxgate.admission.settings import AdmissionSettings

PRIORITY, DEFAULT, FLEX = range(len(CLASSES))


class Tenants:
    """A queue, and waiters with names."""

    def __init__(self, max_tenants: int = 100) -> None:
        self.accounts = Accounts(max_tenants)
        self.queue = FairQueue(self.accounts)
        self.names: dict[Waiter, str] = {}
        self._loop: Any = None

    def push(self, name: str, tenant: str = "a", rank: int = DEFAULT, priority: int = 0) -> Waiter:
        """Add a request with this name."""
        turn: Any = None  # the queue does not touch it
        waiter = Waiter(
            self.accounts.find(tenant),
            rank,
            priority,
            cost=0.0,
            size=10,
            queued_at=0.0,
            expires_at=1.0,
            turn=turn,
        )
        self.names[waiter] = name
        self.queue.push(waiter)
        return waiter

    def pop_all(self, tokens: float = 0.0) -> list[str]:
        """Return the names in the order in which they are served, each with these tokens."""
        order = []
        while (waiter := self.queue.pop()) is not None:
            waiter.account.counter += tokens
            order.append(self.names[waiter])
        return order


def test_first_come_first_served() -> None:
    """Inside a tenant, the order of arrival decides, after the priority."""
    tenants = Tenants()
    for name, priority in (("a", 0), ("b", 0), ("late", 5), ("c", 0), ("early", -5)):
        tenants.push(name, priority=priority)
    assert tenants.pop_all() == ["early", "a", "b", "c", "late"]


def test_classes() -> None:
    """A class is served before those after it, but for one turn in ten."""
    tenants = Tenants()
    for number in range(8):
        tenants.push(f"flex{number}", rank=FLEX)
    for number in range(10):
        tenants.push(f"priority{number}", rank=PRIORITY)
    tenants.push("default")
    order = tenants.pop_all()
    assert order[:9] == [f"priority{number}" for number in range(9)]
    assert order[9:12] == ["flex0", "priority9", "default"]


def test_equal_tokens() -> None:
    """Two tenants get the same tokens, however many requests one of them sends."""
    tenants = Tenants()
    for number in range(100):
        tenants.push("many", tenant="a")
        if number % 10 == 0:
            tenants.push("few", tenant="b")
    assert Counter(tenants.pop_all(tokens=50)[:20]) == {"many": 10, "few": 10}


def test_larger_requests() -> None:
    """A tenant with requests twice as large gets half as many."""
    tenants = Tenants()
    for _ in range(100):
        tenants.push("small", tenant="a")
        tenants.push("large", tenant="b")
    served: Counter[str] = Counter()
    for _ in range(30):
        waiter = tenants.queue.pop()
        assert waiter is not None
        name = tenants.names[waiter]
        waiter.account.counter += 100 if name == "small" else 200
        served[name] += 1
    assert served == {"small": 20, "large": 10}


def test_idle_tenant() -> None:
    """A tenant that was idle has no claim from that time."""
    tenants = Tenants()
    for _ in range(50):
        tenants.push("busy", tenant="a")
    for _ in range(20):
        waiter = tenants.queue.pop()
        assert waiter is not None
        waiter.account.counter += 100
    for _ in range(20):
        tenants.push("back", tenant="b")
    assert Counter(tenants.pop_all(tokens=100)[:20]) == {"busy": 10, "back": 10}


def test_claim_of_running_requests() -> None:
    """A tenant whose requests all run keeps a claim of a few batches, and no more."""
    tenants = Tenants()
    tenants.accounts.mean_cost = 100.0
    busy, trickle = tenants.accounts.find("a"), tenants.accounts.find("b")
    busy.running, busy.counter, trickle.running = 3, 1_000_000.0, 1
    tenants.push("busy", tenant="a")
    tenants.push("trickle", tenant="b")
    assert trickle.counter == 1_000_000.0 - 4 * 4 * 100.0


def test_claim_without_a_queue() -> None:
    """Tokens that a tenant got while nobody waited give others no claim."""
    tenants = Tenants()
    tenants.accounts.find("a").running, tenants.accounts.find("a").counter = 3, 1_000_000.0
    tenants.push("new", tenant="b")
    assert tenants.accounts.find("b").counter == 1_000_000.0


def test_maximum_tenants() -> None:
    """Tenants beyond the maximum share one account; idle ones make room."""
    accounts = Accounts(2)
    first, second = accounts.find("a"), accounts.find("b")
    first.running = second.running = 1
    assert [accounts.find(name).tenant for name in ("c", "d", "a")] == [OTHERS, OTHERS, "a"]
    first.running = 0
    accounts.by_tenant.pop(OTHERS)
    assert accounts.find("c").tenant == "c"


def test_removed() -> None:
    """A removed request is not served, and its size no longer counts."""
    tenants = Tenants()
    first, second = tenants.push("first"), tenants.push("second")
    tenants.queue.remove(first)
    assert (tenants.queue.length, tenants.queue.size) == (1, 10)
    assert tenants.queue.find_last(second.account) is second
    assert (tenants.pop_all(), tenants.queue.length, tenants.queue.size) == (["second"], 0, 0)


class Machine(RuleBasedStateMachine):
    """Requests of some tenants and classes come, leave and are served in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.tenants = Tenants(max_tenants=4)
        self.waiting: list[Waiter] = []
        self.passed: Counter[Waiter] = Counter()

    @rule(
        tenant=st.sampled_from("abcdef"),
        rank=st.integers(0, len(CLASSES) - 1),
        priority=st.integers(-2, 2),
    )
    def push(self, tenant: str, rank: int, priority: int) -> None:
        """Add a request."""
        self.waiting.append(self.tenants.push("x", tenant, rank, priority))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        """Remove a request."""
        waiter = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(waiter)
        self.tenants.queue.remove(waiter)

    @rule(tokens=st.integers(0, 1000))
    def pop(self, tokens: int) -> None:
        """Serve a request; only an earlier one of its tenant, or another tenant's, comes first."""
        waiter = self.tenants.queue.pop()
        assert (waiter is None) == (not self.waiting)
        if waiter is not None:
            self.waiting.remove(waiter)
            waiter.account.counter += tokens
            for other in self.waiting:
                if other.account is waiter.account and other.rank == waiter.rank:
                    assert other.priority >= waiter.priority

    @invariant()
    def is_consistent(self) -> None:
        """All counts are those of the requests that wait."""
        queue = self.tenants.queue
        assert (queue.length, queue.size) == (len(self.waiting), 10 * len(self.waiting))
        counts = Counter(waiter.account for waiter in self.waiting)
        for account in self.tenants.accounts.by_tenant.values():
            assert account.waiting == counts[account]
        assert len(self.tenants.accounts.by_tenant) <= 5


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


async def test_turn_is_untouched() -> None:
    """The queue never resolves the future of a waiter."""
    tenants = Tenants()
    waiter = tenants.push("a")
    waiter.turn = asyncio.get_running_loop().create_future()
    assert tenants.queue.pop() is waiter
    assert not waiter.turn.done()


def test_promises() -> None:
    """Retries get a turn each, the first one when the first response may have ended."""
    accounts = Accounts(9)
    queue, account = BoundedQueue(AdmissionSettings(), accounts), accounts.find("a")
    start = Pace(4, 0.2, is_start=True)
    promises = [queue.promise(account, 10.0, start) for _ in range(2)]
    assert promises == pytest.approx([0.2, 0.25])
    assert queue.promise(account, 10.1, Pace(4, 0.2)) == pytest.approx(0.2)


def test_promises_to_tenants() -> None:
    """Refusals of one tenant do not delay the retries of another."""
    accounts = Accounts(9)
    queue = BoundedQueue(AdmissionSettings(), accounts)
    many, few = accounts.find("many"), accounts.find("few")
    many.waiting = 5
    pace = Pace(4, 0.2)
    promises = [queue.promise(many, 10.0, pace) for _ in range(10)]
    assert promises[-1] == pytest.approx(0.5)
    assert queue.promise(few, 10.0, pace) == pytest.approx(0.1)
