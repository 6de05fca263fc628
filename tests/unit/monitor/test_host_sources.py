"""The machine, its GPUs and its containers, as far as they tell."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
from docker.errors import DockerException

from maxgate.monitor.host_sources import ContainerSource, GpuSource, read_host
from maxgate.monitor.snapshot import ContainerReading, GpuReading


def test_this_machine() -> None:
    host = read_host(Path("/"))
    assert host.cores >= 1
    assert 0 < host.cpu_busy_seconds < host.cpu_seconds
    assert 0 < host.memory_used < host.memory_total
    assert 0 < host.disk_used < host.disk_total


class FakeNvml:
    """Two GPUs; the second one tells little, and the driver may be missing."""

    def __init__(self, *, driver: bool = True) -> None:
        self._driver = driver

    def nvmlInit(self) -> None:  # noqa: N802  # NVML's names
        """See NVML."""
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
        """See NVML."""
        return self._told(handle, 312_000)

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:  # noqa: N802
        """See NVML."""
        return self._told(handle, 61)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: int) -> int:  # noqa: N802
        """See NVML."""
        return self._told(handle, pynvml.nvmlClocksThrottleReasonSwPowerCap)

    @staticmethod
    def _told(handle: int, value: int) -> int:
        if handle == 1:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return value


def test_gpus_tell_what_they_can() -> None:
    assert GpuSource(FakeNvml()).read() == (
        GpuReading(0, "GPU 0", 0.97, 3, 4, 312.0, 61, ("power limit",)),
        GpuReading(1, "GPU 1", 0.97, 3, 4),
    )


def test_without_a_driver_there_are_no_gpus() -> None:
    assert GpuSource(FakeNvml(driver=False)).read() == ()


def container(name: str, labels: dict[str, str], status: str = "running") -> Any:
    """A container as the Docker SDK has it."""
    stats = {
        "cpu_stats": {
            "cpu_usage": {"total_usage": 4_000_000_000},
            "throttling_data": {"periods": 10, "throttled_periods": 3},
        },
        "memory_stats": {"usage": 1000, "limit": 4000, "stats": {"inactive_file": 100}},
    }
    return SimpleNamespace(name=name, labels=labels, status=status, stats=lambda **_: stats)


class FakeDocker:
    """Its `containers` is itself."""

    def __init__(self, *found: Any) -> None:
        self._found = found
        self.calls = 0

    @property
    def containers(self) -> "FakeDocker":
        """The collection."""
        return self

    def list(self, **_: Any) -> list[Any]:
        """What there is; nothing given is a Docker Engine that has gone."""
        self.calls += 1
        if not self._found:
            raise DockerException("gone")
        return list(self._found)


def test_our_containers_are_read_and_no_others() -> None:
    docker = FakeDocker(
        container("stack-max-1", {"com.docker.compose.service": "max"}),
        container("maxgate-engine", {"maxgate.engine": "x"}, status="exited"),
        container("postgres", {"com.docker.compose.service": "db"}),
    )
    assert ContainerSource(lambda **_: docker).read(0) == (
        ContainerReading("maxgate-engine", "exited"),
        ContainerReading("stack-max-1", "running", 4.0, 900, 4000, 10, 3),
    )


def test_without_a_docker_engine_it_is_asked_less_and_less() -> None:
    docker = FakeDocker()
    source = ContainerSource(lambda **_: docker)
    assert [source.read(second) for second in range(6)] == [()] * 6
    assert docker.calls == 3
