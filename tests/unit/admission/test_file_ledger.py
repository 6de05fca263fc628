"""Files of leases that are damaged, and workers that are killed while they use them."""

import os
import random
import resource
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from time import monotonic

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from maxgate.admission.file_ledger import FileLedger, SlotFile
from maxgate.admission.ledger import LEASE_SECONDS, Grant, Holding, LedgerUnavailable
from tests.conftest import ROOT
from tests.fakes.clock import FakeClock

BUSY = Holding(8, 0, {"a": 99}, {"a": 2.5})
ALL = Grant(8, 8, {}, True)

_WORKER = """
import sys
from contextlib import suppress
from pathlib import Path
from maxgate.admission.file_ledger import FileLedger, SlotFile
from maxgate.admission.ledger import Holding, LedgerUnavailable
"""
RENEW = (
    _WORKER
    + """
ledger = FileLedger(Path(sys.argv[1]))
holding = Holding(8, 0, {f"tenant {n}": 1 for n in range(300)}, {"a": 1.0})
ledger.renew_now("m", holding)
print(flush=True)
while True:
    with suppress(LedgerUnavailable):
        ledger.renew_now("m", holding)
"""
)
LOCK = (
    _WORKER
    + """
with SlotFile(Path(sys.argv[1])).locked():
    print(flush=True)
    sys.stdin.read()
"""
)


def start_worker(code: str, path: Path) -> subprocess.Popen[bytes]:
    """Start a Python process, and return after its first line."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    worker = subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=ROOT, **pipes)
    worker.stdout.readline()
    return worker


def end(worker: subprocess.Popen[bytes]) -> None:
    """Kill a worker."""
    worker.kill()
    worker.wait()
    worker.stdin.close()
    worker.stdout.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def ledger(tmp_path: Path, clock: FakeClock) -> FileLedger:
    return FileLedger(tmp_path, clock=clock)


def find_file(folder: Path) -> Path:
    """Return the file of the one model."""
    [path] = folder.glob("*.slots")
    return path


def test_private_files(tmp_path: Path) -> None:
    """Only the user of the gateway can read folder and files."""
    folder = tmp_path / "new" / "folder"
    FileLedger(folder).renew_now("m", BUSY)

    modes = [path.stat().st_mode & 0o777 for path in (folder, find_file(folder))]
    assert modes == [0o700, 0o600]


def test_small_files(tmp_path: Path) -> None:
    """The gap between the two copies takes no space."""
    ledger = FileLedger(tmp_path)
    for _ in range(3):
        ledger.renew_now("m", BUSY)

    assert find_file(tmp_path).stat().st_blocks * 512 <= 64 * 1024


def test_earlier_start(tmp_path: Path, ledger: FileLedger, clock: FakeClock) -> None:
    """A file of an earlier start does no harm once its leases have expired."""
    ledger.renew_now("m", BUSY)
    clock.advance(LEASE_SECONDS)

    assert FileLedger(tmp_path, clock=clock).renew_now("m", BUSY) == ALL


async def test_released_ledger(tmp_path: Path, ledger: FileLedger, clock: FakeClock) -> None:
    """A ledger that has been released can be used again."""
    ledger.renew_now("m", BUSY)
    await ledger.release()
    await ledger.release()

    assert FileLedger(tmp_path, clock=clock).renew_now("m", BUSY) == ALL
    assert (await ledger.renew("m", BUSY)).slots == 0


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    offset=st.integers(0, 200),
    damage=st.binary(min_size=1, max_size=300),
    both=st.booleans(),
    length=st.none() | st.integers(0, 300),
)
def test_damaged_file(
    tmp_path: Path, offset: int, damage: bytes, both: bool, length: int | None
) -> None:
    """Damage never fails a renewal; if no copy is left, leases do not grow until they settle."""
    clock = FakeClock()
    first, second = FileLedger(tmp_path, clock=clock), FileLedger(tmp_path, clock=clock)
    for path in tmp_path.iterdir():
        path.unlink()
    first.renew_now("m", BUSY._replace(demand={"a": 3}))
    second.renew_now("m", BUSY._replace(demand={"b": 4}))
    path = find_file(tmp_path)
    with path.open("r+b") as file:
        for copy in (0, 1 << 24) if both else (0,):
            file.seek(copy + offset)
            file.write(damage)
        if length is not None:
            file.truncate(length)
    slots = [ledger.renew_now("m", BUSY).slots for ledger in (first, second, first, second)]
    assert sum(slots[2:]) <= 8

    clock.advance(LEASE_SECONDS / 2)
    for _ in range(2):
        [ledger.renew_now("m", BUSY) for ledger in (first, second)]
    clock.advance(LEASE_SECONDS / 2)
    for _ in range(2):
        after = [ledger.renew_now("m", BUSY).slots for ledger in (first, second)]
    assert after == [4, 4]


def test_rebuilt_file(tmp_path: Path, ledger: FileLedger) -> None:
    """A damaged file is made anew, with one line in the log; a deleted one without."""
    ledger.renew_now("m", BUSY)
    path = find_file(tmp_path)
    path.write_bytes(b"x" * 5000)
    with capture_logs() as lines:
        ledger.renew_now("m", BUSY)
        ledger.renew_now("m", BUSY)
        path.unlink()
        ledger.renew_now("m", BUSY)

    assert lines == [
        {
            "event": "rebuilding a damaged file of leases",
            "log_level": "warning",
            "path": str(path),
        }
    ]
    assert path.exists()


@pytest.mark.parametrize(
    "content", ["[]", "[[],[],0]", '[{"A":[1,2]},{},0]', '[{},{"a":[null,1]},0]']
)
def test_foreign_content(tmp_path: Path, content: str) -> None:
    """Content of another version, with a valid checksum, is damage, too."""
    ledger = FileLedger(tmp_path)
    ledger.renew_now("m", BUSY)
    file = SlotFile(find_file(tmp_path))
    with file.locked():
        file.read()
        file.write_content(content.encode())
    file.close()
    with capture_logs() as lines:
        assert FileLedger(tmp_path).renew_now("m", BUSY) == ALL

    assert [line["event"] for line in lines] == ["rebuilding a damaged file of leases"]


def test_deleted_folder(tmp_path: Path) -> None:
    """A folder that is deleted meanwhile is created again."""
    folder = tmp_path / "ledger"
    ledger = FileLedger(folder)
    ledger.renew_now("m", BUSY)
    rmtree(folder)
    ledger.renew_now("m", BUSY)
    rmtree(folder)
    folder.touch()
    for _ in range(2):
        with pytest.raises(LedgerUnavailable, match=r"/ledger/\w+\.slots: File exists"):
            ledger.renew_now("m", BUSY)
    folder.unlink()

    assert ledger.renew_now("m", BUSY) == ALL


def test_full_disk(ledger: FileLedger) -> None:
    """A write that fails leaves the leases as they were."""
    before = ledger.renew_now("m", BUSY)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, limits[1]))
    try:
        for _ in range(2):
            with pytest.raises(LedgerUnavailable, match=r"File too large|no room for the leases"):
                ledger.renew_now("m", BUSY)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert ledger.renew_now("m", BUSY) == before


def test_folder_is_a_file(tmp_path: Path) -> None:
    """A folder that cannot be used is reported by name."""
    (tmp_path / "file").touch()
    with pytest.raises(LedgerUnavailable, match=r"/file/x: Not a directory"):
        FileLedger(tmp_path / "file" / "x").renew_now("m", BUSY)


def test_file_is_a_link(tmp_path: Path, ledger: FileLedger) -> None:
    """A link is not followed."""
    ledger.renew_now("m", BUSY)
    path = find_file(tmp_path)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LedgerUnavailable, match="Too many levels of symbolic links"):
        FileLedger(tmp_path).renew_now("m", BUSY)


def test_killed_workers(tmp_path: Path) -> None:
    """Workers that are killed at any moment leave a file that is valid and not locked."""
    seeded = random.Random(1)
    survivor = FileLedger(tmp_path)
    survivor.renew_now("m", BUSY)
    with capture_logs() as lines:
        for _ in range(6):
            worker = start_worker(RENEW, tmp_path)
            for _ in range(seeded.randrange(200)):
                with suppress(LedgerUnavailable):  # the machine is busy
                    survivor.renew_now("m", BUSY)
            end(worker)
            assert survivor.renew_now("m", BUSY).slots <= 8
    assert lines == []


@pytest.mark.parametrize("signals", [(signal.SIGSTOP, signal.SIGKILL), (signal.SIGKILL,)])
def test_lock_of_another(tmp_path: Path, signals: tuple[signal.Signals, ...]) -> None:
    """A stopped owner of the lock delays one renewal per second by little; a killed one none."""
    ledger = FileLedger(tmp_path)
    ledger.renew_now("m", BUSY)
    worker = start_worker(LOCK, find_file(tmp_path))
    started = monotonic()
    for _ in range(100):
        with pytest.raises(LedgerUnavailable, match="another process keeps the lock"):
            ledger.renew_now("m", BUSY)
    assert monotonic() - started < 2
    for number in signals:
        os.kill(worker.pid, number)
    end(worker)

    assert ledger.renew_now("m", BUSY) == ALL
