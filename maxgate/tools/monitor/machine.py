"""The machine that the monitor runs on: processor, memory and disk."""

from pathlib import Path

import psutil

from maxgate.tools.monitor.snapshot import HostReading


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
