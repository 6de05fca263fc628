"""The machine that the monitor runs on: processor, memory and disk."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import docker
import psutil
import pynvml
from docker.errors import DockerException
from requests import RequestException

from maxgate.monitor.http_sources import Pauses
from maxgate.monitor.snapshot import ContainerReading, GpuReading, HostReading


def read_host(disk: Path) -> HostReading:
    """What the machine has and uses; `disk` is any path on the disk that matters."""
    times = psutil.cpu_times()
    # Guests are part of the user's time already (proc(5)).
    whole = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    memory, space = psutil.virtual_memory(), psutil.disk_usage(str(disk))
    return HostReading(
        cores=psutil.cpu_count() or 1,
        cpu_busy_seconds=whole - times.idle - getattr(times, "iowait", 0.0),
        cpu_seconds=whole,
        # What can be had at once is not used: caches are given back.
        memory_used=memory.total - memory.available,
        memory_total=memory.total,
        disk_used=space.used,
        disk_total=space.used + space.free,
    )


_SLOWED_BY: Final[Mapping[int, str]] = {
    pynvml.nvmlClocksThrottleReasonSwPowerCap: "power limit",
    pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown: "power brake",
    pynvml.nvmlClocksThrottleReasonSwThermalSlowdown: "heat",
    pynvml.nvmlClocksThrottleReasonHwThermalSlowdown: "heat",
    pynvml.nvmlClocksThrottleReasonHwSlowdown: "hardware",
}


class GpuSource:
    """Reads every GPU; none where there is no NVIDIA driver.

    `nvml` is pynvml's interface.
    """

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
        """The GPUs; one that has fallen off the bus is left out."""
        found = (
            self._known(partial(self._gpu, index, handle))
            for index, handle in enumerate(self._handles)
        )
        return tuple(gpu for gpu in found if gpu is not None)

    def _gpu(self, index: int, handle: Any) -> GpuReading:
        nvml = self._nvml
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        milliwatts = self._known(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
        reasons = self._known(lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)) or 0
        return GpuReading(
            index=index,
            name=nvml.nvmlDeviceGetName(handle),
            utilisation=nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
            memory_used=memory.used,
            memory_total=memory.total,
            power_watts=None if milliwatts is None else milliwatts / 1000,
            temperature_celsius=self._known(lambda: nvml.nvmlDeviceGetTemperature(handle, 0)),
            slowed_by=tuple(dict.fromkeys(t for bit, t in _SLOWED_BY.items() if reasons & bit)),
        )

    @staticmethod
    def _known(read: Callable[[], Any]) -> Any:
        # Not every GPU tells everything, and virtual ones tell little.
        try:
            return read()
        except pynvml.NVMLError:
            return None


_ENGINE_LABEL: Final = "maxgate.engine"
_SERVICE_LABEL: Final = "com.docker.compose.service"
_SERVICES: Final = frozenset({"gateway", "max"})


class ContainerSource:
    """Reads the engine's container, however it was started, and the gateway's.

    Those are the ones that maxgate labelled, and Compose's services `gateway` and `max`. None
    without a Docker Engine. `connect` is `docker.from_env`.
    """

    def __init__(self, connect: Any = docker.from_env) -> None:
        self._connect = connect
        self._client: Any = None
        self._pauses = Pauses()

    def read(self, elapsed: float) -> tuple[ContainerReading, ...]:
        """The containers; blocks while Docker answers."""
        if not self._pauses.over(elapsed):
            return ()
        try:
            self._client = self._client or self._connect(timeout=3)
            ours = [c for c in self._client.containers.list(all=True) if _is_ours(c.labels)]
            found = tuple(sorted((_read(c) for c in ours), key=lambda reading: reading.name))
        except (DockerException, RequestException):
            self._pauses.failed(elapsed)
            return ()
        self._pauses.succeeded()
        return found


def _is_ours(labels: Mapping[str, str]) -> bool:
    return _ENGINE_LABEL in labels or labels.get(_SERVICE_LABEL) in _SERVICES


def _read(container: Any) -> ContainerReading:
    if container.status != "running":
        return ContainerReading(container.name, container.status)
    # One shot: otherwise Docker waits a second for a second sample.
    stats = container.stats(stream=False, one_shot=True)
    return read_stats(container.name, stats)


def read_stats(name: str, stats: Mapping[str, Any]) -> ContainerReading:
    """A running container from the Docker Engine's statistics.

    As `docker stats` does, memory that is only a cache of files is not counted as used.
    """
    cpu, memory = stats.get("cpu_stats", {}), stats.get("memory_stats", {})
    throttling, detail = cpu.get("throttling_data", {}), memory.get("stats", {})
    cache = detail.get("inactive_file", detail.get("total_inactive_file", 0))
    return ContainerReading(
        name=name,
        status="running",
        cpu_seconds=cpu.get("cpu_usage", {}).get("total_usage", 0) / 1e9,
        memory_used=max(memory.get("usage", 0) - cache, 0),
        memory_limit=memory.get("limit", 0),
        periods=throttling.get("periods", 0),
        throttled_periods=throttling.get("throttled_periods", 0),
    )
