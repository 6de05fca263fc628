"""Starting, watching and ending the processes of a measurement."""

import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.gateway.environments import ROOT, Absent

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_END_SECONDS = 20
_TASKSET = "/usr/bin/taskset"


def end_in_order() -> None:
    """Let SIGTERM end this process as Ctrl-C does, so that what it started ends with it."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def cores() -> tuple[int, int]:
    """The core for the gateway, and the one for everything else."""
    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        raise SystemExit("two cores are needed: one for the gateway, one for everything else")
    return available[-1], available[0]


@contextmanager
def started(
    command: list[str], *, core: int, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator["Process"]:
    """A process on one core, in a group of its own, which is ended afterwards."""
    log.parent.mkdir(parents=True, exist_ok=True)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MAXGATE_")}
    # Appended to, so that it can be emptied while it is written.
    with log.open("wb"), log.open("ab") as file:
        process = subprocess.Popen(
            [_TASKSET, "-c", str(core), *command],
            cwd=ROOT,
            env={**clean, **(environment or {})},
            stdout=file,
            stderr=file,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        yield Process(process, log)
    finally:
        _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    # The group is this process's own: it leads a session.
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
            process.wait(_END_SECONDS)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


class Process:
    """One that was started, with its children."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self._process = process
        self.log = log

    def wait_for(
        self,
        url: str,
        seconds: float,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Until `url` answers 200. Raises Absent if it does not."""
        deadline, said = time.monotonic() + seconds, "nothing"
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise Absent(f"ended at its start, see {self.log.relative_to(ROOT)}")
            try:
                request = urllib.request.Request(url, body, dict(headers or {}))
                with urllib.request.urlopen(request, timeout=5) as answer:
                    answer.read()
                    return
            except urllib.error.HTTPError as error:
                said = f"{error.code}"
            except OSError as error:
                said = type(error).__name__
            pause(0.1)
        raise Absent(f"not ready after {seconds:g} s ({said}), see {self.log.relative_to(ROOT)}")

    def empty_log(self) -> None:
        """Forget what it has said; a log of every request grows fast."""
        os.truncate(self.log, 0)

    def cpu_seconds(self) -> float:
        """User and system time of all its processes."""
        return sum(stat.cpu_ticks for stat in self._family()) / _TICKS

    def resident_bytes(self) -> int:
        """Of all its processes; pages that they share are counted in each."""
        return sum(stat.resident_pages for stat in self._family()) * _PAGE

    def _family(self) -> list["Stat"]:
        return family(self._process.pid, _stats())


class Stat:
    """What one line of /proc/PID/stat says, see proc(5)."""

    def __init__(self, line: str) -> None:
        # The name stands in parentheses and may hold anything, parentheses too.
        pid, _, rest = line.partition(" (")
        fields = rest.rpartition(") ")[2].split()
        self.pid, self.parent = int(pid), int(fields[1])
        self.cpu_ticks = int(fields[11]) + int(fields[12])
        self.resident_pages = int(fields[21])


def family(root: int, stats: list[Stat]) -> list[Stat]:
    """A process and all that come from it."""
    found = [stat for stat in stats if stat.pid == root]
    for member in found:  # grows while it is walked
        found += [stat for stat in stats if stat.parent == member.pid]
    return found


def _stats() -> list[Stat]:
    stats = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stats.append(Stat((folder / "stat").read_text()))
            except OSError:  # it has ended meanwhile
                continue
    return stats


def pause(seconds: float) -> None:
    """Nothing tells when somebody else's program begins to listen, or has come to rest."""
    threading.Event().wait(seconds)


def say(text: str) -> None:
    """Progress, beside the results."""
    print(text, file=sys.stderr, flush=True)
