"""The supervisor starts an engine, waits until it is ready, restarts it and stops it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import respx

from maxgate.engine.supervisor import Supervisor
from maxgate.errors import EngineError
from tests.fakes.clock import FakeClock
from tests.fakes.gateway import TLS

URL = "http://127.0.0.1:8080"


class FakeEngine:
    """Exits when `exit_code` is set."""

    def __init__(self) -> None:
        self.exit_code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.stopped = False

    async def wait(self) -> int:
        return await asyncio.shield(self.exit_code)

    async def stop(self) -> None:
        self.stopped = True


class FakeLauncher:
    """Starts fake engines and keeps them in `engines`."""

    def __init__(self, log_file: Path) -> None:
        self.log_file = log_file
        self.engines: asyncio.Queue[FakeEngine] = asyncio.Queue()

    async def start(self) -> FakeEngine:
        engine = FakeEngine()
        self.engines.put_nowait(engine)
        return engine


class FakeReporter:
    """Records reports; `ready_reports` is released at each `ready`."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.deaths: list[tuple[str, float]] = []
        self.ready_reports = asyncio.Semaphore(0)

    def starting(self, phase: str, seconds: float) -> None:
        self.phases.append(phase)

    def ready(self, seconds: float) -> None:
        self.ready_reports.release()

    def died(self, cause: str, delay: float) -> None:
        self.deaths.append((cause, delay))


class Setup:
    """A supervisor and everything around it."""

    def __init__(self, tmp_path: Path, client: httpx.AsyncClient) -> None:
        self.clock, self.reporter = FakeClock(), FakeReporter()
        self.launcher = FakeLauncher(tmp_path / "engine.log")
        self.supervisor = Supervisor(
            self.launcher,
            URL,
            self.reporter,
            clock=self.clock,
            start_timeout=100,
            client=client,
            poll_interval=0.001,
            restart_delays=(0.001, 0.002, 0.003),
        )


@pytest.fixture
async def setup(tmp_path: Path) -> AsyncIterator[Setup]:
    async with httpx.AsyncClient(verify=TLS) as client:
        yield Setup(tmp_path, client)


def respond(mock: respx.Router, *statuses: int) -> None:
    """Refuse one connection, then respond with these statuses."""
    sequence = [httpx.Response(status) for status in statuses]
    mock.get(URL + "/v1/models").side_effect = [httpx.ConnectError("not yet"), *sequence]


async def test_ready(setup: Setup, respx_mock: respx.Router) -> None:
    """The engine is ready once it lists its models; until then, its phase is reported."""
    respond(respx_mock, 503, 200)
    setup.launcher.log_file.write_text("Initializing model pipeline...")
    running = asyncio.create_task(setup.supervisor.run())
    await setup.reporter.ready_reports.acquire()
    running.cancel()
    await asyncio.wait([running])
    engine = setup.launcher.engines.get_nowait()
    assert (engine.stopped, setup.reporter.phases) == (True, ["loading the model"] * 2)


async def test_failed_start(setup: Setup, respx_mock: respx.Router) -> None:
    """A failed first start raises the cause from the log."""
    respx_mock.get(URL + "/v1/models").side_effect = httpx.ConnectError("refused")
    setup.launcher.log_file.write_text("ValueError: The network port 8080 is already in use")
    running = asyncio.create_task(setup.supervisor.run())
    engine = await setup.launcher.engines.get()
    engine.exit_code.set_result(1)
    with pytest.raises(EngineError, match="its port is in use"):
        await running
    assert engine.stopped


async def test_start_timeout(setup: Setup, respx_mock: respx.Router) -> None:
    """An engine that is not ready in time is stopped."""
    respx_mock.get(URL + "/v1/models").side_effect = httpx.ConnectError("refused")
    running = asyncio.create_task(setup.supervisor.run())
    engine = await setup.launcher.engines.get()
    setup.clock.advance(101)
    with pytest.raises(EngineError, match="not ready after 100 s"):
        await running
    assert engine.stopped


async def test_restart(setup: Setup, respx_mock: respx.Router) -> None:
    """Restart delays grow, the last one repeats, and a stable engine resets them."""
    respx_mock.get(URL + "/v1/models").respond(200)
    running = asyncio.create_task(setup.supervisor.run())
    engines = []
    for _ in range(4):
        await setup.reporter.ready_reports.acquire()
        engines.append(await setup.launcher.engines.get())
        engines[-1].exit_code.set_result(-9)
    await setup.reporter.ready_reports.acquire()
    setup.clock.advance(60)
    engines.append(await setup.launcher.engines.get())
    engines[-1].exit_code.set_result(3)
    await setup.reporter.ready_reports.acquire()
    running.cancel()
    await asyncio.wait([running])
    assert [delay for _, delay in setup.reporter.deaths] == [0.001, 0.002, 0.003, 0.003, 0.001]
    assert "ran out of memory" in setup.reporter.deaths[0][0]
    assert all(engine.stopped for engine in engines)


async def test_repeated_cancellation(setup: Setup, respx_mock: respx.Router) -> None:
    """Repeated cancellation does not interrupt the stop."""
    respx_mock.get(URL + "/v1/models").respond(200)
    running = asyncio.create_task(setup.supervisor.run())
    await setup.reporter.ready_reports.acquire()
    engine = await setup.launcher.engines.get()
    stopping, may_stop = asyncio.Event(), asyncio.Event()

    async def slow_stop() -> None:
        stopping.set()
        await may_stop.wait()
        engine.stopped = True

    engine.stop = slow_stop  # type: ignore[method-assign]
    running.cancel()
    await stopping.wait()
    for _ in range(3):
        running.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert not running.done()
    may_stop.set()
    await asyncio.wait([running])
    assert (engine.stopped, running.cancelled()) == (True, True)
