"""The schedule of rooms: who starts, who yields, and when."""

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from maxgate.model_swap.schedule import Action, ModelRoom, RoomRules, RoomSchedule

AGE_BOUND = 10.0
SHARED = RoomRules(group="default")


def schedule(**rules: RoomRules) -> RoomSchedule:
    """Return the schedule of models with these rules."""
    rooms = [ModelRoom(name, one) for name, one in rules.items()]
    return RoomSchedule(rooms, age_bound=AGE_BOUND)


def demand(rooms: RoomSchedule, name: str, since: float, waiting: int = 1) -> None:
    """Let requests wait for a model since this time."""
    rooms.rooms[name].waiting, rooms.rooms[name].waiting_since = waiting, since


def run_model(rooms: RoomSchedule, name: str, now: float = 0) -> None:
    """Start a model for a request, which then runs."""
    demand(rooms, name, now)
    assert rooms.plan(now) == [Action("start", name)]
    rooms.started(name, now)
    rooms.rooms[name].waiting, rooms.rooms[name].active = 0, 1


def test_first_request() -> None:
    """A request starts its model, once."""
    rooms = schedule(a=SHARED, b=SHARED)
    assert rooms.plan(0) == []
    demand(rooms, "a", 0)
    assert rooms.plan(0) == [Action("start", "a")]
    assert rooms.plan(1) == []


def test_age_bound() -> None:
    """A busy model yields once a request for another one has waited for the age bound."""
    rooms = schedule(a=SHARED, b=SHARED)
    run_model(rooms, "a")
    demand(rooms, "b", 5)
    assert rooms.plan(14.9) == []
    assert rooms.plan(15) == [Action("close", "a")]
    assert rooms.plan(15) == []
    rooms.note_drained("a", 16)
    assert rooms.plan(16) == [Action("stop", "a")]
    assert rooms.plan(17) == []
    rooms.stopped("a", 18)
    assert rooms.plan(18) == [Action("start", "b")]


def test_idle_model() -> None:
    """An idle model yields at once, but keeps its room for the age bound."""
    rooms = schedule(a=SHARED, b=SHARED)
    run_model(rooms, "a")
    rooms.rooms["a"].active = 0
    demand(rooms, "b", 1)
    assert rooms.plan(9.9) == []
    assert rooms.plan(10) == [Action("close", "a")]


def test_expiry() -> None:
    """An idle model is closed after its TTL, and opened again for a request until it is stopped."""
    rooms = schedule(a=RoomRules(group="default", idle_ttl=60))
    run_model(rooms, "a")
    assert rooms.plan(100) == []
    rooms.rooms["a"].active, rooms.rooms["a"].last_used = 0, 100
    assert rooms.plan(159) == []
    assert rooms.plan(160) == [Action("close", "a")]
    rooms.note_drained("a", 160)
    demand(rooms, "a", 160)
    assert rooms.plan(160) == [Action("reopen", "a")]
    rooms.rooms["a"].waiting = 0
    assert rooms.plan(221) == [Action("close", "a")]
    rooms.note_drained("a", 221)
    assert rooms.plan(221) == [Action("stop", "a")]
    demand(rooms, "a", 222)
    assert rooms.plan(222) == []


def test_vanished_contender() -> None:
    """A model that drains for requests that are given up is opened again."""
    rooms = schedule(a=SHARED, b=SHARED)
    run_model(rooms, "a")
    demand(rooms, "b", 5)
    assert rooms.plan(15) == [Action("close", "a")]
    demand(rooms, "b", 0, waiting=0)
    assert rooms.plan(16) == [Action("reopen", "a")]


def test_groups() -> None:
    """Models of different groups run beside each other; an exclusive one runs alone."""
    rooms = schedule(
        a=SHARED,
        b=RoomRules(group="other"),
        c=RoomRules(group="third", exclusive=True),
        d=RoomRules(),
    )
    for name in "abcd":
        demand(rooms, name, "acbd".index(name))
    assert rooms.plan(3) == [Action("start", "a"), Action("start", "d")]
    rooms.started("a", 4)
    rooms.rooms["a"].waiting = 0
    # The exclusive model is older than `b`, which would keep it from starting.
    assert rooms.plan(14) == [Action("close", "a")]


def test_failed_start() -> None:
    """A model that fails to start is left alone for a pause that doubles."""
    rooms = schedule(a=SHARED)
    now = 0.0
    pauses = []
    for _ in range(8):
        demand(rooms, "a", now)
        assert rooms.plan(now) == [Action("start", "a")]
        rooms.start_failed("a", "no memory", now)
        demand(rooms, "a", now)
        assert rooms.plan(now) == []
        pauses.append(rooms.rooms["a"].retry_at - now)
        now += pauses[-1]
    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300]


def test_reserved_model() -> None:
    """A model that an operator changes keeps its room, whatever requests wait."""
    rooms = schedule(a=SHARED, b=SHARED)
    rooms.rooms["a"].reserved = True
    demand(rooms, "a", 0)
    demand(rooms, "b", 0)
    assert rooms.plan(100) == []


@pytest.mark.parametrize(
    ("now", "expected"),
    [(2, 8 + 6 + 4), (6, 4 + 6 + 4), (30, 6 + 4)],
)
def test_estimate(now: float, expected: float) -> None:
    """The wait is the rest of the residence, then drain and stop, then the measured start."""
    rooms = schedule(a=SHARED, b=SHARED)
    run_model(rooms, "a")
    rooms.rooms["a"].active = 0
    rooms.rooms["a"].drain_seconds, rooms.rooms["a"].stop_seconds = 1, 5
    rooms.rooms["b"].start_seconds = 4
    assert rooms.estimate("b", now) == expected


def test_estimate_of_start() -> None:
    """A start in progress takes the rest of the measured time."""
    rooms = schedule(a=SHARED)
    demand(rooms, "a", 0)
    assert rooms.estimate("a", 0) == 30
    rooms.plan(0)
    rooms.rooms["a"].start_seconds = 8
    assert [rooms.estimate("a", now) for now in (0, 5, 20)] == [8, 3, 1]


@dataclass
class World:
    """Engines that take a second to start and stop, and requests that take half a second."""

    rooms: RoomSchedule
    now: float = 0.0
    ends: dict[str, list[float]] = field(default_factory=dict)
    queued: dict[str, list[float]] = field(default_factory=dict)
    waits: list[float] = field(default_factory=list)
    actions: Counter[str] = field(default_factory=Counter)

    def request(self, name: str) -> None:
        """Send a request, which waits unless its model is ready."""
        self.queued.setdefault(name, []).append(self.now)

    def step(self, seconds: float = 0.1) -> None:
        """Advance the time, and execute what is planned."""
        self.now += seconds
        for name, room in self.rooms.rooms.items():
            running = [end for end in self.ends.get(name, []) if end > self.now]
            waiting = self.queued.setdefault(name, [])
            if room.state == "ready":
                self.waits += [self.now - at for at in waiting]
                running += [self.now + 0.5] * len(waiting)
                waiting.clear()
            self.ends[name] = running
            room.active, room.waiting = len(running), len(waiting)
            room.waiting_since = min(waiting, default=0)
            room.last_used = self.now if running else room.last_used
            if room.state == "draining" and not running:
                self.rooms.note_drained(name, self.now)
            if room.state == "starting" and self.now - room.since >= 1:
                self.rooms.started(name, self.now)
            if room.state == "stopping" and self.now - room.since >= 1:
                self.rooms.stopped(name, self.now)
        self.actions.update(action.kind for action in self.rooms.plan(self.now))


def test_alternating_requests() -> None:
    """Alternating requests cause at most one swap per age bound, and none waits for long."""
    world = World(schedule(a=SHARED, b=SHARED))
    for number in range(2000):
        world.request("ab"[number % 2])
        world.step()
    for _ in range(300):
        world.step()
    assert len(world.waits) == 2000
    assert world.actions["close"] <= world.now / AGE_BOUND
    # Own group's residence, then that of the other model, with drain, stop and start of each.
    assert max(world.waits) <= 2 * (AGE_BOUND + 3)


class RoomMachine(RuleBasedStateMachine):
    """Any order of requests, starts, failures and stops."""

    @initialize(
        rules=st.lists(
            st.builds(
                RoomRules,
                group=st.sampled_from([None, "x", "y"]),
                exclusive=st.booleans(),
                idle_ttl=st.sampled_from([0.0, 5.0]),
            ),
            min_size=2,
            max_size=4,
        )
    )
    def build(self, rules: list[RoomRules]) -> None:
        """Start with all models stopped."""
        self.now = 0.0
        names = "abcd"[: len(rules)]
        self.rooms = schedule(**dict(zip(names, rules, strict=True)))
        self.began: dict[str, float] = {}

    @rule(seconds=st.sampled_from([0.0, 0.5, 4.0, 11.0, 400.0]))
    def plan(self, seconds: float) -> None:
        """Let time pass, and check each planned action."""
        self.now += seconds
        states = {name: room.state for name, room in self.rooms.rooms.items()}
        for kind, name in self.rooms.plan(self.now):
            room = self.rooms.rooms[name]
            before = {
                "start": "stopped",
                "close": "ready",
                "reopen": "draining",
                "stop": "draining",
            }
            assert states[name] == before[kind]
            assert not room.reserved
            if kind == "stop":
                assert room.active == 0
            if kind == "start":
                assert room.waiting
                assert self.now >= room.retry_at
            if kind == "close" and not room.expired:
                assert self.now - self.began[name] >= AGE_BOUND
            if kind == "reopen":
                self.began[name] = self.now

    @rule(name=st.sampled_from("abcd"), count=st.integers(0, 2))
    def set_waiting(self, name: str, count: int) -> None:
        """Requests arrive, or are given up."""
        room = self.rooms.rooms.get(name)
        if room is not None and room.state != "ready":
            room.waiting_since = room.waiting_since if room.waiting and count else self.now
            room.waiting = count

    @rule(name=st.sampled_from("abcd"), count=st.integers(0, 2))
    def set_active(self, name: str, count: int) -> None:
        """Requests run at an open model, or end."""
        room = self.rooms.rooms.get(name)
        if room is not None and (room.state == "ready" or count < room.active):
            room.active, room.last_used = count, self.now
            if room.state == "ready":
                room.waiting = 0

    @rule(name=st.sampled_from("abcd"), fails=st.booleans())
    def finish_step(self, name: str, *, fails: bool) -> None:
        """An engine has started, failed, drained or stopped."""
        room = self.rooms.rooms.get(name)
        if room is None:
            return
        if room.state == "starting" and fails:
            self.rooms.start_failed(name, "failed", self.now)
        elif room.state == "starting":
            self.rooms.started(name, self.now)
            self.began[name] = self.now
        elif room.state == "draining" and room.active == 0:
            self.rooms.note_drained(name, self.now)
        elif room.state == "stopping":
            self.rooms.stopped(name, self.now)

    @invariant()
    def never_together(self) -> None:
        """Models that conflict never run at the same time."""
        if hasattr(self, "rooms"):
            running = [room for room in self.rooms.rooms.values() if room.state != "stopped"]
            assert not any(one.conflicts(other) for one in running for other in running)

    @precondition(lambda self: hasattr(self, "rooms"))
    @rule()
    def serve_everybody(self) -> None:
        """Once engines do their work and requests end, every request is served."""
        world = World(self.rooms, self.now)
        for name, room in self.rooms.rooms.items():
            world.queued[name] = [room.waiting_since] * room.waiting
            world.ends[name] = [self.now + 0.5] * room.active
        for _ in range(200):
            world.step(2)
        assert not any(world.queued.values())
        for name, room in self.rooms.rooms.items():
            room.waiting = room.active = 0
            self.began.setdefault(name, room.since)
            self.began[name] = room.since
        self.now = world.now


TestRooms = RoomMachine.TestCase
TestRooms.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
