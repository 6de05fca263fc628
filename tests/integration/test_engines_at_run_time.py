"""Engines change, and the configuration is reloaded, while real workers serve requests."""

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from maxgate.upstream.settings import ReplicaSettings
from tests.conftest import ROOT
from tests.fakes.gateway import SMALL_CARD, TLS
from tests.fakes.max_server import FakeMax, Script
from tests.fakes.processes import ServerProcess, api_server, free_port, plain_uvicorn, run_to_end
from tests.fakes.server import serving
from tests.fakes.waiting import until

BODY = {"messages": [{"role": "user", "content": "Hello"}]}
START_TIMEOUT = 60
REMOVED = "http://127.0.0.1:9"


class Load:
    """Clients that send requests, one after another, until it ends; `failures` has the rest."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.responses = 0
        self.failures: list[str] = []
        self._ended = False

    async def run(self) -> None:
        """Stream and fetch responses in turn, over new and kept connections."""
        number = 0
        while not self._ended:
            async with httpx.AsyncClient(
                base_url=self.url, timeout=START_TIMEOUT, verify=TLS
            ) as client:
                for _ in range(5):
                    number += 1
                    body = {**BODY, "stream": number % 2 == 0}
                    try:
                        response = await client.post("/v1/chat/completions", json=body)
                    except httpx.HTTPError as error:
                        self.failures.append(repr(error))
                        continue
                    whole = response.text.endswith("data: [DONE]\n\n") or not body["stream"]
                    if response.status_code != 200 or not whole:
                        self.failures.append(f"{response.status_code} {response.text}")
                    self.responses += 1

    async def wait(self, count: int) -> None:
        """Wait for this many further responses."""
        target = self.responses + count

        async def has_responses() -> bool:
            return self.responses >= target

        await until(has_responses, within=START_TIMEOUT)

    def end(self) -> None:
        """Let each client finish its request."""
        self._ended = True


@asynccontextmanager
async def loaded(url: str, clients: int = 4) -> AsyncIterator[Load]:
    """Send requests to the gateway from some clients."""
    load = Load(url)
    tasks = [asyncio.create_task(load.run()) for _ in range(clients)]
    try:
        yield load
    finally:
        load.end()
        await asyncio.gather(*tasks)


@asynccontextmanager
async def engines(count: int) -> AsyncIterator[tuple[list[FakeMax], list[str]]]:
    """Some engines and their URLs."""
    fakes = [FakeMax() for _ in range(count)]
    async with AsyncExitStack() as stack:
        yield fakes, [await stack.enter_async_context(serving(fake)) for fake in fakes]


@asynccontextmanager
async def gateway(config: Path, workers: int = 2) -> AsyncIterator[ServerProcess]:
    """A gateway with this configuration file."""
    flags = ("--workers", str(workers), "--card", str(SMALL_CARD), "--log-format", "json")
    async with api_server(*flags, MAXGATE_CONFIG=str(config)) as server:
        await wait_for_workers(server, workers)
        yield server


async def wait_for_workers(server: ServerProcess, count: int) -> None:
    """Wait until this many workers are connected to the parent."""

    async def are_connected() -> bool:
        return (await admin(server, "GET", "engines")).json()["workers"] == count

    await until(are_connected, within=START_TIMEOUT)


async def admin(
    server: ServerProcess, method: str, path: str, body: dict[str, Any] | None = None
) -> httpx.Response:
    """Send a request to the admin API over a new connection, to any worker."""
    async with httpx.AsyncClient(base_url=server.url, timeout=START_TIMEOUT, verify=TLS) as client:
        return await client.request(method, f"/admin/{path}", json=body)


async def find_engine(server: ServerProcess, url: str) -> dict[str, Any] | None:
    """Return the engine with this URL in the list."""
    listed = (await admin(server, "GET", "engines")).json()["data"]
    return next((engine for engine in listed if engine["url"] == url), None)


async def wait_until_healthy(server: ServerProcess, url: str) -> dict[str, Any]:
    """Wait until the engine is healthy, and return it."""

    async def is_healthy() -> bool:
        found = await find_engine(server, url)
        return found is not None and found["state"] == "healthy"

    await until(is_healthy, within=START_TIMEOUT)
    engine = await find_engine(server, url)
    assert engine is not None
    return engine


async def wait_until_idle(server: ServerProcess, url: str) -> None:
    """Wait until no worker has a request at the engine."""

    async def is_idle() -> bool:
        found = await find_engine(server, url)
        return found is not None and found["in_flight"] == 0

    await until(is_idle, within=START_TIMEOUT)


def write_config(path: Path, items: Sequence[Any], **settings: Any) -> Path:
    """Write a configuration file with these items of `engines`."""
    path.write_text(yaml.safe_dump({"engines": [*items], **settings}))
    return path


async def run_command(*arguments: str) -> tuple[int | None, str, str]:
    """Run `maxgate`; returns its exit code, stdout and stderr."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "maxgate", *arguments),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    stdout, stderr = await process.communicate()
    return process.returncode, stdout.decode(), stderr.decode()


async def test_under_load(tmp_path: Path) -> None:
    """Engines are added, drained and removed, and a reload replaces them, without a failure."""
    config = tmp_path / "maxgate.yaml"
    async with (
        engines(3) as (fakes, urls),
        gateway(write_config(config, urls[:1])) as server,
        loaded(server.url) as load,
    ):
        await load.wait(20)
        assert (await admin(server, "POST", "engines", {"url": urls[1]})).status_code == 201
        second = await wait_until_healthy(server, urls[1])
        fakes[1].requests.clear()
        await load.wait(40)
        assert fakes[1].requests
        await admin(server, "PATCH", f"engines/{second['id']}", {"draining": True})
        await wait_until_idle(server, urls[1])
        fakes[1].requests.clear()
        await load.wait(40)
        assert fakes[1].requests == []
        await admin(server, "PATCH", f"engines/{second['id']}", {"draining": False})
        await load.wait(40)
        assert fakes[1].requests
        response = await admin(server, "DELETE", f"engines/{second['id']}")
        assert response.json() == {"id": second["id"], "object": "engine", "deleted": True}
        await load.wait(40)
        write_config(config, urls[2:])
        reloaded = (await admin(server, "POST", "reload")).json()["changes"]
        await load.wait(40)
        fakes[2].requests.clear()
        await load.wait(20)
        assert fakes[2].requests
    assert [change["setting"] for change in reloaded] == [f"engines {url}" for url in urls[::2]]
    assert load.failures == []


async def test_changed_engine_under_load(tmp_path: Path) -> None:
    """A reload changes credentials, models and weight of the only engine without a failure."""
    config = tmp_path / "maxgate.yaml"
    async with (
        engines(1) as (_, [url]),
        gateway(write_config(config, [url])) as server,
        loaded(server.url) as load,
    ):
        old, new = (url.replace("//", f"//user:{key}@") for key in ("old", "new"))
        models = ["smollm2-135m-instruct"]
        for item in (old, new, {"url": new, "models": models}, {"url": url, "weight": 2}):
            write_config(config, [item])
            assert (await admin(server, "POST", "reload")).status_code == 200
            await load.wait(20)
    assert load.failures == []


async def test_running_stream(tmp_path: Path) -> None:
    """A stream finishes at an engine that has been drained and removed."""
    begins = asyncio.Event()
    async with engines(2) as (fakes, urls):
        fakes[0].scripts.append(Script(begins=begins))
        config = write_config(tmp_path / "maxgate.yaml", urls[:1])
        async with (
            gateway(config) as server,
            httpx.AsyncClient(base_url=server.url, timeout=START_TIMEOUT, verify=TLS) as client,
        ):
            body = {**BODY, "stream": True}
            stream = asyncio.create_task(client.post("/v1/chat/completions", json=body))
            await fakes[0].arrived.wait()
            await admin(server, "POST", "engines", {"url": urls[1]})
            first = await find_engine(server, urls[0])
            assert first is not None
            assert first["in_flight"] == 1
            await admin(server, "DELETE", f"engines/{first['id']}")
            assert await find_engine(server, urls[0]) is None
            begins.set()
            assert (await stream).text.endswith("data: [DONE]\n\n")


async def list_state(server: ServerProcess) -> list[tuple[str, bool, float]]:
    """Return URL, draining and weight of each engine."""
    listed = (await admin(server, "GET", "engines")).json()["data"]
    return [(one["url"], one["draining"], one["weight"]) for one in listed]


async def change_engines(server: ServerProcess, added: str) -> None:
    """Add an engine, drain the first one and remove the second one."""
    first, second = (await admin(server, "GET", "engines")).json()["data"]
    await admin(server, "POST", "engines", {"url": added, "weight": 2.5})
    await admin(server, "PATCH", f"engines/{first['id']}", {"draining": True})
    await admin(server, "DELETE", f"engines/{second['id']}")


async def test_new_worker(tmp_path: Path) -> None:
    """Changes reach the worker that replaces a killed one, and survive a restart and a reload."""
    config = tmp_path / "maxgate.yaml"
    async with engines(3) as (_, urls), gateway(write_config(config, urls[:2])) as server:
        await change_engines(server, urls[2])
        expected = [(urls[0], True, 1), (urls[2], False, 2.5)]
        assert await list_state(server) == expected
        killed, _ = server.find_workers()
        killed.kill()

        async def is_replaced() -> bool:
            return len(server.find_workers()) == 2 and killed not in server.find_workers()

        await until(is_replaced, within=START_TIMEOUT)
        await wait_for_workers(server, 2)
        assert await list_state(server) == expected
        assert (await admin(server, "POST", "reload")).json()["changes"] == []
        old = server.find_workers()
        server.process.send_signal(signal.SIGUSR2)

        async def is_restarted() -> bool:
            return len(server.find_workers()) == 2 and not set(old) & set(server.find_workers())

        await until(is_restarted, within=START_TIMEOUT)
        await wait_for_workers(server, 2)
        assert await list_state(server) == expected


async def test_new_start(tmp_path: Path) -> None:
    """Changes survive the end of all processes, a killed parent included."""
    config, state_dir = tmp_path / "maxgate.yaml", tmp_path / "state"
    flags = ("--card", str(SMALL_CARD), "--log-format", "json")
    async with engines(3) as (_, urls):
        write_config(config, urls[:2])
        variables = {"MAXGATE_CONFIG": str(config), "MAXGATE_STATE_DIR": str(state_dir)}
        async with api_server(*flags, **variables) as server:
            await wait_for_workers(server, 1)
            await change_engines(server, urls[2])
            before = await list_state(server)
            workers = server.find_workers()
            server.process.kill()
            await asyncio.to_thread(psutil.wait_procs, workers, START_TIMEOUT)
        [path] = (state_dir / "gateways").glob("*.sock")  # left behind
        async with api_server(*flags, port=server.port, **variables) as server:
            await wait_for_workers(server, 1)
            assert await list_state(server) == before
            assert (await admin(server, "POST", "reload")).json()["changes"] == []
            assert path.stat().st_mode & 0o777 == 0o600


async def test_invalid_configuration(tmp_path: Path) -> None:
    """A reload of an invalid configuration names file, setting and rule, and changes nothing."""
    config = tmp_path / "maxgate.yaml"
    async with engines(1) as (_, urls), gateway(write_config(config, urls), workers=1) as server:
        write_config(config, ["http://other:1"], server={"keep_alive_timeout": 0})
        response = await admin(server, "POST", "reload")
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (400, "invalid_configuration")
        assert f"{config}: setting server.keep_alive_timeout: " in error["message"]
        assert await find_engine(server, urls[0]) is not None
        server.process.send_signal(signal.SIGHUP)

        async def is_logged() -> bool:
            lines = [line for line in server.lines if "reload failed" in line]
            return len(lines) == 2 and "setting server.keep_alive_timeout" in lines[1]

        await until(is_logged)
        assert server.process.returncode is None


async def test_commands(tmp_path: Path) -> None:
    """The commands change a running gateway, and a reload names what needs a restart."""
    config = tmp_path / "maxgate.yaml"
    async with engines(1) as (_, urls), gateway(write_config(config, urls), workers=1) as server:
        url = ("--url", server.url)
        other = "http://user:secret@127.0.0.1:9"
        assert (await run_command("engines", "add", other, *url))[0] == 0
        code, stdout, _ = await run_command("engines", "drain", "http://127.0.0.1:9/v1", *url)
        assert (code, stdout) == (0, "drained http://127.0.0.1:9: 0 requests still run\n")
        code, stdout, _ = await run_command("engines", "list", *url)
        assert (code, [line.split()[1] for line in stdout.splitlines()[1:]]) == (
            0,
            [urls[0], "http://127.0.0.1:9"],
        )
        assert (await run_command("engines", "remove", "http://127.0.0.1:9", *url))[0] == 0
        write_config(config, [urls[0], other], server={"keep_alive_timeout": 9})
        assert await run_command("reload", *url) == (
            0,
            "engines http://127.0.0.1:9: added (applied)\n"
            "server.keep_alive_timeout: 75 -> 9 (needs `maxgate restart`)\n",
            "",
        )
        assert not any("secret" in line for line in server.lines)


async def test_stopped_worker(tmp_path: Path) -> None:
    """A worker that hangs is reported, and has the change once it goes on."""
    config = tmp_path / "maxgate.yaml"
    async with engines(1) as (_, urls), gateway(write_config(config, urls)) as server:
        stopped, _ = server.find_workers()
        stopped.suspend()
        response = await admin(server, "POST", "engines", {"url": "http://127.0.0.1:9"})
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (504, "not_confirmed")
        assert "1 of 2 workers" in error["message"]
        stopped.resume()
        await wait_for_workers(server, 2)
        assert await find_engine(server, "http://127.0.0.1:9") is not None


async def test_plain_uvicorn(tmp_path: Path) -> None:
    """Without the parent, one worker can be changed; several respond with 501."""
    async with engines(1) as (_, urls):
        settings = {"MAXGATE_ENGINES": urls[0], "MAXGATE_CARDS": str(SMALL_CARD)}
        async with plain_uvicorn(**settings) as server:
            added = await admin(server, "POST", "engines", {"url": "http://127.0.0.1:9"})
            assert (added.status_code, added.json()["source"]) == (201, "runtime")
            assert (await admin(server, "GET", "engines")).json()["workers"] == 1
        async with plain_uvicorn("--workers", "2", **settings) as server:
            refused = [
                await admin(server, "POST", "engines", {"url": "http://127.0.0.1:9"}),
                await admin(server, "PATCH", "engines/any", {"draining": True}),
                await admin(server, "DELETE", "engines/any"),
                await admin(server, "POST", "reload"),
            ]
            listed = await admin(server, "GET", "engines")
    assert [response.status_code for response in refused] == [501] * 4
    assert {response.json()["error"]["code"] for response in refused} == {"not_supported"}
    assert [engine["url"] for engine in listed.json()["data"]] == urls


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ("drained: 5", "gateways.{gateway}.drained: Input should be a valid list"),
        (
            f"removed: ['{ReplicaSettings(url=REMOVED).id}']",
            "every engine of the configuration was removed at run time",
        ),
    ],
)
async def test_invalid_file(tmp_path: Path, changes: str, rule: str) -> None:
    """The gateway does not start with saved changes that are invalid or leave no engine."""
    port = free_port()
    gateway = f"{socket.gethostname()}-{port}"
    (tmp_path / "engines.yaml").write_text(f"gateways: {{{gateway}: {{{changes}}}}}")
    flags = ("api_server.py", "--port", str(port), "--engine-url", REMOVED)
    code, stderr = await run_to_end(*flags, MAXGATE_STATE_DIR=str(tmp_path))
    assert (code, stderr.splitlines()[-1].split(": ", 2)[:2]) == (
        2,
        ["maxgate", f"{tmp_path}/engines.yaml"],
    )
    assert rule.format(gateway=gateway) in stderr
