"""Decides which models run when: one per room, started on demand, stopped when idle.

Pure: it gets facts with their times and returns actions, which another part executes. Models of one
group share a room, and an exclusive model needs all rooms. Requests are grouped by model: a model
keeps its room for the age bound, and then until it is idle or the oldest request for another one
has waited for the age bound. So no request starves, alternating requests cause at most one swap per
age bound, and running requests always finish: a model is stopped only after it has been closed for
new requests and has drained.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

State = Literal["stopped", "starting", "ready", "draining", "stopping"]
Kind = Literal["start", "close", "reopen", "stop"]

UNMEASURED_START: Final = 30.0
"""Seconds assumed for a start before any was measured."""
_STATES: Final[Mapping[Kind, State]] = {
    "start": "starting",
    "close": "draining",
    "reopen": "ready",
    "stop": "stopping",
}
_FIRST_PAUSE: Final = 5.0
_MAX_PAUSE: Final = 300.0


class Action(NamedTuple):
    """A step: `start` or `stop` the engine of a model, `close` it for requests, or `reopen` it."""

    kind: Kind
    model: str


@dataclass(frozen=True, slots=True)
class RoomRules:
    """When a model runs. Without a `group` it has a room of its own; an `idle_ttl` of 0 is never.

    Times in seconds.
    """

    group: str | None = None
    exclusive: bool = False
    idle_ttl: float = 0


@dataclass(slots=True)
class ModelRoom:
    """A model and what is known about it; times are readings of one clock, in seconds.

    `since` is the time of the state. `waiting` requests, the oldest since `waiting_since`, need the
    model while it is not ready. `reserved` models are changed by an operator, and not from here.
    A model that failed to start is not started again before `retry_at`. A draining model has
    `expired` if it was closed because it was idle.
    """

    name: str
    rules: RoomRules
    state: State = "stopped"
    since: float = 0.0
    waiting: int = 0
    waiting_since: float = 0.0
    active: int = 0
    last_used: float = 0.0
    drained: bool = False
    expired: bool = False
    reserved: bool = False
    failures: int = 0
    retry_at: float = 0.0
    error: str | None = None
    start_seconds: float | None = None
    drain_seconds: float = 0.0
    stop_seconds: float = 0.0

    @property
    def occupies(self) -> bool:
        """Whether its room is taken."""
        return self.state != "stopped" or self.reserved

    def conflicts(self, other: "ModelRoom") -> bool:
        """Whether the two may not run at the same time."""
        if self is other or self.rules.group is None or other.rules.group is None:
            return False
        exclusive = self.rules.exclusive or other.rules.exclusive
        return exclusive or self.rules.group == other.rules.group

    def is_idle(self) -> bool:
        """Whether no request runs or waits."""
        return self.active == 0 and self.waiting == 0

    def reaches_ttl(self, now: float) -> bool:
        """Whether it has been idle for its TTL."""
        ttl = self.rules.idle_ttl
        return bool(ttl) and self.is_idle() and now - max(self.last_used, self.since) >= ttl


class RoomSchedule:
    """The rooms of all models that the gateway can start."""

    def __init__(self, rooms: Iterable[ModelRoom], *, age_bound: float) -> None:
        self.rooms = {room.name: room for room in rooms}
        self._age_bound = age_bound

    def started(self, name: str, now: float) -> None:
        """Note that a model is ready for requests."""
        room = self.rooms[name]
        seconds = now - room.since
        known = room.start_seconds
        room.start_seconds = seconds if known is None else (known + seconds) / 2
        room.failures, room.error = 0, None
        room.last_used = now
        _enter(room, "ready", now)

    def start_failed(self, name: str, error: str, now: float) -> None:
        """Note why a model could not be started; the pause until the next start doubles."""
        room = self.rooms[name]
        pause = min(_FIRST_PAUSE * 2**room.failures, _MAX_PAUSE)
        room.failures += 1
        room.error, room.retry_at = error, now + pause
        room.waiting = 0
        _enter(room, "stopped", now)

    def note_drained(self, name: str, now: float) -> None:
        """Note that a closed model has no more running requests in any worker."""
        room = self.rooms[name]
        if room.state == "draining" and not room.drained:
            room.drained = True
            room.drain_seconds = now - room.since

    def stopped(self, name: str, now: float) -> None:
        """Note that the engine of a model has ended and its memory is free."""
        room = self.rooms[name]
        if room.state == "stopping":
            room.stop_seconds = now - room.since
        _enter(room, "stopped", now)

    def plan(self, now: float) -> list[Action]:
        """Return what is to be done now; the states are those after these actions have begun."""
        contenders = self._list_contenders(now)
        actions = self._plan_draining(contenders, now)
        actions += self._plan_starts(contenders, now)
        for room in self.rooms.values():
            if room.state == "ready" and not room.reserved and room.reaches_ttl(now):
                actions.append(_act("close", room, now))
                room.expired = True
        return actions

    def _list_contenders(self, now: float) -> list[ModelRoom]:
        """Return the models that need a room, the oldest request first."""
        found = [
            room
            for room in self.rooms.values()
            if room.waiting and not room.occupies and now >= room.retry_at
        ]
        return sorted(found, key=lambda room: (room.waiting_since, room.name))

    def _plan_draining(self, contenders: Sequence[ModelRoom], now: float) -> list[Action]:
        actions = []
        for room in self.rooms.values():
            if room.state != "draining" or room.reserved:
                continue
            is_needed = any(room.conflicts(other) for other in contenders)
            if not is_needed and (room.waiting or not room.expired):
                actions.append(_act("reopen", room, now))
            elif room.drained:
                actions.append(_act("stop", room, now))
        return actions

    def _plan_starts(self, contenders: Sequence[ModelRoom], now: float) -> list[Action]:
        actions = []
        for position, room in enumerate(contenders):
            # A younger request takes no engine that an older one waits for.
            if any(room.conflicts(older) for older in contenders[:position]):
                continue
            occupants = self.list_conflicts(room.name)
            if not occupants:
                actions.append(_act("start", room, now))
            actions += [
                _act("close", other, now)
                for other in occupants
                if other.state == "ready" and not other.reserved and self._yields(other, room, now)
            ]
        return actions

    def _yields(self, occupant: ModelRoom, contender: ModelRoom, now: float) -> bool:
        if now - occupant.since < self._age_bound:
            return False
        return occupant.is_idle() or now - contender.waiting_since >= self._age_bound

    def begin(self, kind: Kind, name: str, now: float) -> None:
        """Enter the state of a step that an operator has chosen, for a reserved model."""
        _act(kind, self.rooms[name], now)

    def list_conflicts(self, name: str) -> list[ModelRoom]:
        """Return the models that have to be stopped before this one can run."""
        room = self.rooms[name]
        return [other for other in self.rooms.values() if other.occupies and other.conflicts(room)]

    def estimate(self, name: str, now: float, *, after: str | None = None) -> float:
        """Return the seconds until a model will probably be ready for requests, at least 1.

        It starts once the model `after`, which is leaving, has stopped.
        """
        room = self.rooms[name]
        start = self._expect_start(room)
        if room.state == "ready":
            return 1.0
        if room.state == "starting":
            return max(1.0, start - (now - room.since))
        seconds = max(room.retry_at - now, 0.0) + start
        if room.state in {"draining", "stopping"}:
            seconds += max(room.drain_seconds + room.stop_seconds - (now - room.since), 0.0)
        occupants = self.list_conflicts(name)
        if after is not None and self.rooms[after] not in occupants:
            occupants.append(self.rooms[after])
        ends = [self._expect_end(occupant, room, now) for occupant in occupants]
        return max(1.0, seconds + max(ends, default=0))

    def _expect_start(self, room: ModelRoom) -> float:
        if room.start_seconds is not None:
            return room.start_seconds
        measured = [one.start_seconds for one in self.rooms.values() if one.start_seconds]
        return max(measured, default=UNMEASURED_START)

    def _expect_end(self, occupant: ModelRoom, contender: ModelRoom, now: float) -> float:
        """Return the seconds until an occupant has left its room."""
        elapsed = now - occupant.since
        leaving = occupant.drain_seconds + occupant.stop_seconds
        if occupant.state in {"draining", "stopping", "stopped"}:
            return max(leaving - elapsed, 0.0)
        kept = self._age_bound - (elapsed if occupant.state == "ready" else 0)
        if occupant.state == "starting":
            kept += max(self._expect_start(occupant) - elapsed, 0.0)
        if not occupant.is_idle() and contender.waiting:
            kept = max(kept, contender.waiting_since + self._age_bound - now)
        return max(kept, 0.0) + leaving


def _act(kind: Kind, room: ModelRoom, now: float) -> Action:
    _enter(room, _STATES[kind], now)
    return Action(kind, room.name)


def _enter(room: ModelRoom, state: State, now: float) -> None:
    room.state, room.since = state, now
    room.drained = room.expired = False
