"""Sources on the monitor's own host: CPU, memory and disk, GPUs, containers."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import docker
import psutil
import pynvml
from docker.errors import DockerException
from requests import RequestException

from maxgate.monitor.http_sources import Backoff
from maxgate.monitor.snapshot import ContainerReading, GpuReading, HostReading


def read_host(disk: Path) -> HostReading:
    """Read the host's CPU times, memory, and the file system that contains the path `disk`."""
    times = psutil.cpu_times()
    # User time already includes guest time, see proc(5).
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    memory, space = psutil.virtual_memory(), psutil.disk_usage(str(disk))
    return HostReading(
        cores=psutil.cpu_count() or 1,
        cpu_busy_seconds=total - times.idle - getattr(times, "iowait", 0.0),
        cpu_seconds=total,
        # Reclaimable caches are available, so they do not count as used.
        memory_used=memory.total - memory.available,
        memory_total=memory.total,
        disk_used=space.used,
        disk_total=space.used + space.free,
    )


_SLOWDOWN_REASONS: Final[Mapping[int, str]] = {
    pynvml.nvmlClocksThrottleReasonSwPowerCap: "power limit",
    pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown: "power brake",
    pynvml.nvmlClocksThrottleReasonSwThermalSlowdown: "heat",
    pynvml.nvmlClocksThrottleReasonHwThermalSlowdown: "heat",
    pynvml.nvmlClocksThrottleReasonHwSlowdown: "hardware",
}


class GpuSource:
    """Reads all NVIDIA GPUs through NVML; none without a driver."""

    def __init__(self, nvml: Any = pynvml) -> None:
        self._nvml = nvml
        self._handles: list[Any] = []
        try:
            nvml.nvmlInit()
            self._handles = [
                nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())
            ]
        except pynvml.NVMLError:
            self._handles = []

    def read(self) -> tuple[GpuReading, ...]:
        """One reading per GPU; a GPU that fails is left out."""
        readings = (
            self._read_optional(partial(self._read_gpu, index, handle))
            for index, handle in enumerate(self._handles)
        )
        return tuple(reading for reading in readings if reading is not None)

    def _read_gpu(self, index: int, handle: Any) -> GpuReading:
        nvml, optional = self._nvml, self._read_optional
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        milliwatts = optional(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
        reasons = optional(lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)) or 0
        return GpuReading(
            index=index,
            name=nvml.nvmlDeviceGetName(handle),
            utilisation=nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
            memory_used=memory.used,
            memory_total=memory.total,
            power_watts=None if milliwatts is None else milliwatts / 1000,
            temperature_celsius=optional(lambda: nvml.nvmlDeviceGetTemperature(handle, 0)),
            slowed_by=tuple(
                dict.fromkeys(name for bit, name in _SLOWDOWN_REASONS.items() if reasons & bit)
            ),
        )

    @staticmethod
    def _read_optional(read: Callable[[], Any]) -> Any:
        # Some GPUs, virtual ones above all, do not support every query.
        try:
            return read()
        except pynvml.NVMLError:
            return None


_ENGINE_LABEL: Final = "maxgate.engine"
_SERVICE_LABEL: Final = "com.docker.compose.service"
_SERVICES: Final = frozenset({"gateway", "max"})


class ContainerSource:
    """Reads the containers labelled by maxgate and the Compose services `gateway` and `max`.

    Finds none without a Docker Engine, which is retried with backoff. `connect` has the signature
    of `docker.from_env`.
    """

    def __init__(self, connect: Any = docker.from_env) -> None:
        self._connect = connect
        self._client: Any = None
        self._backoff = Backoff()

    def read(self, elapsed: float) -> tuple[ContainerReading, ...]:
        """One reading per container, sorted by name; blocks until Docker responds."""
        if not self._backoff.is_due(elapsed):
            return ()
        try:
            self._client = self._client or self._connect(timeout=3)
            containers = self._client.containers.list(all=True)
            readings = [_read_container(c) for c in containers if _is_maxgate(c.labels)]
        except (DockerException, RequestException):
            self._backoff.record_failure(elapsed)
            return ()
        self._backoff.reset()
        return tuple(sorted(readings, key=lambda reading: reading.name))


def _is_maxgate(labels: Mapping[str, str]) -> bool:
    return _ENGINE_LABEL in labels or labels.get(_SERVICE_LABEL) in _SERVICES


def _read_container(container: Any) -> ContainerReading:
    if container.status != "running":
        return ContainerReading(container.name, container.status)
    # Without one_shot, Docker takes a second sample, which takes a second.
    stats = container.stats(stream=False, one_shot=True)
    cpu, memory = stats.get("cpu_stats", {}), stats.get("memory_stats", {})
    throttling, details = cpu.get("throttling_data", {}), memory.get("stats", {})
    # Like `docker stats`, do not count inactive page cache as used memory.
    cache = details.get("inactive_file", details.get("total_inactive_file", 0))
    return ContainerReading(
        name=container.name,
        status="running",
        cpu_seconds=cpu.get("cpu_usage", {}).get("total_usage", 0) / 1e9,
        memory_used=max(memory.get("usage", 0) - cache, 0),
        memory_limit=memory.get("limit", 0),
        periods=throttling.get("periods", 0),
        throttled_periods=throttling.get("throttled_periods", 0),
    )
