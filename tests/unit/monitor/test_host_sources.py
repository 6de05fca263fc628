"""Readings of the host, its GPUs and its containers."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
from docker.errors import DockerException

from maxgate.monitor.host_sources import ContainerSource, GpuSource, read_host
from maxgate.monitor.snapshot import ContainerReading, GpuReading


def test_host() -> None:
    """The host's readings are plausible."""
    host = read_host(Path("/"))
    assert host.cores >= 1
    assert 0 < host.cpu_busy_seconds < host.cpu_seconds
    assert 0 < host.memory_used < host.memory_total
    assert 0 < host.disk_used < host.disk_total


class FakeNvml:
    """Two GPUs, the second without optional queries; or no driver."""

    def __init__(self, *, driver: bool = True) -> None:
        self._driver = driver

    def nvmlInit(self) -> None:  # noqa: N802  # NVML's names
        if not self._driver:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    nvmlDeviceGetCount = staticmethod(lambda: 2)  # noqa: N815
    nvmlDeviceGetHandleByIndex = staticmethod(lambda index: index)  # noqa: N815
    nvmlDeviceGetName = staticmethod(lambda handle: f"GPU {handle}")  # noqa: N815
    nvmlDeviceGetMemoryInfo = staticmethod(  # noqa: N815
        lambda _: SimpleNamespace(used=3, total=4)
    )
    nvmlDeviceGetUtilizationRates = staticmethod(  # noqa: N815
        lambda _: SimpleNamespace(gpu=97)
    )

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:  # noqa: N802
        return self._optional(handle, 312_000)

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:  # noqa: N802
        return self._optional(handle, 61)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: int) -> int:  # noqa: N802
        return self._optional(handle, pynvml.nvmlClocksThrottleReasonSwPowerCap)

    @staticmethod
    def _optional(handle: int, value: int) -> int:
        if handle == 1:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return value


def test_gpus() -> None:
    """Unsupported queries leave their fields empty."""
    assert GpuSource(FakeNvml()).read() == (
        GpuReading(0, "GPU 0", 0.97, 3, 4, 312.0, 61, ("power limit",)),
        GpuReading(1, "GPU 1", 0.97, 3, 4),
    )


def test_missing_gpu_driver() -> None:
    """Without a driver there are no GPUs."""
    assert GpuSource(FakeNvml(driver=False)).read() == ()


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
