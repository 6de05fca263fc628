"""An engine's container is started, followed, ended and removed."""

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


def test_the_container_is_reached_from_this_machine_only(
    spec: ContainerSpec, tmp_path: Path
) -> None:
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


def test_a_gpu_is_asked_for_in_the_docker_engines_words(spec: ContainerSpec) -> None:
    requests = create_options(replace(spec, gpu=True))["device_requests"]

    assert HostConfig(version="1.41", device_requests=requests)["DeviceRequests"] == [
        {"Driver": "", "Count": -1, "DeviceIDs": [], "Capabilities": [["gpu"]], "Options": {}}
    ]


async def test_it_is_followed_until_it_ends(spec: ContainerSpec, tmp_path: Path) -> None:
    """Its output is in the log file by the time that its exit code is known."""
    docker = FakeDocker()
    starter = launcher(spec, docker, tmp_path)

    engine = await starter.start()
    docker.get(spec.name).end(3)

    assert await engine.wait() == 3
    assert read_tail(starter.log_file) == "one\ntwo\n"
    await engine.stop()


async def test_stopping_ends_and_removes_it(spec: ContainerSpec, tmp_path: Path) -> None:
    """Also twice, and whatever has become of it."""
    docker = FakeDocker()
    engine = await launcher(spec, docker, tmp_path).start()
    container = docker.get(spec.name)

    await engine.stop()
    await engine.stop()

    assert container.stopped_within == 10
    assert await engine.wait() == 143
    assert docker.by_name == {}


async def test_one_that_was_left_over_makes_room(spec: ContainerSpec, tmp_path: Path) -> None:
    """A gateway that was killed leaves its engine's container behind."""
    docker = FakeDocker()
    left_over = docker.create(image="max:1", name=spec.name)

    engine = await launcher(spec, docker, tmp_path).start()

    assert docker.get(spec.name) is not left_over
    await engine.stop()


async def test_folders_exist_before_the_docker_engine_would_make_them(
    spec: ContainerSpec, tmp_path: Path
) -> None:
    """It would make them as root's."""
    engine = await launcher(spec, FakeDocker(), tmp_path).start()

    assert (tmp_path / "m").is_dir()
    await engine.stop()


async def test_a_missing_image_is_named(spec: ContainerSpec, tmp_path: Path) -> None:
    """Images of many gigabytes are not downloaded unasked."""
    with pytest.raises(EngineError, match=r"^there is no image max:1; get it with `docker pull`"):
        await launcher(spec, FakeDocker(images=()), tmp_path).start()


async def test_what_does_not_start_is_removed(spec: ContainerSpec, tmp_path: Path) -> None:
    """Nor is an older engine's log taken for its own."""
    docker = FakeDocker(start_error="port is already allocated")
    starter = launcher(spec, docker, tmp_path)
    starter.log_file.parent.mkdir()
    starter.log_file.write_text("an older engine's")

    with pytest.raises(EngineError, match="could not start the engine: port is already allocated"):
        await starter.start()

    assert docker.by_name == {}
    assert read_tail(starter.log_file) == ""


async def test_what_is_started_when_nobody_waits_any_more_is_removed(
    spec: ContainerSpec, tmp_path: Path
) -> None:
    """Ctrl-C while the Docker Engine is busy leaves no container behind."""
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
