"""Starts and stops the engines of models, as the schedule of their rooms decides."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

import structlog

from maxgate.clock import Clock
from maxgate.control_plane.changes import ManagedEngines
from maxgate.control_plane.controller import PROBE_TIMEOUT, Reports
from maxgate.errors import MaxgateError, StackTrace
from maxgate.model_cards.card import ModelCard
from maxgate.model_swap.schedule import ModelRoom, RoomRules, RoomSchedule
from maxgate.upstream.settings import ReplicaSettings

# Polls of the workers while a model drains, while requests wait, while on-demand models run, and
# while the engines of the configuration start.
_DRAIN_POLL: Final = 0.05
_WAIT_POLL: Final = 0.2
_IDLE_POLL: Final = 1.0
_MEASURE_POLL: Final = 0.5

_log = structlog.get_logger("control_plane")


class HostedEngine(Protocol):
    """The running engine of a model."""

    settings: ReplicaSettings

    async def wait(self) -> None:
        """Return when the engine has ended for good, without `stop`."""
        ...

    async def stop(self) -> None:
        """Stop the engine, and return once its memory is free."""
        ...


class EngineHost(Protocol):
    """Starts engines on this machine."""

    async def start(self, card: ModelCard) -> HostedEngine:
        """Start the engine of a card, and return once it has responded to a request.

        Raises MaxgateError with the cause.
        """
        ...


class Waiting(NamedTuple):
    """Requests that wait for a model, the oldest since a time of the schedule."""

    requests: int
    since: float


class Workers(Protocol):
    """The worker processes."""

    async def publish(self) -> Reports:
        """Send the present state to all workers, and return their reports."""
        ...

    def list_waiting(self) -> Mapping[str, Waiting]:
        """Return the requests that wait in all workers, by model."""
        ...


@dataclass
class ManagedModel:
    """A model that the gateway can start, and its engine while it runs.

    `is_on_demand`: requests start it. That also holds for a model that was unloaded.
    """

    card: ModelCard
    engine: HostedEngine | None = None
    is_on_demand: bool = False


def build_room(model: ManagedModel) -> ModelRoom:
    """Return the room of a model, in the state that its engine is in."""
    card = model.card
    rules = RoomRules()
    if card.load == "on_demand":
        rules = RoomRules(card.group, card.exclusive, card.idle_ttl)
    return ModelRoom(card.name, rules, state="ready" if model.engine else "stopped")


class ModelRooms:
    """The models that the gateway can start, by the names of their cards.

    `replaced` maps models that were swapped to those that serve their names. `swapping` has the old
    and the new model while requests for both wait for the new one.
    """

    def __init__(
        self,
        models: Sequence[ManagedModel],
        host: EngineHost,
        managed: ManagedEngines,
        clock: Clock,
        *,
        age_bound: float,
    ) -> None:
        self.models = {model.card.name: model for model in models}
        self.schedule = RoomSchedule(map(build_room, models), age_bound=age_bound)
        self.replaced: dict[str, str] = {}
        self.swapping: tuple[str, str] | None = None
        self._host = host
        self._managed = managed
        self._clock = clock
        self._workers: Workers
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def now(self) -> float:
        """The time of the schedule."""
        return self._clock.monotonic()

    def estimate(self, name: str) -> float:
        """Return the seconds until requests for a model can probably be served."""
        if self.swapping is not None and name in self.swapping:
            old, new = self.swapping
            return self.schedule.estimate(new, self.now, after=old)
        return self.schedule.estimate(name, self.now)

    def wake(self) -> None:
        """Look at the demand now."""
        self._changed.set()

    def describe(self) -> dict[str, dict[str, Any]]:
        """Return the models whose requests may have to wait, for the workers."""
        return {
            name: {
                "is_open": room.state == "ready",
                "seconds": self.estimate(name),
                "error": room.error,
                "pause": max(room.retry_at - self.now, 0.0),
            }
            for name, room in self.schedule.rooms.items()
            if self.models[name].is_on_demand or room.reserved
        }

    async def run(self, workers: Workers) -> None:
        """Execute the schedule until cancelled, then stop what was started."""
        self._workers = workers
        for name, model in self.models.items():
            if model.engine is not None:
                self.spawn(self._measure_start(name, model.engine))
        try:
            while True:
                self._changed.clear()
                try:
                    await self._step()
                except Exception as error:  # noqa: BLE001  # the loop must go on
                    _log.error("schedule of models failed", exception=StackTrace(error))
                try:
                    await asyncio.wait_for(self._changed.wait(), self._choose_pause())
                except TimeoutError:
                    continue
        finally:
            await self._end()

    def _choose_pause(self) -> float | None:
        rooms = [room for room in self.schedule.rooms.values() if not room.reserved]
        if any(room.state == "draining" for room in rooms):
            return _DRAIN_POLL
        if any(room.waiting for room in rooms):
            return _WAIT_POLL
        runs = any(room.state == "ready" and room.rules.group is not None for room in rooms)
        return _IDLE_POLL if runs else None

    async def _step(self) -> None:
        runs_on_demand = any(
            room.state in {"ready", "draining"} and room.rules.group is not None
            for room in self.schedule.rooms.values()
        )
        if runs_on_demand:
            self.observe(await self._workers.publish())
        self._take_waiting()
        actions = self.schedule.plan(self.now)
        for kind, name in actions:
            _log.info(f"model: {kind}", model=name)
            if kind == "start":
                self.spawn(self.start(name))
            elif kind == "stop":
                self.spawn(self.stop(name))
        if actions:
            await self._workers.publish()

    def _take_waiting(self) -> None:
        waiting, nothing = self._workers.list_waiting(), Waiting(0, self.now)
        for name, room in self.schedule.rooms.items():
            found = waiting.get(name, nothing) if self.models[name].is_on_demand else nothing
            room.waiting, room.waiting_since = found

    def observe(self, reports: Reports) -> None:
        """Take the running requests of all models from the reports of the workers."""
        models = reports.models
        for name, model in self.models.items():
            if model.engine is None:
                continue
            room, key = self.schedule.rooms[name], model.engine.settings.id
            room.active = models["running"].get(name, 0)
            if room.active:
                room.last_used = self.now
            elif key in models["idle"]:
                room.last_used = max(room.last_used, self.now - models["idle"][key])
            # A worker that does not report may have requests, and one that had not closed the model
            # may have got one since.
            if name in models["closed"] and not room.active and not reports.missing:
                self.schedule.note_drained(name, self.now)

    async def publish(self) -> Reports:
        """Send the present state to all workers."""
        return await self._workers.publish()

    def spawn(self, work: Awaitable[None]) -> None:
        """Do some work in the background, and look at the schedule again afterwards."""

        async def execute() -> None:
            try:
                await work
            except MaxgateError:
                pass  # logged, and kept in the room
            except Exception as error:  # noqa: BLE001  # a bug must not end the control of engines
                _log.error("change of a model failed", exception=StackTrace(error))
            self.wake()

        task = asyncio.create_task(execute())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def start(self, name: str) -> None:
        """Start a model whose room is `starting`, and open it; raises MaxgateError."""
        model = self.models[name]
        try:
            engine = await self._host.start(model.card)
        except MaxgateError as error:
            _log.error("model could not be started", model=name, error=str(error))
            self.schedule.start_failed(name, str(error), self.now)
            await self._workers.publish()
            raise
        model.engine = engine
        self._managed.started[name] = engine.settings
        self.spawn(self._watch(name, engine))
        await self._wait_until_healthy(engine.settings.id)
        if model.engine is engine:
            self.schedule.started(name, self.now)
            await self._workers.publish()

    async def _measure_start(self, name: str, engine: HostedEngine) -> None:
        """Measure the start of an engine that started with the gateway: estimates need it."""
        room, began = self.schedule.rooms[name], self.now
        while not _is_healthy(engine.settings.id, await self._workers.publish()):
            await asyncio.sleep(_MEASURE_POLL)
            if self.models[name].engine is not engine:
                return
        room.start_seconds = self.now - began

    async def _wait_until_healthy(self, engine_id: str) -> None:
        """Wait until all workers have probed an engine."""
        deadline = self.now + PROBE_TIMEOUT
        while (  # noqa: ASYNC110
            self.now < deadline and not _is_healthy(engine_id, await self._workers.publish())
        ):
            await asyncio.sleep(_DRAIN_POLL)

    async def _watch(self, name: str, engine: HostedEngine) -> None:
        await engine.wait()
        model = self.models[name]
        if model.engine is engine and self.schedule.rooms[name].state != "stopping":
            _log.error("engine of a model has ended", model=name)
            self._forget(name)
            self.schedule.stopped(name, self.now)
            await self._workers.publish()

    async def stop(self, name: str) -> None:
        """Stop a model whose room is `stopping`."""
        engine = self.models[name].engine
        self._forget(name)
        await self._workers.publish()
        if engine is not None:
            await engine.stop()
        self.schedule.stopped(name, self.now)
        await self._workers.publish()

    def _forget(self, name: str) -> None:
        """Take the engine of a model out of the list that workers use."""
        model = self.models[name]
        if model.engine is not None and self._managed.started.pop(name, None) is None:
            self._managed.stopped.add(model.engine.settings.id)  # it is in the configuration
        model.engine = None

    async def _end(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        engines = [self.models[name].engine for name in self._managed.started]
        stops = [asyncio.ensure_future(engine.stop()) for engine in engines if engine is not None]
        if tasks or stops:
            await asyncio.wait([*tasks, *stops])


def _is_healthy(engine_id: str, reports: Reports) -> bool:
    """Whether all workers have probed an engine."""
    healthy = [
        any(one.id == engine_id and one.state == "healthy" for one in report)
        for report in reports.engines
    ]
    return bool(healthy) and all(healthy) and not reports.missing
