"""Readings of the host and its GPUs."""

from pathlib import Path

from maxgate.hardware.gpus import GpuReading, GpuSource
from maxgate.hardware.host import read_host
from tests.fakes.nvml import FakeNvml


def test_host() -> None:
    """The host's readings are plausible."""
    host = read_host(Path("/"))
    assert host.cores >= 1
    assert 0 < host.cpu_busy_seconds < host.cpu_seconds
    assert 0 < host.memory_used < host.memory_total
    assert 0 < host.disk_used < host.disk_total


def test_gpus() -> None:
    """Unsupported queries leave their fields empty."""
    assert GpuSource(FakeNvml()).read() == (
        GpuReading(0, "GPU 0", 0.97, 3, 4, 312.0, 61, ("power limit",)),
        GpuReading(1, "GPU 1", 0.97, 3, 4),
    )


def test_missing_gpu_driver() -> None:
    """Without a driver there are no GPUs."""
    assert GpuSource(FakeNvml(driver=False)).read() == ()
