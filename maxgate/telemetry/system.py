"""Readings of the system around the gateway: its event loop, host, GPUs and certificates.

All but the event loop are read for each scrape, outside of the event loop, and only if they are
switched on.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from maxgate.telemetry.registry import (
    CERTIFICATE_EXPIRY,
    GPU_MEMORY,
    GPU_MEMORY_USED,
    GPU_POWER,
    GPU_TEMPERATURE,
    GPU_THROTTLED,
    GPU_UTILIZATION,
    HOST_CORES,
    HOST_CPU_BUSY,
    HOST_DISK,
    HOST_DISK_USED,
    HOST_MEMORY,
    HOST_MEMORY_USED,
    LabelValues,
    Metric,
)

if TYPE_CHECKING:
    from maxgate.hardware.gpus import GpuReading
    from maxgate.hardware.host import HostReading

SystemReadings = Mapping[Metric, Mapping[LabelValues, float]]
"""Values of metrics by their labels."""
Source = Callable[[], SystemReadings]
"""Reads some metrics; may block."""
NamedSource = tuple[str, Source]
"""A source, with the setting that switches it on."""
LAG_INTERVAL: Final = 0.5
"""Seconds between measurements of the event loop."""

_log = structlog.get_logger("telemetry")


async def measure_lag(observe: Callable[[float], None], interval: float = LAG_INTERVAL) -> None:
    """Report how late a timer of this event loop fires, in seconds, until cancelled.

    The first timer is due at once, so that there is a value from the start.
    """
    loop = asyncio.get_running_loop()
    pause = 0.0
    while True:
        due = loop.time() + pause
        await asyncio.sleep(pause)
        observe(max(loop.time() - due, 0.0))
        pause = interval


class SystemReader:
    """Reads all sources. What a source that fails exports is missing until it works again."""

    def __init__(self, sources: Sequence[NamedSource]) -> None:
        self._sources = sources
        self._failing: set[int] = set()

    async def read(self) -> SystemReadings:
        """Read all sources in another thread."""
        return await asyncio.to_thread(self._read)

    def _read(self) -> SystemReadings:
        readings: dict[Metric, dict[LabelValues, float]] = {}
        for number, (name, source) in enumerate(self._sources):
            try:
                found = source()
            except Exception as error:  # noqa: BLE001  # a driver at fault must not hide the rest
                if number not in self._failing:
                    _log.warning("metrics cannot be read", setting=name, error=str(error))
                self._failing.add(number)
            else:
                self._failing.discard(number)
                for metric, samples in found.items():
                    readings.setdefault(metric, {}).update(samples)
        return readings


def export_host(host: "HostReading") -> SystemReadings:
    """Convert a reading of the host."""
    values = {
        HOST_CORES: host.cores,
        HOST_CPU_BUSY: host.cpu_busy_seconds,
        HOST_MEMORY_USED: host.memory_used,
        HOST_MEMORY: host.memory_total,
        HOST_DISK_USED: host.disk_used,
        HOST_DISK: host.disk_total,
    }
    return {metric: {(): value} for metric, value in values.items()}


def export_gpus(gpus: Sequence["GpuReading"]) -> SystemReadings:
    """Convert readings of GPUs. Without a GPU there is no metric, not a zero."""
    readings: dict[Metric, dict[LabelValues, float]] = {}
    for gpu in gpus:
        labels = (str(gpu.index), gpu.name)
        values = {
            GPU_UTILIZATION: gpu.utilisation,
            GPU_MEMORY_USED: gpu.memory_used,
            GPU_MEMORY: gpu.memory_total,
            GPU_POWER: gpu.power_watts,
            GPU_TEMPERATURE: gpu.temperature_celsius,
        }
        for metric, value in values.items():
            if value is not None:
                readings.setdefault(metric, {})[labels] = value
        throttled: dict[LabelValues, float] = {(*labels, reason): 1.0 for reason in gpu.slowed_by}
        readings.setdefault(GPU_THROTTLED, {}).update(throttled or {(*labels, ""): 0.0})
    return readings


def read_certificate(file: Path) -> SystemReadings:
    """Read when a certificate expires; raises as read_expiry."""
    return {CERTIFICATE_EXPIRY: {(str(file),): read_expiry(file)}}


def read_expiry(file: Path) -> float:
    """Return when a certificate expires, in Unix seconds; of a chain, the first one counts.

    Raises OSError or ValueError if the file cannot be read.
    """
    from cryptography.x509 import load_pem_x509_certificate  # noqa: PLC0415  # of an extra

    return load_pem_x509_certificate(file.read_bytes()).not_valid_after_utc.timestamp()
