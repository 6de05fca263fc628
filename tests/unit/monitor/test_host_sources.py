"""Readings of the containers."""

from types import SimpleNamespace
from typing import Any

from docker.errors import DockerException

from maxgate.monitor.host_sources import ContainerSource
from maxgate.monitor.snapshot import ContainerReading


def container(name: str, labels: dict[str, str], status: str = "running") -> Any:
    """A container of the Docker SDK."""
    stats = {
        "cpu_stats": {
            "cpu_usage": {"total_usage": 4_000_000_000},
            "throttling_data": {"periods": 10, "throttled_periods": 3},
        },
        "memory_stats": {"usage": 1000, "limit": 4000, "stats": {"inactive_file": 100}},
    }
    return SimpleNamespace(name=name, labels=labels, status=status, stats=lambda **_: stats)


class FakeDockerClient:
    """Lists the given containers; without any, the Docker Engine is unreachable."""

    def __init__(self, *containers: Any) -> None:
        self._containers = containers
        self.calls = 0

    @property
    def containers(self) -> "FakeDockerClient":
        return self

    def list(self, **_: Any) -> list[Any]:
        self.calls += 1
        if not self._containers:
            raise DockerException("connection refused")
        return list(self._containers)


def test_containers() -> None:
    """Only the containers of maxgate and of its Compose services are read."""
    docker = FakeDockerClient(
        container("stack-max-1", {"com.docker.compose.service": "max"}),
        container("maxgate-engine", {"maxgate.engine": "x"}, status="exited"),
        container("postgres", {"com.docker.compose.service": "db"}),
    )
    assert ContainerSource(lambda **_: docker).read(0) == (
        ContainerReading("maxgate-engine", "exited"),
        ContainerReading("stack-max-1", "running", 4.0, 900, 4000, 10, 3),
    )


def test_missing_docker_engine() -> None:
    """A missing Docker Engine is retried with backoff."""
    docker = FakeDockerClient()
    source = ContainerSource(lambda **_: docker)
    assert [source.read(second) for second in range(6)] == [()] * 6
    assert docker.calls == 3
