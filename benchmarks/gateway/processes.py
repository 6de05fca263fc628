"""Start, watch and end the processes of a measurement."""

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

from benchmarks.gateway.environments import ROOT, Unavailable

_PAGE = os.sysconf("SC_PAGE_SIZE")
_STOP_TIMEOUT = 20
_POLL_INTERVAL = 0.01
_TASKSET = "/usr/bin/taskset"


def exit_on_sigterm() -> None:
    """Exit on SIGTERM as on Ctrl-C, so that started processes are ended."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def choose_cores() -> tuple[int, int]:
    """Return the core of the gateway and the core of everything else."""
    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        raise SystemExit("two cores are required: one for the gateway, one for everything else")
    return available[-1], available[0]


@contextmanager
def start_process(
    command: list[str],
    *,
    core: int,
    log: Path,
    environment: Mapping[str, str] | None = None,
    folder: Path = ROOT,
) -> Iterator["Process"]:
    """Run a command in `folder` on one core; ends its process group afterwards."""
    log.parent.mkdir(parents=True, exist_ok=True)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MAXGATE_")}
    # Opened for appending, so that it can be truncated while the process writes.
    with log.open("wb"), log.open("ab") as file:
        began = time.monotonic()
        process = subprocess.Popen(
            [_TASKSET, "-c", str(core), *command],
            cwd=folder,
            env={**clean, **(environment or {})},
            stdout=file,
            stderr=file,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        yield Process(process, log, began)
    finally:
        _stop(process)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    # The process leads a session, so its group has no other members.
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
            process.wait(_STOP_TIMEOUT)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


class Process:
    """A started process and its descendants."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path, began: float) -> None:
        self._process = process
        self.pid = process.pid
        self._log = log
        self._began = began

    def wait_for(
        self,
        url: str,
        timeout: float,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> float:
        """Wait until `url` responds with 200; returns the seconds since the start.

        Raises Unavailable if the process ends or the timeout expires.
        """
        deadline, problem = time.monotonic() + timeout, "no attempt"
        log = self._log.relative_to(ROOT)
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise Unavailable(f"exited during startup, see {log}")
            try:
                request = urllib.request.Request(url, body, dict(headers or {}))
                with urllib.request.urlopen(request, timeout=5) as response:
                    response.read()
                    return time.monotonic() - self._began
            except urllib.error.HTTPError as error:
                problem = f"{error.code}"
            except OSError as error:
                problem = type(error).__name__
            pause(_POLL_INTERVAL)
        raise Unavailable(f"not ready after {timeout:g} s ({problem}), see {log}")

    def truncate_log(self) -> None:
        """Empty the log; with a line per request it grows fast."""
        os.truncate(self._log, 0)

    def cpu_seconds(self) -> float:
        """User and system time of all processes; their ended threads are included."""
        return sum(read_cpu_seconds(stat.pid) for stat in self._read_stats())

    def suspend(self) -> None:
        """Stop all processes until `resume` is called."""
        os.killpg(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let all processes go on."""
        os.killpg(self._process.pid, signal.SIGCONT)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, not to its descendants."""
        self._process.send_signal(number)

    def resident_bytes(self) -> int:
        """Resident memory of all processes; shared pages count once per process."""
        return sum(stat.resident_pages for stat in self._read_stats()) * _PAGE

    def _read_stats(self) -> list["ProcessStat"]:
        stats = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    stats.append(ProcessStat((folder / "stat").read_text()))
                except OSError:  # the process has ended
                    continue
        return select_descendants(self._process.pid, stats)


class ProcessStat:
    """The fields of /proc/PID/stat that are measured, see proc(5)."""

    def __init__(self, line: str) -> None:
        # The name is in parentheses and may contain parentheses itself.
        pid, _, rest = line.partition(" (")
        fields = rest.rpartition(") ")[2].split()
        self.pid, self.parent = int(pid), int(fields[1])
        self.resident_pages = int(fields[21])


def read_cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process in seconds; 0 if it has ended.

    The number of its clock is that of clock_getcpuclockid(3), which Python lacks. The times in
    /proc/PID/stat have a resolution of 10 ms.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def select_descendants(root: int, stats: list[ProcessStat]) -> list[ProcessStat]:
    """Return the process `root` and all its descendants."""
    found = [stat for stat in stats if stat.pid == root]
    for member in found:  # the list grows during the iteration
        found += [stat for stat in stats if stat.parent == member.pid]
    return found


def pause(seconds: float) -> None:
    """Wait between polls of another process, which cannot notify this one."""
    threading.Event().wait(seconds)


def print_progress(text: str) -> None:
    """Print to stderr, apart from the results."""
    print(text, file=sys.stderr, flush=True)
