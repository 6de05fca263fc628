"""Leases under all orders of events: nothing leaks, nobody starves, no slot is given twice."""

import asyncio
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from maxgate.admission.ledger import (
    LEASE_SECONDS,
    RENEW_SECONDS,
    Grant,
    Holding,
    SlotLedger,
    allocate_slots,
)
from tests.fakes.redis_server import RedisServer, start_redis
from tests.fakes.slot_ledgers import FileLedgers, Ledgers, MemoryLedgers, RedisLedgers

CAPACITY = 7
MODEL = "llama"
TENANTS = st.sampled_from("abc")
WHICH = st.integers(0, 9)


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with start_redis() as server:
        yield server


@dataclass
class Process:
    """A worker: its slots, its running and its waiting requests by tenant."""

    ledger: SlotLedger
    slots: int = 0
    running: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)
    served: dict[str, float] = field(default_factory=dict)
    news: dict[str, float] = field(default_factory=dict)
    renewed_at: float = 0.0

    @property
    def demand(self) -> dict[str, int]:
        tenants = self.running.keys() | self.waiting.keys()
        return {t: self.running.get(t, 0) + self.waiting.get(t, 0) for t in sorted(tenants)}

    def start(self) -> None:
        """Start waiting requests while there are free slots."""
        for tenant, count in self.waiting.items():
            started = max(0, min(count, self.slots - sum(self.running.values())))
            self.waiting[tenant] -= started
            self.running[tenant] = self.running.get(tenant, 0) + started

    def finish(self) -> None:
        """End all requests that run beyond the slots, or one."""
        surplus = sum(self.running.values()) - self.slots
        for _ in range(max(1, surplus)):
            tenant = max(self.running, key=lambda t: self.running[t], default=None)
            if tenant is not None and self.running[tenant]:
                self.running[tenant] -= 1
                self.served[tenant] = self.served.get(tenant, 0) + 2


class Machine(RuleBasedStateMachine):
    """Workers that start, renew in time, die, stop and start again."""

    open_ledgers: Callable[[], Ledgers] = MemoryLedgers

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.ledgers = type(self).open_ledgers()
        self.alive: list[Process] = []
        self.died_at = [0.0]

    def teardown(self) -> None:
        """All slots can be used again once everybody is gone."""
        for process in self.alive:
            self.runner.run(process.ledger.release())
        self.ledgers.advance(LEASE_SECONDS if self.has_unexpired_dead() else 0)
        grant = self.runner.run(
            self.ledgers.open().renew(MODEL, Holding(CAPACITY, 0, {"z": 99}, {}))
        )
        assert grant == Grant(CAPACITY, CAPACITY, {}, True)
        self.runner.run(self.ledgers.aclose())
        self.runner.close()

    def has_unexpired_dead(self) -> bool:
        return self.ledgers.clock.monotonic() - self.died_at[-1] <= LEASE_SECONDS

    def renew(self, process: Process) -> None:
        holding = Holding(CAPACITY, sum(process.running.values()), process.demand, process.served)
        grant = self.runner.run(process.ledger.renew(MODEL, holding))
        process.served = {}
        process.slots = grant.slots
        process.renewed_at = self.ledgers.clock.monotonic()
        for tenant, tokens in grant.served.items():
            process.news[tenant] = process.news.get(tenant, 0) + tokens
        process.start()

    @precondition(lambda self: len(self.alive) < 5)
    @rule()
    def join(self) -> None:
        process = Process(self.ledgers.open())
        self.alive.append(process)
        self.renew(process)

    @precondition(lambda self: self.alive)
    @rule(which=WHICH, tenant=TENANTS, count=st.integers(1, 9))
    def arrive(self, which: int, tenant: str, count: int) -> None:
        process = self.alive[which % len(self.alive)]
        process.waiting[tenant] = process.waiting.get(tenant, 0) + count
        process.start()
        if process.waiting[tenant]:
            self.renew(process)

    @precondition(lambda self: self.alive)
    @rule(which=WHICH, times=st.integers(1, 9), renews=st.booleans())
    def finish(self, which: int, times: int, renews: bool) -> None:
        process = self.alive[which % len(self.alive)]
        for _ in range(times):
            process.finish()
            process.start()
        if renews:
            self.renew(process)

    @rule(seconds=st.floats(0.01, RENEW_SECONDS))
    def wait(self, seconds: float) -> None:
        self.ledgers.advance(seconds)
        now = self.ledgers.clock.monotonic()
        for process in self.alive:
            if now - process.renewed_at >= RENEW_SECONDS:
                self.renew(process)

    @precondition(lambda self: self.alive)
    @rule(which=WHICH)
    def die(self, which: int) -> None:
        self.alive.pop(which % len(self.alive))
        self.died_at.append(self.ledgers.clock.monotonic())

    @precondition(lambda self: self.alive)
    @rule(which=WHICH)
    def stop(self, which: int) -> None:
        process = self.alive.pop(which % len(self.alive))
        self.runner.run(process.ledger.release())

    @precondition(lambda self: self.alive)
    @rule()
    def settle(self) -> None:
        """Without further events, each worker gets its fair share within two renewals."""
        if self.has_unexpired_dead():
            self.wait(RENEW_SECONDS)
            self.wait(RENEW_SECONDS)
            self.wait(RENEW_SECONDS)
            self.wait(RENEW_SECONDS)
        for _ in range(5):
            for process in self.alive:
                if sum(process.running.values()) > process.slots:
                    demand = process.demand
                    process.finish()
                    for tenant, count in process.demand.items():  # others arrive at once
                        process.waiting[tenant] = (
                            process.waiting.get(tenant, 0) + demand[tenant] - count
                        )
                self.renew(process)
        demands = {str(n): process.demand for n, process in enumerate(self.alive)}
        wanted = allocate_slots(CAPACITY, demands)
        got = {str(n): process.slots for n, process in enumerate(self.alive)}
        assert all(got[n] >= wanted[n] for n in wanted), (got, wanted)

    @invariant()
    def no_slot_twice(self) -> None:
        assert sum(process.slots for process in self.alive) <= CAPACITY
        assert sum(sum(process.running.values()) for process in self.alive) <= CAPACITY


@pytest.mark.parametrize("kind", ["memory", "file", "redis"])
def test_leases(kind: str, tmp_path: Path, redis_server: RedisServer) -> None:
    """Each kind of ledger, in many orders of events."""
    kinds: dict[str, Callable[[], Ledgers]] = {
        "memory": MemoryLedgers,
        "file": lambda: FileLedgers(Path(mkdtemp(dir=tmp_path))),
        "redis": lambda: RedisLedgers(redis_server.url),
    }
    machine = type("Machine", (Machine,), {"open_ledgers": staticmethod(kinds[kind])})
    examples = 60 if kind == "memory" else 20
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples, stateful_step_count=30, deadline=None)
    )


REPORTS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(0, 30),
        st.integers(0, 20),
        st.dictionaries(TENANTS, st.integers(0, 20), max_size=3),
        st.dictionaries(TENANTS, st.integers(0, 20).map(float), max_size=3),
        st.sampled_from([0.0, 0.0, 1.0, 4.0, 11.0]),
    ),
    max_size=25,
)


@given(reports=REPORTS)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_same_grants(reports: list[Any], tmp_path: Path, redis_server: RedisServer) -> None:
    """The script for Redis grants exactly what the tables in Python do, in files too."""
    folder = Path(mkdtemp(dir=tmp_path))
    kinds: list[Ledgers] = [
        MemoryLedgers(),
        FileLedgers(folder),
        RedisLedgers(redis_server.url),
    ]

    async def replay(ledgers: Ledgers) -> list[Grant]:
        holders = [ledgers.open() for _ in range(4)]
        grants = []
        for which, capacity, in_use, demand, served, pause in reports:
            holding = Holding(capacity, in_use, demand, served)
            grants.append(await holders[which].renew(MODEL, holding))
            ledgers.advance(pause)
        await ledgers.aclose()
        return grants

    memory, file, from_redis = [asyncio.run(replay(ledgers)) for ledgers in kinds]
    shutil.rmtree(folder)
    assert memory == file == from_redis
