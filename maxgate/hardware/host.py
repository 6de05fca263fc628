"""CPU, memory and disk of this host."""

from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class HostReading:
    """The host; CPU times are in seconds, summed over all cores."""

    cores: int
    cpu_busy_seconds: float
    cpu_seconds: float
    memory_used: int
    memory_total: int
    disk_used: int
    disk_total: int


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
