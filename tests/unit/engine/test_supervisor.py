"""An engine is started, waited for, started again when it dies, and stopped."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import respx

from maxgate.engine import supervisor as supervisor_module
from maxgate.engine.supervisor import Supervisor
from maxgate.errors import EngineError
from tests.fakes.clock import FakeClock

URL = "http://127.0.0.1:8080"


class FakeEngine:
    """Ends when told to."""

    def __init__(self) -> None:
        self.exit_code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.stopped = False

    async def wait(self) -> int:
        return await asyncio.shield(self.exit_code)

    async def stop(self) -> None:
        self.stopped = True


class FakeLauncher:
    """Starts fake engines, and remembers them."""

    def __init__(self, log_file: Path) -> None:
        self.log_file = log_file
        self.engines: asyncio.Queue[FakeEngine] = asyncio.Queue()

    async def start(self) -> FakeEngine:
        engine = FakeEngine()
        self.engines.put_nowait(engine)
        return engine


class Notes:
    """A reporter; `ready_again` is released each time."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.deaths: list[tuple[str, float]] = []
        self.ready_again = asyncio.Semaphore(0)

    def starting(self, phase: str, seconds: float) -> None:
        self.phases.append(phase)

    def ready(self, seconds: float) -> None:
        self.ready_again.release()

    def died(self, cause: str, pause: float) -> None:
        self.deaths.append((cause, pause))


class Setup:
    """A supervisor and everything around it."""

    def __init__(self, tmp_path: Path, client: httpx.AsyncClient) -> None:
        self.clock, self.notes = FakeClock(), Notes()
        self.launcher = FakeLauncher(tmp_path / "engine.log")
        self.supervisor = Supervisor(
            self.launcher, URL, self.notes, clock=self.clock, start_timeout=100, client=client
        )


@pytest.fixture
async def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Setup]:
    monkeypatch.setattr(supervisor_module, "_LOOK_EVERY", 0.001)
    monkeypatch.setattr(supervisor_module, "_PAUSES", (0.001, 0.002))
    monkeypatch.setattr(supervisor_module, "_LONGEST_PAUSE", 0.003)
    async with httpx.AsyncClient() as client:
        yield Setup(tmp_path, client)


def answers(mock: respx.Router, *statuses: int) -> None:
    sequence = [httpx.Response(status) for status in statuses]
    mock.get(URL + "/v1/models").side_effect = [httpx.ConnectError("not yet"), *sequence]


async def test_it_is_ready_when_it_lists_its_models(setup: Setup, respx_mock: respx.Router) -> None:
    answers(respx_mock, 503, 200)
    setup.launcher.log_file.write_text("Initializing model pipeline...")
    running = asyncio.create_task(setup.supervisor.run())
    await setup.notes.ready_again.acquire()
    running.cancel()
    await asyncio.wait([running])
    engine = setup.launcher.engines.get_nowait()
    assert (engine.stopped, setup.notes.phases) == (True, ["loading the model"] * 2)


async def test_an_engine_that_never_comes_up_is_given_up_with_its_cause(
    setup: Setup, respx_mock: respx.Router
) -> None:
    respx_mock.get(URL + "/v1/models").side_effect = httpx.ConnectError("refused")
    setup.launcher.log_file.write_text("ValueError: The network port 8080 is already in use")
    running = asyncio.create_task(setup.supervisor.run())
    engine = await setup.launcher.engines.get()
    engine.exit_code.set_result(1)
    with pytest.raises(EngineError, match="its port is taken"):
        await running
    assert engine.stopped


async def test_an_engine_that_takes_too_long_is_given_up(
    setup: Setup, respx_mock: respx.Router
) -> None:
    respx_mock.get(URL + "/v1/models").side_effect = httpx.ConnectError("refused")
    running = asyncio.create_task(setup.supervisor.run())
    engine = await setup.launcher.engines.get()
    setup.clock.advance(101)
    with pytest.raises(EngineError, match="not ready after 100 s"):
        await running
    assert engine.stopped


async def test_an_engine_that_dies_is_started_again_after_growing_pauses(
    setup: Setup, respx_mock: respx.Router
) -> None:
    respx_mock.get(URL + "/v1/models").respond(200)
    running = asyncio.create_task(setup.supervisor.run())
    engines = []
    for _ in range(4):
        await setup.notes.ready_again.acquire()
        engines.append(await setup.launcher.engines.get())
        engines[-1].exit_code.set_result(-9)
    await setup.notes.ready_again.acquire()
    setup.clock.advance(60)
    engines.append(await setup.launcher.engines.get())
    engines[-1].exit_code.set_result(3)
    await setup.notes.ready_again.acquire()
    running.cancel()
    await asyncio.wait([running])
    assert [pause for _, pause in setup.notes.deaths] == [0.001, 0.002, 0.003, 0.003, 0.001]
    assert "ran out of memory" in setup.notes.deaths[0][0]
    assert all(engine.stopped for engine in engines)


async def test_more_cancellations_do_not_leave_half_an_engine(
    setup: Setup, respx_mock: respx.Router
) -> None:
    respx_mock.get(URL + "/v1/models").respond(200)
    running = asyncio.create_task(setup.supervisor.run())
    await setup.notes.ready_again.acquire()
    engine = await setup.launcher.engines.get()
    stopping, go_on = asyncio.Event(), asyncio.Event()

    async def slow_stop() -> None:
        stopping.set()
        await go_on.wait()
        engine.stopped = True

    engine.stop = slow_stop  # type: ignore[method-assign]
    running.cancel()
    await stopping.wait()
    for _ in range(3):
        running.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert not running.done()
    go_on.set()
    await asyncio.wait([running])
    assert (engine.stopped, running.cancelled()) == (True, True)
