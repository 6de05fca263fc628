"""Containers are started, logged, stopped and removed."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from docker.types import HostConfig

from maxgate.engine.container import ContainerLauncher, ContainerSpec, create_options
from maxgate.engine.launcher import read_tail
from maxgate.errors import EngineError
from tests.fakes.docker_engine import FakeDocker
from tests.fakes.waiting import until


@pytest.fixture
def spec(tmp_path: Path) -> ContainerSpec:
    return ContainerSpec(
        image="max:1",
        name="maxgate-engine-8080",
        arguments=["--model", "/models/m"],
        environment={"OTEL_SDK_DISABLED": "true"},
        volumes={tmp_path / "m": "/models/m"},
        port=8080,
        metrics_port=8081,
        gpu=False,
    )


def launcher(spec: ContainerSpec, docker: FakeDocker, tmp_path: Path) -> ContainerLauncher:
    log_file = tmp_path / "logs" / "engine.log"
    return ContainerLauncher(spec, log_file, stop_timeout=10, client=docker)


def test_create_options(spec: ContainerSpec, tmp_path: Path) -> None:
    """Ports are published on loopback only."""
    assert create_options(spec) == {
        "image": "max:1",
        "name": "maxgate-engine-8080",
        "command": ["--model", "/models/m"],
        "environment": {"OTEL_SDK_DISABLED": "true"},
        "volumes": {str(tmp_path / "m"): {"bind": "/models/m", "mode": "rw"}},
        "ports": {"8080/tcp": ("127.0.0.1", 8080), "8081/tcp": ("127.0.0.1", 8081)},
        "labels": {"maxgate.engine": "maxgate-engine-8080"},
        "init": True,
        "shm_size": "1g",
    }


def test_gpu(spec: ContainerSpec) -> None:
    """All GPUs are requested, in the form of the Docker Engine API."""
    requests = create_options(replace(spec, gpu=True))["device_requests"]

    assert HostConfig(version="1.41", device_requests=requests)["DeviceRequests"] == [
        {"Driver": "", "Count": -1, "DeviceIDs": [], "Capabilities": [["gpu"]], "Options": {}}
    ]


async def test_wait(spec: ContainerSpec, tmp_path: Path) -> None:
    """The log file is complete when the exit code is returned."""
    docker = FakeDocker()
    starter = launcher(spec, docker, tmp_path)

    engine = await starter.start()
    docker.get(spec.name).end(3)

    assert await engine.wait() == 3
    assert read_tail(starter.log_file) == "one\ntwo\n"
    await engine.stop()


async def test_stop(spec: ContainerSpec, tmp_path: Path) -> None:
    """Stopping removes the container; a second stop does nothing."""
    docker = FakeDocker()
    engine = await launcher(spec, docker, tmp_path).start()
    container = docker.get(spec.name)

    await engine.stop()
    await engine.stop()

    assert container.stopped_within == 10
    assert await engine.wait() == 143
    assert docker.by_name == {}


async def test_leftover_container(spec: ContainerSpec, tmp_path: Path) -> None:
    """The container that a killed gateway left behind is replaced."""
    docker = FakeDocker()
    left_over = docker.create(image="max:1", name=spec.name)

    engine = await launcher(spec, docker, tmp_path).start()

    assert docker.get(spec.name) is not left_over
    await engine.stop()


async def test_volume_folders(spec: ContainerSpec, tmp_path: Path) -> None:
    """Folders of volumes are created here, because Docker would create them as root."""
    engine = await launcher(spec, FakeDocker(), tmp_path).start()

    assert (tmp_path / "m").is_dir()
    await engine.stop()


async def test_missing_image(spec: ContainerSpec, tmp_path: Path) -> None:
    """A missing image is an error: it is not pulled automatically, because it is large."""
    with pytest.raises(
        EngineError, match=r"^the image max:1 does not exist here; `docker pull` it"
    ):
        await launcher(spec, FakeDocker(images=()), tmp_path).start()


async def test_failed_start(spec: ContainerSpec, tmp_path: Path) -> None:
    """A container that does not start is removed, and an old log as well."""
    docker = FakeDocker(start_error="port is already allocated")
    starter = launcher(spec, docker, tmp_path)
    starter.log_file.parent.mkdir()
    starter.log_file.write_text("an old log")

    with pytest.raises(EngineError, match="could not start the engine: port is already allocated"):
        await starter.start()

    assert docker.by_name == {}
    assert read_tail(starter.log_file) == ""


async def test_cancelled_start(spec: ContainerSpec, tmp_path: Path) -> None:
    """Ctrl-C during the start leaves no container behind."""
    docker = FakeDocker()
    docker.may_start.clear()
    starting = asyncio.create_task(launcher(spec, docker, tmp_path).start())

    async def is_starting() -> bool:
        return docker.starting.is_set()

    await until(is_starting)
    starting.cancel()
    docker.may_start.set()

    with pytest.raises(asyncio.CancelledError):
        await starting
    assert docker.by_name == {}
