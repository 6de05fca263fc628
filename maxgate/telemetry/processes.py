"""What the worker processes take of the machine."""

import os
from collections.abc import Iterable
from pathlib import Path

from maxgate.telemetry.snapshot import ProcessUsage


def usage_of(pids: Iterable[int], proc: Path = Path("/proc")) -> ProcessUsage | None:
    """Processor time and memory of these processes together; None where there is no procfs.

    A process that ends meanwhile is left out. Fields are those of proc(5), `stat`: 14 and 15 for
    user and system time in clock ticks, 24 for resident pages.
    """
    if not (proc / "self" / "stat").exists():
        return None
    seconds, resident = 0.0, 0
    for pid in pids:
        try:
            stat = (proc / str(pid) / "stat").read_text()
        except OSError:
            continue
        # The second field is a name in brackets, which may itself have blanks and brackets.
        fields = stat.rpartition(") ")[2].split()
        seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        resident += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return ProcessUsage(seconds, resident)
