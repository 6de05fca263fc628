"""Models start and stop as their schedule decides, and never under a running request."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from maxgate.api.admin.schemas import Engine, ModelSwap
from maxgate.control_plane.changes import EngineChanges, ManagedEngines
from maxgate.control_plane.controller import ModelReport, Reports, merge_model_reports
from maxgate.control_plane.model_rooms import ManagedModel, ModelRooms, Waiting
from maxgate.control_plane.model_swaps import ModelSwaps
from maxgate.errors import Conflict, GatewayError
from maxgate.model_cards.card import ModelCard
from maxgate.upstream.settings import ReplicaSettings
from tests.fakes.engine_host import AGE_BOUND, FakeHost, FakeHostedEngine, build_rooms
from tests.fakes.waiting import until


def card(name: str, **fields: Any) -> ModelCard:
    """Return the card of a model that can be started."""
    return ModelCard.model_validate(
        {
            "name": name,
            "prompt": "engine",
            "context_length": 100,
            "max": {"model_path": "x"},
            **fields,
        }
    )


class FakeWorkers:
    """One worker; `running` requests run and `waiting` ones wait, by model."""

    def __init__(self, managed: ManagedEngines) -> None:
        self.managed = managed
        self.rooms: ModelRooms
        self.running: dict[str, int] = {}
        self.missing = 0
        self.waiting: dict[str, Waiting] = {}
        self.is_open: dict[str, bool] = {}

    async def publish(self) -> Reports:
        await asyncio.sleep(0)
        self.is_open = {name: one["is_open"] for name, one in self.rooms.describe().items()}
        for name, is_open in self.is_open.items():
            if is_open:
                self.waiting.pop(name, None)
        engines = [self._report(engine) for engine in self.managed.serving]
        closed = [name for name, is_open in self.is_open.items() if not is_open]
        models = ModelReport(running=dict(self.running), closed=closed, idle={})
        return Reports([engines], self.missing, models)

    def _report(self, engine: ReplicaSettings) -> Engine:
        return Engine(
            id=engine.id,
            url=engine.url,
            state="healthy",
            draining=False,
            models=[],
            in_flight=0,
            breakers={},
            weight=1,
            max_concurrency=None,
            source="runtime",
            error=None,
        )

    def list_waiting(self) -> dict[str, Waiting]:
        return self.waiting


class Setup:
    """The rooms of some models."""

    def __init__(self, *models: ManagedModel) -> None:
        settings = [ReplicaSettings(url="http://configured")]
        self.managed = ManagedEngines(settings, EngineChanges(), lambda _: None)
        self.workers = FakeWorkers(self.managed)
        self.host = FakeHost()
        self.rooms = self.workers.rooms = build_rooms(self.managed, self.host, models)
        self.swaps = ModelSwaps(self.rooms, drain_timeout=0.2)

    def request(self, name: str) -> None:
        """Let a request wait for a model."""
        self.workers.waiting[name] = Waiting(1, self.rooms.now)
        self.rooms.wake()

    async def until_state(self, name: str, state: str) -> None:
        """Wait for the state of a model."""

        async def has_state() -> bool:
            return self.rooms.schedule.rooms[name].state == state

        await until(has_state)

    async def swap(self, **fields: Any) -> str:
        """Swap the models `a` and `b`; returns the final phase."""
        await self.swaps.swap_models(ModelSwap(old="a", new="b", **fields))

        async def has_ended() -> bool:
            return (await self.swaps.find_swap()).phase in {"done", "failed"}

        await until(has_ended)
        return (await self.swaps.find_swap()).phase


Start = Callable[..., Awaitable[Setup]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Run the rooms of these models until the end of the test."""
    tasks = []

    async def run(*models: ManagedModel) -> Setup:
        setup = Setup(*models)
        tasks.append(asyncio.create_task(setup.rooms.run(setup.workers)))
        return setup

    yield run
    for task in tasks:
        task.cancel()
        await asyncio.wait([task])


def on_demand(name: str, **fields: Any) -> ManagedModel:
    """Return a model that requests start."""
    return ManagedModel(card(name, load="on_demand", **fields), is_on_demand=True)


def configured(name: str) -> ManagedModel:
    """Return a model that was started with the gateway."""
    return ManagedModel(card(name), engine=FakeHostedEngine("http://configured"))


def list_urls(setup: Setup) -> list[str]:
    """Return the URLs of the engines that workers use."""
    return [engine.url for engine in setup.managed.serving]


async def test_running_requests(start: Start) -> None:
    """A model is stopped once its requests have finished, in all workers."""
    setup = await start(on_demand("a"), on_demand("b"))
    setup.request("a")
    await setup.until_state("a", "ready")
    setup.workers.running, setup.workers.missing = {"a": 1}, 1
    setup.request("b")
    await setup.until_state("a", "draining")
    assert setup.workers.is_open == {"a": False, "b": False}
    for _ in range(2):
        await asyncio.sleep(0.2)
        assert setup.rooms.schedule.rooms["a"].state == "draining"
        setup.workers.running = {}  # the worker that does not report may have requests
    engine = setup.host.engines["a"]
    setup.workers.missing = 0
    await setup.until_state("b", "ready")
    assert (engine.stopped.is_set(), setup.host.started) == (True, ["a", "b"])
    assert list_urls(setup) == ["http://configured", "http://b:8002"]


async def test_drained_model(start: Start) -> None:
    """A closed model has drained with the first report of all workers without its requests.

    A report from before it was closed says nothing.
    """
    setup = await start(on_demand("a"))
    setup.request("a")
    await setup.until_state("a", "ready")
    room = setup.rooms.schedule.rooms["a"]
    room.reserved = True
    before = await setup.workers.publish()
    setup.rooms.schedule.begin("close", "a", setup.rooms.now)
    setup.rooms.observe(before)
    assert not room.drained
    setup.workers.running = {"a": 1, "b": 1}
    setup.rooms.observe(await setup.workers.publish())
    assert (room.active, room.drained) == (1, False)
    setup.workers.running = {"b": 1}
    setup.rooms.observe(await setup.workers.publish())
    assert (room.active, room.drained) == (0, True)


def test_merged_reports() -> None:
    """Requests of all workers are summed, and a model is closed once it is in each of them."""
    reports = [
        ModelReport(running={"a": 2}, closed=["a", "b"], idle={"x": 5.0, "y": 1.0}),
        ModelReport(running={"a": 1, "b": 1}, closed=["b"], idle={"x": 3.0}),
    ]
    assert merge_model_reports(reports) == ModelReport(
        running=Counter(a=3, b=1), closed={"b"}, idle={"x": 3.0, "y": 1.0}
    )


async def test_measured_start(start: Start) -> None:
    """The start of an engine that starts with the gateway is measured."""
    setup = await start(configured("a"), ManagedModel(card("b")))

    async def is_measured() -> bool:
        return setup.rooms.schedule.rooms["a"].start_seconds is not None

    await until(is_measured)
    assert setup.rooms.estimate("b") < 2


async def test_request_at_expiry(start: Start) -> None:
    """A request that arrives while an idle model drains opens it again."""
    setup = await start(on_demand("a", idle_ttl=0.05))
    setup.request("a")
    await setup.until_state("a", "ready")
    await setup.until_state("a", "draining")
    setup.request("a")
    await setup.until_state("a", "ready")
    assert setup.host.started == ["a"]
    await setup.until_state("a", "stopped")
    assert list_urls(setup) == ["http://configured"]


async def test_dead_engine(start: Start) -> None:
    """An engine whose process has ended is started again by the next request."""
    setup = await start(on_demand("a"))
    setup.request("a")
    await setup.until_state("a", "ready")
    setup.host.engines["a"].stopped.set()
    await setup.until_state("a", "stopped")
    setup.request("a")
    await setup.until_state("a", "ready")
    assert setup.host.started == ["a", "a"]


async def test_failed_start(start: Start) -> None:
    """The workers get the cause of a failure, and the model is left alone."""
    setup = await start(on_demand("a"))
    setup.host.errors["a"] = "too little memory"
    setup.request("a")
    await until(lambda: _has_failed(setup))
    setup.request("a")
    await asyncio.sleep(0.3)
    state = setup.rooms.describe()["a"]
    assert (state["error"], 4 < state["pause"] <= 5) == ("too little memory", True)
    assert setup.host.started == ["a"]


async def _has_failed(setup: Setup) -> bool:
    return setup.rooms.schedule.rooms["a"].failures == 1


async def test_models_in_use(start: Start) -> None:
    """Models that start with the gateway are not described, and none is ever started."""
    setup = await start(configured("a"), ManagedModel(card("b")))
    setup.request("b")
    await asyncio.sleep(0.1)
    assert (setup.rooms.describe(), setup.host.started) == ({}, [])


async def test_swap(start: Start) -> None:
    """The new model serves before the old one is drained, and its names lead to the new one."""
    setup = await start(configured("a"), ManagedModel(card("b")))
    setup.workers.running = {"a": 1}
    await setup.swaps.swap_models(ModelSwap(old="a", new="b"))
    await setup.until_state("a", "draining")
    assert (setup.rooms.replaced, setup.rooms.schedule.rooms["b"].state) == ({"a": "b"}, "ready")
    with pytest.raises(Conflict, match="a is being swapped for b"):
        await setup.swaps.swap_models(ModelSwap(old="b", new="a"))
    setup.workers.running = {}
    await setup.until_state("a", "stopped")
    assert list_urls(setup) == ["http://b:8001"]


async def test_swap_in_place(start: Start) -> None:
    """Models of one room are swapped in place, and back, with one engine at a time."""
    setup = await start(on_demand("a"), on_demand("b"))
    setup.request("a")
    await setup.until_state("a", "ready")
    with pytest.raises(Conflict, match="no room for b beside a"):
        await setup.swaps.swap_models(ModelSwap(old="a", new="b"))
    assert await setup.swap(in_place=True) == "done"
    assert list_urls(setup) == ["http://configured", "http://b:8002"]
    assert (setup.workers.is_open, setup.rooms.replaced) == ({"a": False, "b": True}, {"a": "b"})


async def test_failed_swap(start: Start) -> None:
    """If the new model does not start, the old one is started again."""
    setup = await start(configured("a"), ManagedModel(card("b")))
    setup.host.errors["b"] = "too little memory"
    assert await setup.swap(in_place=True) == "failed"
    status = await setup.swaps.find_swap()
    assert (status.error, status.held_seconds >= 0) == ("too little memory", True)
    assert (list_urls(setup), setup.rooms.replaced) == (["http://a:8002"], {})
    assert await setup.swap() == "failed"
    assert list_urls(setup) == ["http://a:8002"]


async def test_endless_request(start: Start) -> None:
    """A swap in place gives up if requests do not finish, and opens the old model again."""
    setup = await start(configured("a"), ManagedModel(card("b")))
    setup.workers.running = {"a": 1}
    assert await setup.swap(in_place=True) == "failed"
    assert "requests at a still run after 0.2 s" in str((await setup.swaps.find_swap()).error)
    assert (setup.rooms.schedule.rooms["a"].state, setup.host.started) == ("ready", [])


async def test_unload(start: Start) -> None:
    """An unloaded model is started again by a request, also if it is not one on demand."""
    setup = await start(configured("a"))
    assert await setup.swaps.unload_models() == []
    assert list_urls(setup) == []
    setup.request("a")
    await setup.until_state("a", "ready")
    assert list_urls(setup) == ["http://a:8001"]


@pytest.mark.parametrize(
    ("old", "new", "code", "param"),
    [
        ("x", "b", "model_not_found", "old"),
        ("a", "x", "model_not_found", "new"),
        ("a", "a", "conflict", "new"),
    ],
)
async def test_refused_swap(start: Start, old: str, new: str, code: str, param: str) -> None:
    """A swap needs two different models that are known."""
    setup = await start(configured("a"), ManagedModel(card("b")))
    with pytest.raises(GatewayError) as caught:
        await setup.swaps.swap_models(ModelSwap(old=old, new=new))
    assert (caught.value.code, caught.value.param) == (code, param)


async def test_without_engines(start: Start) -> None:
    """A gateway that has started no engine changes no models, and none was swapped elsewhere."""
    setup = await start()
    with pytest.raises(GatewayError) as caught:
        await setup.swaps.unload_models()
    assert caught.value.status == 501
    setup = await start(configured("a"))
    with pytest.raises(GatewayError) as caught:
        await setup.swaps.find_swap()
    assert (caught.value.status, caught.value.code) == (404, "swap_not_found")


async def test_age_bound(start: Start) -> None:
    """Alternating demand stops a model only after the age bound."""
    setup = await start(on_demand("a"), on_demand("b"))
    began = setup.rooms.now
    for number in range(4):
        setup.request("ab"[number % 2])
        await setup.until_state("ab"[number % 2], "ready")
    assert setup.rooms.now - began >= 3 * AGE_BOUND
