"""Restart and end of a gateway's processes under load: no request is lost."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from maxgate.server.instances import Instance, find_instances
from tests.conftest import ROOT
from tests.fakes.gateway import SMALL_CARD, TLS
from tests.fakes.max_server import FakeMax, Script
from tests.fakes.processes import ServerProcess, api_server
from tests.fakes.server import serving
from tests.fakes.waiting import until

BODY = {"messages": [{"role": "user", "content": "Hello"}]}
START_TIMEOUT = 60


@asynccontextmanager
async def gateway_with_stream(
    workers: int, **settings: str
) -> AsyncIterator[tuple[ServerProcess, asyncio.Event, httpx.AsyncClient, asyncio.Task[str]]]:
    """A gateway that streams a response, which ends once the event is set."""
    begins = asyncio.Event()
    engine = FakeMax(scripts=[Script(begins=begins)])
    async with serving(engine) as engine_url:
        flags = ("--engine-url", engine_url, "--card", str(SMALL_CARD), "--log-format", "json")
        async with (
            api_server(*flags, "--workers", str(workers), **settings) as server,
            httpx.AsyncClient(base_url=server.url, timeout=START_TIMEOUT, verify=TLS) as client,
        ):
            stream = asyncio.create_task(read_stream(client))
            await engine.arrived.wait()
            yield server, begins, client, stream
            begins.set()
            await asyncio.wait([stream])


async def read_stream(client: httpx.AsyncClient) -> str:
    """Return the whole text of a streamed response."""
    response = await client.post("/v1/chat/completions", json={**BODY, "stream": True})
    return response.text


async def wait_for_restart(server: ServerProcess, number: int) -> Instance:
    """Wait until this many restarts have ended, and return the state of the gateway."""

    async def has_ended() -> bool:
        return [one.restarts for one in find_instances(server.state_dir)] == [number]

    await until(has_ended, within=START_TIMEOUT)
    [instance] = find_instances(server.state_dir)
    return instance


@pytest.mark.parametrize(
    "command",
    [
        ("rolling_restart", "--requests", "1000", "--clients", "4"),
        ("drain", "--rounds", "1", "--clients", "4", "--workers", "1"),
        ("drain", "--rounds", "1", "--clients", "4", "--workers", "2"),
    ],
)
async def test_under_load(command: tuple[str, ...]) -> None:
    """Requests while workers are replaced or end get their whole responses, or a 503 at the end."""
    module, *flags = command
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"benchmarks.{module}", *flags),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    stdout, _ = await process.communicate()
    assert process.returncode == 0, stdout.decode()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGWINCH, signal.SIGPIPE])
async def test_ignored_signals(number: signal.Signals) -> None:
    """Signals that supervisors and log rotation send leave streams and processes alone."""
    async with gateway_with_stream(1) as (server, begins, _, stream):
        [worker] = server.find_workers()
        server.process.send_signal(number)
        worker.send_signal(number)
        begins.set()
        assert (await stream).endswith("data: [DONE]\n\n")
        assert server.process.returncode is None
        assert server.find_workers() == [worker]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT, signal.SIGUSR2])
async def test_ignored_by_workers(number: signal.Signals) -> None:
    """A worker leaves to its parent what a terminal sends to both."""
    async with gateway_with_stream(1) as (server, begins, _, stream):
        [worker] = server.find_workers()
        worker.send_signal(number)
        begins.set()
        assert (await stream).endswith("data: [DONE]\n\n")
        assert server.find_workers() == [worker]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
async def test_refused_requests(number: signal.Signals) -> None:
    """A gateway that waits for a stream is not ready, refuses requests, and says when to retry."""
    async with gateway_with_stream(2) as (server, begins, client, stream):
        server.process.send_signal(number)

        async def is_draining() -> bool:
            return (await client.get("/health/ready")).status_code == 503

        await until(is_draining)
        response = await client.post("/v1/chat/completions", json=BODY)
        live = await client.get("/health/live")
        begins.set()
        assert (await stream).endswith("data: [DONE]\n\n")
    assert (response.status_code, live.status_code) == (503, 200)
    assert (response.headers["retry-after"], response.headers["connection"]) == ("5", "close")
    assert response.json()["error"]["code"] == "server_shutting_down"


async def test_worker_gets_sigterm() -> None:
    """A worker that gets SIGTERM is replaced, and finishes its stream."""
    async with gateway_with_stream(1) as (server, begins, _, stream):
        [worker] = server.find_workers()
        worker.terminate()

        async def is_replaced() -> bool:
            return any("worker replaced" in line for line in server.lines)

        await until(is_replaced, within=START_TIMEOUT)
        begins.set()
        assert (await stream).endswith("data: [DONE]\n\n")
        await wait_for_restart(server, 1)
        [new] = server.find_workers()
        assert new != worker


async def test_kept_connection() -> None:
    """A worker that is replaced serves the next request of an open connection, and closes it."""
    async with gateway_with_stream(1) as (server, begins, _, stream):
        async with httpx.AsyncClient(base_url=server.url, verify=TLS) as idle:
            statuses = set()
            server.process.send_signal(signal.SIGUSR2)

            async def is_closed() -> bool:
                response = await idle.post("/v1/chat/completions", json=BODY)
                statuses.add(response.status_code)
                return response.headers.get("connection") == "close"

            await until(is_closed, within=START_TIMEOUT)
            response = await idle.post("/v1/chat/completions", json=BODY)
        begins.set()
        await stream
    assert (statuses, response.status_code) == ({200}, 200)
    assert "connection" not in response.headers


async def test_restart_timeout() -> None:
    """A stream that outlasts `shutdown_timeout` ends with an error event."""
    settings = {"MAXGATE_SERVER__SHUTDOWN_TIMEOUT": "1"}
    async with gateway_with_stream(1, **settings) as (server, _, _, stream):
        server.process.send_signal(signal.SIGUSR2)
        assert "server_shutting_down" in await asyncio.wait_for(stream, START_TIMEOUT)
        assert (await wait_for_restart(server, 1)).error is None


async def test_restart_command() -> None:
    """`maxgate restart` waits for new workers and lists them."""
    async with gateway_with_stream(1) as (server, begins, _, stream):
        begins.set()
        await stream
        code, stdout, _ = await run_restart(server.state_dir)
        [worker] = server.find_workers()
        port = server.url.rpartition(":")[2]
    assert (code, stdout) == (
        0,
        f"replaced the workers of the gateway on port {port}: process {worker.pid}\n",
    )


async def test_failed_restart(tmp_path: Path) -> None:
    """If a new worker cannot start, the old one keeps running, and the command fails."""
    config = tmp_path / "maxgate.yaml"
    config.write_text("server: {shutdown_timeout: 5}\n")
    async with gateway_with_stream(1, MAXGATE_CONFIG=str(config)) as (server, begins, _, stream):
        [worker] = server.find_workers()
        config.write_text("server: {shutdown_timeout: never}\n")
        code, _, stderr = await run_restart(server.state_dir)
        begins.set()
        assert (await stream).endswith("data: [DONE]\n\n")
        assert server.find_workers() == [worker]
    assert code == 1
    assert stderr.startswith("maxgate: the old workers keep running: worker ")
    assert any("setting server.shutdown_timeout" in line for line in server.lines)


async def run_restart(state_dir: Path) -> tuple[int | None, str, str]:
    """Run `maxgate restart`; returns its exit code, stdout and stderr."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "maxgate", "restart"),
        cwd=ROOT,
        env={**os.environ, "MAXGATE_STATE_DIR": str(state_dir)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    stdout, stderr = await process.communicate()
    return process.returncode, stdout.decode(), stderr.decode()


async def test_metrics_after_a_killed_worker() -> None:
    """Counts of a killed worker stay, and its gauges go."""
    async with gateway_with_stream(1) as (server, _, client, stream):
        await client.post("/v1/chat/completions", json=BODY)
        [worker] = server.find_workers()
        worker.kill()
        with pytest.raises(httpx.RemoteProtocolError):
            await stream

        async def is_back() -> bool:
            return server.find_workers() not in ([], [worker])

        await until(is_back, within=START_TIMEOUT)
        metrics = json.loads((await client.get("/metrics")).text)["requests"]
        assert (metrics["by_outcome"], metrics["in_flight"]) == ({"ok": 1}, 0)
