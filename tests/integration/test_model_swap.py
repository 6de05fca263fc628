"""Models start, stop and are swapped, as processes, while real workers serve requests."""

import asyncio
import math
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.fakes.gateway import TLS
from tests.fakes.max_program import BASE_IMAGE, FAILING, build_image, install, write_card
from tests.fakes.processes import (
    ServerProcess,
    api_server,
    free_port_before_another,
    has_ended,
    run_to_end,
)
from tests.fakes.waiting import until, until_holds

TIMEOUT = 90
FAKE_IMAGE = "maxgate/fake-max:test"


@dataclass
class Load:
    """Clients that send requests one after another; `slowest` is the longest response time."""

    client: httpx.AsyncClient
    statuses: Counter[int] = field(default_factory=Counter)
    models: list[str] = field(default_factory=list)
    slowest: float = 0
    ended: bool = False

    async def run(self, model: str | None) -> None:
        """Send chat requests for a model until the load ends, streamed and whole in turn."""
        while not self.ended:
            await self.send(model)

    async def send(
        self, model: str | None, *, allowed: float | None = None, **fields: Any
    ) -> httpx.Response:
        """Send one chat request; the client waits for `allowed` seconds, without it for long."""
        body: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}], **fields}
        if model is not None:
            body["model"] = model
        began = asyncio.get_running_loop().time()
        headers = {} if allowed is None else {"X-Request-Timeout": f"{allowed:.3f}"}
        response = await self.client.post("/v1/chat/completions", json=body, headers=headers)
        self.slowest = max(self.slowest, asyncio.get_running_loop().time() - began)
        self.statuses[response.status_code] += 1
        if response.status_code == 200:
            self.models.append(response.json()["model"])
        return response


@asynccontextmanager
async def gateway(
    folder: Path, cards: dict[str, dict[str, Any]], *flags: str, **settings: str
) -> AsyncIterator[tuple[ServerProcess, Load]]:
    """A gateway with two workers that starts the models of these cards."""
    environment = install(folder)
    for name, fields in cards.items():
        write_card(folder, name, **fields)
    flags = ("--workers", "2", "--log-format", "json", *flags)
    async with (
        api_server(*flags, **{**environment, **settings}) as server,
        httpx.AsyncClient(base_url=server.url, timeout=TIMEOUT, verify=TLS) as client,
    ):
        yield server, Load(client)


@pytest.fixture(scope="module")
def fake_image() -> str:
    """An image of the program; skips where there is no Docker Engine, or not the image below."""
    docker = shutil.which("docker")
    if docker is None or subprocess.call(
        [docker, "image", "inspect", BASE_IMAGE],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ):
        pytest.skip(f"needs Docker and the image {BASE_IMAGE}")
    build_image(docker, FAKE_IMAGE)
    return FAKE_IMAGE


async def wait_until_ready(load: Load) -> None:
    """Wait for the models that start with the gateway."""

    async def is_ready() -> bool:
        return (await load.client.get("/health/ready")).status_code == 200

    await until(is_ready, within=TIMEOUT)


@asynccontextmanager
async def loaded(load: Load, models: Sequence[str | None]) -> AsyncIterator[None]:
    """Send requests from one client for each of these models."""
    load.ended = False
    tasks = [asyncio.create_task(load.run(model)) for model in models]
    try:
        yield
    finally:
        load.ended = True
        await asyncio.gather(*tasks)


async def swap(load: Load, **body: Any) -> dict[str, Any]:
    """Swap two models, and return the final status."""
    response = await load.client.post("/admin/models/swap", json=body)
    assert response.status_code == 202, response.text
    status: dict[str, Any] = {}

    async def has_ended() -> bool:
        status.update((await load.client.get("/admin/models/swap")).json())
        return status["phase"] in {"done", "failed"}

    await until(has_ended, within=TIMEOUT)
    return status


async def list_running(load: Load) -> list[str]:
    """Return the names of the running models."""
    running = (await load.client.get("/running")).json()["running"]
    return [model["model"] for model in running]


def find_engines(server: ServerProcess) -> list[psutil.Process]:
    """Return the engine processes."""
    found = []
    for child in psutil.Process(server.process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it ends, or is a zombie
            if "tests.fakes.max_program" in child.cmdline():
                found.append(child)
    return found


def count_engines(server: ServerProcess) -> int:
    """Return the number of engine processes."""
    return len(find_engines(server))


async def test_swap(tmp_path: Path) -> None:
    """Models are swapped under load in both ways, and no request fails.

    Requests for the old name get responses of the new model, and requests without a name as well.
    """
    url = f"http://localhost:{free_port_before_another()}"
    cards: dict[str, dict[str, Any]] = {"a": {}, "b": {}}
    flags = ("--engine-url", url)
    settings = {"MAXGATE_ENGINE__CARD": "a"}
    async with gateway(tmp_path / "max", cards, *flags, **settings) as (server, load):
        await wait_until_ready(load)
        async with loaded(load, ["a", "a", None, None]):
            beside = await swap(load, old="a", new="b")
            assert (beside["phase"], beside["held_seconds"]) == ("done", 0)
            assert await list_running(load) == ["b"]
            in_place = await swap(load, old="b", new="a", in_place=True)
            assert (in_place["phase"], in_place["held_seconds"] > 0) == ("done", True)
            assert await list_running(load) == ["a"]
            assert (await load.send("b")).json()["model"] == "a"
        assert list(load.statuses) == [200]
        assert set(load.models) == {"a", "b"}
        assert load.slowest < in_place["held_seconds"] + 2
        assert count_engines(server) == 1


async def test_swap_of_containers(tmp_path: Path, fake_image: str) -> None:
    """Models in containers are swapped under load in both ways, and no request fails."""
    url = f"http://localhost:{free_port_before_another()}"
    flags = {"model_path": str(tmp_path / "max" / "weights"), "image": fake_image, "memory_gb": 1}
    cards: dict[str, dict[str, Any]] = {name: {"max": flags} for name in ("a", "b")}
    settings = {"MAXGATE_ENGINE__CARD": "a", "MAXGATE_ENGINE__MODE": "docker"}
    async with gateway(tmp_path / "max", cards, "--engine-url", url, **settings) as (_, load):
        await wait_until_ready(load)
        async with loaded(load, ["a", "a", None, None]):
            for in_place in (False, True):
                for old, new in ("ab", "ba"):
                    status = await swap(load, old=old, new=new, in_place=in_place)
                    assert (status["phase"], status["error"]) == ("done", None)
                    assert await list_running(load) == [new]
        assert list(load.statuses) == [200]
        assert set(load.models) == {"a", "b"}


@pytest.mark.timing
async def test_retry_after(tmp_path: Path) -> None:
    """A request refused during a swap in place names the time of a retry, within 30 %."""
    url = f"http://localhost:{free_port_before_another()}"
    settings = {"MAXGATE_ENGINE__CARD": "a", "FAKE_MAX_START_SECONDS": "5"}
    cards: dict[str, dict[str, Any]] = {"a": {}, "b": {}}
    async with gateway(tmp_path / "max", cards, "--engine-url", url, **settings) as (_, load):
        await wait_until_ready(load)
        for _ in range(20):  # longer than the interval at which the start of `a` is measured
            await load.send("a")
        swapping = asyncio.create_task(swap(load, old="a", new="b", in_place=True))
        while (refused := await load.send("a", allowed=0.5)).status_code == 200:
            pass
        assert refused.json()["error"]["code"] == "model_not_running"
        retry_after = int(refused.headers["retry-after-ms"]) / 1000
        load.slowest = 0
        held = asyncio.create_task(load.send("a"))
        await asyncio.sleep(retry_after)
        assert (await load.send("a", allowed=0.3 * retry_after)).status_code == 200
        assert (await held).json()["model"] == "b"
        assert retry_after == pytest.approx(load.slowest, rel=0.3)
        assert int(refused.headers["retry-after"]) == math.ceil(retry_after)
        assert int(held.result().headers["x-maxgate-queue-ms"]) / 1000 > retry_after * 0.7
        assert (await swapping)["phase"] == "done"


async def test_swap_without_room(tmp_path: Path) -> None:
    """Models of one group are swapped in place only; a failure restores the old model."""
    cards = {name: {"load": "on_demand"} for name in ("a", FAILING)}
    async with gateway(tmp_path / "max", cards) as (_, load):
        assert (await load.send("a")).status_code == 200
        body = {"old": "a", "new": FAILING}
        refused = await load.client.post("/admin/models/swap", json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "no_room")
        async with loaded(load, ["a", "a"]):
            status = await swap(load, **body, in_place=True)
        assert (status["phase"], "too little memory" in status["error"]) == ("failed", True)
        assert list(load.statuses) == [200]
        assert await list_running(load) == ["a"]


async def test_alternating_requests(tmp_path: Path) -> None:
    """Alternating requests to two models of a group cause as many swaps as the age bound allows."""
    age_bound = 2
    cards = {name: {"load": "on_demand"} for name in ("a", "b")}
    settings = {"MAXGATE_SWAP__AGE_BOUND": str(age_bound)}
    async with gateway(tmp_path / "max", cards, **settings) as (server, load):
        began = asyncio.get_running_loop().time()
        numbers = iter(range(200))

        async def send() -> None:
            for number in numbers:
                await load.send("ab"[number % 2])

        await asyncio.gather(*(send() for _ in range(40)))
        seconds = asyncio.get_running_loop().time() - began
        assert load.statuses == {200: 200}
        assert Counter(load.models) == {"a": 100, "b": 100}
        stops = sum("model: stop" in line for line in server.lines)
        assert 0 < stops <= seconds / age_bound


async def test_busy_model(tmp_path: Path) -> None:
    """A model that is never idle yields to a request for another one, and finishes its own."""
    cards = {name: {"load": "on_demand"} for name in ("a", "b")}
    async with gateway(tmp_path / "max", cards, MAXGATE_SWAP__AGE_BOUND="1") as (_, load):
        await load.send("a")
        async with loaded(load, ["a"] * 4):
            assert (await load.send("b")).json()["model"] == "b"
        assert list(load.statuses) == [200]


async def test_idle_model(tmp_path: Path) -> None:
    """An idle model is stopped after its TTL; requests start it again, and none is lost."""
    cards = {"a": {"load": "on_demand", "idle_ttl": 0.5}}
    async with gateway(tmp_path / "max", cards) as (server, load):
        assert (await load.client.get("/health/ready")).status_code == 200
        for _ in range(2):
            assert (await load.send("a", stream=False)).status_code == 200

            async def is_stopped() -> bool:
                return count_engines(server) == 0

            await until(is_stopped, within=TIMEOUT)
        assert await list_running(load) == []


@pytest.mark.parametrize(
    ("mode", "cause"),
    [
        ("local", "there is too little memory for this model"),
        ("docker", "Docker could not start the engine"),
    ],
)
async def test_failed_start(tmp_path: Path, mode: str, cause: str) -> None:
    """A model that cannot be started gives the cause, and is not started again for each request."""
    max_flags = {"model_path": str(tmp_path / "max" / "weights"), "image": "max:1"}
    cards = {FAILING: {"load": "on_demand", "max": max_flags}}
    settings = {"MAXGATE_ENGINE__MODE": mode, "DOCKER_HOST": "unix:///nowhere/docker.sock"}
    async with gateway(tmp_path / "max", cards, **settings) as (server, load):
        for _ in range(10):
            response = await load.send(FAILING)
            error = response.json()["error"]
            assert (response.status_code, error["code"]) == (503, "model_start_failed")
            assert cause in error["message"]
            assert 1 <= int(response.headers["retry-after"]) <= 5
        assert sum("model: start" in line for line in server.lines) == 1


async def test_replaced_workers(tmp_path: Path) -> None:
    """Models go on while workers are replaced, and end when the gateway is killed."""
    cards = {name: {"load": "on_demand"} for name in ("a", "b")}
    async with gateway(tmp_path / "max", cards, MAXGATE_SWAP__AGE_BOUND="1") as (server, load):
        await load.send("a")
        before = {worker.pid for worker in server.find_workers()}
        async with loaded(load, ["a", "a", "b"]):
            server.process.send_signal(signal.SIGUSR2)

            async def are_replaced() -> bool:
                return before.isdisjoint(worker.pid for worker in server.find_workers())

            await until(are_replaced, within=TIMEOUT)
        assert list(load.statuses) == [200]
        await load.send("a")
        [engine] = find_engines(server)
        server.process.kill()

        await until_holds(lambda: has_ended(engine.pid), within=TIMEOUT)


async def test_unload(tmp_path: Path) -> None:
    """An unloaded model finishes its requests, also those that wait for a slot.

    The next request starts it again.
    """
    url = f"http://localhost:{free_port_before_another()}"
    settings = {"MAXGATE_ADMISSION__SLOTS": "1", "FAKE_MAX_RESPONSE_SECONDS": "0.3"}
    flags = ("--engine-url", url)
    async with gateway(tmp_path / "max", {"a": {}}, *flags, **settings) as (server, load):
        await wait_until_ready(load)
        running = [asyncio.create_task(load.send("a")) for _ in range(6)]
        await asyncio.sleep(0)
        unloaded = await load.client.post("/api/models/unload/a")
        assert (unloaded.status_code, unloaded.json()) == (200, {"msg": "ok", "draining": []})
        await asyncio.gather(*running)
        assert (await load.send("a")).status_code == 200
        assert list(load.statuses) == [200]
        unknown = await load.client.post("/api/models/unload/x")
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
        assert count_engines(server) == 1


async def test_command(tmp_path: Path) -> None:
    """`maxgate models swap` reports success and failure by its exit code."""
    cards = {name: {"load": "on_demand"} for name in ("a", "b")}
    async with gateway(tmp_path / "max", cards) as (server, load):
        await load.send("a")
        command = ("-m", "maxgate", "models", "swap")
        code, errors = await run_to_end(*command, "a", "b", "--url", server.url)
        assert code == 1
        assert "There is no room for b beside a" in errors
        code, _ = await run_to_end(*command, "a", "b", "--in-place", "--url", server.url)
        assert (code, await list_running(load)) == (0, ["b"])


@pytest.mark.parametrize("path", ["/admin/models/swap", "/api/models/unload"])
async def test_without_started_engines(start_gateway: Any, path: str) -> None:
    """A gateway that has not started its engines refuses to stop or swap models."""
    async with start_gateway() as running:
        response = await running.client.post(path, json={"old": "a", "new": "b"})
        assert (response.status_code, response.json()["error"]["code"]) == (501, "not_supported")
