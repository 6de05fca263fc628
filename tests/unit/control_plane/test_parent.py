"""The parent keeps all workers up to date, and reports those that are not."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from typing_extensions import override

from maxgate.api.admin.canary import NewCanary
from maxgate.api.admin.schemas import EngineChange, NewEngine
from maxgate.canary.samples import Sample, Times, WorkerReport
from maxgate.canary.worker import WorkerCanary
from maxgate.control_plane import controller
from maxgate.control_plane.changes import EngineChanges, ManagedEngines
from maxgate.control_plane.listener import control_socket
from maxgate.control_plane.parent import ControlServer
from maxgate.control_plane.reload import compare_engines
from maxgate.control_plane.worker import ParentClient
from maxgate.errors import ConfigurationError, GatewayError
from maxgate.settings import Settings
from maxgate.upstream.settings import ReplicaSettings
from tests.fakes.engine_host import build_rooms
from tests.fakes.waiting import until
from tests.fakes.worker_engines import FakeWorkerEngines, FakeWorkerModels

A, B = "http://a:8080", "http://b:8080"
SETTINGS = Settings.model_validate({"engines": [A]})


class Parent:
    """A control server, the settings that it reads on a reload, and its workers."""

    def __init__(self) -> None:
        self.settings: Settings | ConfigurationError = SETTINGS
        self.saved: list[EngineChanges] = []
        self.pids: Collection[int] = ()
        self.managed = ManagedEngines(SETTINGS.engines, EngineChanges(), self.saved.append)
        self.path = Path()

    def load(self) -> Settings:
        """Return the settings of now, or raise."""
        if isinstance(self.settings, ConfigurationError):
            raise self.settings
        return self.settings

    @asynccontextmanager
    async def connect(self, *workers: FakeWorkerEngines) -> AsyncIterator[list[ParentClient]]:
        """Connect workers with these engines."""
        async with AsyncExitStack() as stack:
            clients = [ParentClient(self.path, engines, FakeWorkerModels()) for engines in workers]
            for client in clients:
                await stack.enter_async_context(client.running())
            yield clients


@pytest.fixture
async def parent(tmp_path: Path) -> AsyncIterator[Parent]:
    """A parent without workers."""
    fake = Parent()
    with control_socket(tmp_path, "host-8000") as bound:
        assert bound is not None
        listening, fake.path = bound
        rooms = build_rooms(fake.managed)
        with ControlServer(listening, fake.managed, SETTINGS, fake.load, lambda: fake.pids, rooms):
            yield fake
    assert "control" not in {thread.name for thread in threading.enumerate()}


async def test_all_workers(parent: Parent) -> None:
    """A change has reached every worker when the call returns, whichever worker got it."""
    first, second = FakeWorkerEngines(in_flight=2), FakeWorkerEngines(in_flight=3)
    async with parent.connect(first, second) as clients:
        added = await clients[1].add_engine(NewEngine(url=f"{B}/v1", weight=2))
        assert (first.urls, second.urls) == ([A, B], [A, B])
        assert (added.url, added.weight, added.source, added.in_flight) == (B, 2, "runtime", 5)
        drained = await clients[0].change_engine(added.id, EngineChange(draining=True))
        assert (drained.draining, first.draining, second.draining) == (True, [added.id], [added.id])
        await clients[0].remove_engine(added.id)
        assert (first.urls, second.urls) == ([A], [A])
        engines, workers = await clients[0].list_engines()
        assert ([engine.source for engine in engines], workers) == (["configuration"], 2)


async def test_unchanged_list(parent: Parent) -> None:
    """A request for the list applies nothing in the workers; each change is applied once."""
    worker = FakeWorkerEngines()
    async with parent.connect(worker) as [client]:
        for _ in range(3):
            await client.list_engines()
        assert worker.applied == 1
        await client.add_engine(NewEngine(url=B))
        await client.list_engines()
        assert worker.applied == 2


async def test_new_worker(parent: Parent) -> None:
    """A worker that starts later gets the changes before it serves."""
    async with parent.connect(FakeWorkerEngines()) as [client]:
        await client.add_engine(NewEngine(url=B))
        later = FakeWorkerEngines()
        async with parent.connect(later):
            assert later.urls == [A, B]


async def test_merged_reports(parent: Parent) -> None:
    """The list shows the best state and the worst breaker of all workers."""
    workers = [
        FakeWorkerEngines(state="unreachable", breaker="open"),
        FakeWorkerEngines(state="healthy", breaker="half_open"),
    ]
    async with parent.connect(*workers) as [client, _]:
        [engine], _ = await client.list_engines()
        assert (engine.state, engine.breakers) == ("healthy", {"llama": "open"})


@pytest.mark.parametrize(
    ("url", "status", "code", "param"),
    [
        (A, 409, "engine_exists", "url"),
        ("ftp://a", 400, "invalid_engine", "url"),
        ("http://a:99999", 400, "invalid_engine", "url"),
    ],
)
async def test_refused_engine(parent: Parent, url: str, status: int, code: str, param: str) -> None:
    """An error of the parent responds like one of the worker."""
    async with parent.connect(FakeWorkerEngines()) as [client]:
        with pytest.raises(GatewayError) as caught:
            await client.add_engine(NewEngine(url=url))
    error = caught.value
    assert (error.status, error.code, error.param) == (status, code, param)
    assert parent.saved == []


async def test_failing_worker(parent: Parent, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that cannot apply a change is counted in the error; the others have it."""
    monkeypatch.setattr("maxgate.control_plane.parent.CONFIRMATION_TIMEOUT", 0.2)
    good, bad = FakeWorkerEngines(), FakeWorkerEngines()
    async with parent.connect(good, bad) as clients:
        bad.error = RuntimeError("no")
        with pytest.raises(GatewayError, match="1 of 2 workers did not confirm it") as caught:
            await clients[0].add_engine(NewEngine(url=B))
        assert (caught.value.status, caught.value.code) == (504, "not_confirmed")
        assert good.urls == [A, B]
        bad.error = None
        engines, workers = await clients[0].list_engines()
        assert (len(engines), workers, bad.urls) == (2, 2, [A, B])


async def test_unconnected_worker(parent: Parent) -> None:
    """A worker that serves without a connection counts as not confirmed."""
    parent.pids = [1]
    async with parent.connect(FakeWorkerEngines()) as [client]:
        with pytest.raises(GatewayError, match="1 of 2 workers"):
            await client.add_engine(NewEngine(url=B))


async def test_reload(parent: Parent) -> None:
    """A reload applies the engines, names what needs a restart, and keeps changes."""
    worker = FakeWorkerEngines()
    async with parent.connect(worker) as [client]:
        await client.add_engine(NewEngine(url=B))
        parent.settings = Settings.model_validate(
            {
                "engines": [{"url": "http://user:secret@c:1"}, {"url": A, "weight": 3}],
                "server": {"port": 9000},
                "upstream": {"probe_interval": 9},
            }
        )
        result = await client.reload()
        assert worker.urls == ["http://user:secret@c:1", A, B]
        again = await client.reload()
    changes = [(one.setting, one.before, one.after, one.takes_effect) for one in result.changes]
    assert changes == [
        (f"engines {A}", "{}", '{"weight": 3.0}', "now"),
        ("engines http://c:1", None, '{"credentials": "hidden"}', "now"),
        ("server.port", "8000", "9000", "gateway_restart"),
        ("upstream.probe_interval", "5", "9.0", "worker_restart"),
    ]
    # They still need a restart.
    assert [one.setting for one in again.changes] == ["server.port", "upstream.probe_interval"]
    assert "secret" not in json.dumps(result.model_dump())


def test_other_credentials() -> None:
    """Engines that differ in their credentials only are told apart without showing them."""
    old, new = (ReplicaSettings(url=f"http://user:{key}@a:8080") for key in ("one", "two"))
    [change] = compare_engines([old], [new])
    assert (change.setting, change.before, change.after) == (
        f"engines {A}",
        '{"credentials": "hidden"}',
        '{"credentials": "hidden"} with other credentials',
    )


async def test_dns_name(parent: Parent) -> None:
    """A DNS name is in the list by itself, without addresses too."""
    worker = FakeWorkerEngines()
    async with parent.connect(worker) as [client]:
        parent.managed.add(ReplicaSettings(url="dns+http://engines:1"))
        engines, _ = await client.list_engines()
        assert [(one.url, one.state) for one in engines][1:] == [("dns+http://engines:1", "dns")]


async def test_invalid_configuration(parent: Parent) -> None:
    """An invalid configuration changes nothing; the error has the rule."""
    worker = FakeWorkerEngines()
    async with parent.connect(worker) as [client]:
        parent.settings = ConfigurationError("maxgate.yaml: setting server.port: too large")
        with pytest.raises(GatewayError, match=r"maxgate\.yaml: setting server\.port") as caught:
            await client.reload()
        assert (caught.value.status, caught.value.code) == (400, "invalid_configuration")
        assert worker.urls == [A]


async def test_signal(tmp_path: Path) -> None:
    """A reload by signal applies the engines; with a restart, all settings count as applied."""
    fake, worker = Parent(), FakeWorkerEngines()
    with control_socket(tmp_path, "host-8000") as bound:
        assert bound is not None
        listening, fake.path = bound
        control = ControlServer(
            listening, fake.managed, SETTINGS, fake.load, list, build_rooms(fake.managed)
        )
        with control:
            async with fake.connect(worker) as [client]:
                fake.settings = Settings.model_validate({"engines": [B], "require_tokenizer": True})
                control.reload(with_restart=True)

                async def is_applied() -> bool:
                    return worker.urls == [B]

                await until(is_applied)
                assert (await client.reload()).changes == []


async def test_without_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the parent, a worker starts with its own engines, and admin requests get a 503."""
    monkeypatch.setattr("maxgate.control_plane.worker._CONNECT_TIMEOUT", 0.05)
    worker = FakeWorkerEngines()
    client = ParentClient(tmp_path / "none.sock", worker, FakeWorkerModels())
    async with client.running():
        with pytest.raises(GatewayError) as caught:
            await client.list_engines()
    assert (caught.value.code, worker.applied) == ("parent_unreachable", 0)


@pytest.mark.parametrize("closes", [True, False])
async def test_silent_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, closes: bool
) -> None:
    """A change that the parent got without a reply may be made all the same, as the error says."""
    monkeypatch.setattr("maxgate.control_plane.worker._CALL_TIMEOUT", 60 if closes else 0.05)
    state = {"type": "state", "number": 0, "engines": [{"url": A}], "draining": []}
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(json.dumps(state).encode() + b"\n")
        for _ in ("hello", "report", "call"):
            await reader.readline()
        if not closes:
            await ended.wait()
        writer.close()

    client = ParentClient(tmp_path / "parent.sock", FakeWorkerEngines(), FakeWorkerModels())
    async with await asyncio.start_unix_server(serve, tmp_path / "parent.sock"), client.running():
        with pytest.raises(GatewayError, match="may be made all the same") as caught:
            await client.add_engine(NewEngine(url=B))
        ended.set()
    assert (caught.value.status, caught.value.code) == (504, "no_reply")


async def test_garbage_on_the_socket(parent: Parent) -> None:
    """A peer that breaks the protocol loses its connection, and nothing else happens."""
    async with parent.connect(FakeWorkerEngines()) as [client]:
        for content in (b"hello\n", b"5\n", b'{"type": "report", "number": "x"}\n', b"[" * 9):
            reader, writer = await asyncio.open_unix_connection(parent.path)
            writer.write(content)
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
        assert (await client.list_engines())[1] == 1


def test_timeouts() -> None:
    """The wait for workers is short enough for a client with a usual timeout."""
    assert controller.CONFIRMATION_TIMEOUT <= 5


class FakeCanary(WorkerCanary):
    """A canary that has one more sample with each report."""

    def __init__(self) -> None:
        self.samples = 0
        self.runs = False

    @override
    def report(self, canary_id: str, canary: NewCanary | None, after: int) -> WorkerReport:
        self.runs = canary is not None
        self.samples += 1
        return WorkerReport(samples=[Sample(prefix=1, new=Times())] * (self.samples - after))


async def test_canary(parent: Parent) -> None:
    """A canary starts in all workers, also in those that connect later, and ends in all."""
    first, later = FakeCanary(), FakeCanary()
    client = ParentClient(parent.path, FakeWorkerEngines(), FakeWorkerModels(), first)
    async with client.running():
        started = await client.start_canary(NewCanary(url=B))
        assert (started.completed, started.workers, first.runs) == (1, 1, True)
        with pytest.raises(GatewayError) as caught:
            await client.start_canary(NewCanary(url=B))
        assert (caught.value.status, caught.value.code) == (409, "canary_exists")
        assert (await client.read_canary()).completed == 2
        second = ParentClient(parent.path, FakeWorkerEngines(), FakeWorkerModels(), later)
        async with second.running():
            await client.read_canary()
            assert later.runs
            await client.stop_canary()
            assert not later.runs
        assert not first.runs
        with pytest.raises(GatewayError, match="No canary runs"):
            await client.read_canary()


async def test_worker_without_canary(parent: Parent) -> None:
    """A worker whose report fails is missing in the result, and the others go on."""
    async with parent.connect(FakeWorkerEngines()) as [client]:
        assert (await client.start_canary(NewCanary(url=B))).workers == 0
        assert (await client.stop_canary()).workers == 0
