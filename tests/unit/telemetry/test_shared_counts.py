"""Workers of one host read each other's counts."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from maxgate.telemetry.shared_counts import REFRESH_SECONDS, SharedCounts
from maxgate.upstream.retry_budget import WORDS, RetryBudget
from maxgate.upstream.settings import RetrySettings
from tests.fakes.clock import FakeClock

NOW = 1000.0
WORKER = f"""
import sys
from pathlib import Path
from maxgate.telemetry.shared_counts import SharedCounts
from maxgate.upstream.retry_budget import RetryBudget, WORDS
from maxgate.upstream.settings import RetrySettings

counts = SharedCounts(Path(sys.argv[1]), rows=64, words=WORDS)
budget = RetryBudget(RetrySettings(), *counts.open_row("small"))
for line in sys.stdin:
    budget.requests += int(line)
    budget.tick({NOW})
    taken = next(n for n in range(10_000) if not budget.take({NOW}))
    print(taken, flush=True)
"""


def read(counts: SharedCounts, name: str = "small") -> list[list[int]]:
    """Return the words of all workers in the row of a name."""
    _, read_all = counts.open_row(name)
    return [row.tolist() for row in read_all()]


def write_other(folder: Path, words: Sequence[int], pid: int = 1) -> Path:
    """Write the file of another worker; process 1 always runs."""
    path = folder / f"{pid}.counts"
    path.write_bytes(b"".join(word.to_bytes(8, "little", signed=True) for word in words))
    return path


def test_rows(tmp_path: Path) -> None:
    """A row starts with zeros; names share a limited number of rows."""
    counts = SharedCounts(tmp_path, rows=2, words=3)
    own, _ = counts.open_row("a")
    own[2] = -7
    assert read(counts, "a") == [[0, 0, -7]]
    assert {tuple(read(counts, str(n))[0]) for n in range(99)} == {(0, 0, -7), (0, 0, 0)}
    assert read(SharedCounts(None, rows=2, words=3)) == [[0, 0, 0]]


def test_other_worker(tmp_path: Path) -> None:
    """Other workers are noticed within a second, and their counts are current."""
    clock = FakeClock()
    counts = SharedCounts(tmp_path, rows=1, words=2, time=clock.monotonic)
    assert read(counts) == [[0, 0]]
    write_other(tmp_path, [1, 2])
    assert read(counts) == [[0, 0]]
    clock.advance(REFRESH_SECONDS)
    assert read(counts) == [[0, 0], [1, 2]]
    write_other(tmp_path, [3, 4])
    assert read(counts) == [[0, 0], [3, 4]]


def test_ended_worker(tmp_path: Path) -> None:
    """The counts of a worker that has ended are deleted, and so are one's own at the end."""
    counts = SharedCounts(tmp_path, rows=1, words=1)
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    write_other(tmp_path, [1], process.pid)
    assert read(counts) == [[0]]
    assert [path.name for path in tmp_path.iterdir()] == [f"{os.getpid()}.counts"]
    counts.close()
    assert list(tmp_path.iterdir()) == []


def test_damaged_files(tmp_path: Path) -> None:
    """Files of another size, pipes, folders and other names are ignored."""
    write_other(tmp_path, [])
    (tmp_path / "2.counts").mkdir()
    os.mkfifo(tmp_path / f"{os.getppid()}.counts")
    for name in ("0", "x", "-1", "9" * 40, "\u0661"):
        (tmp_path / f"{name}.counts").write_bytes(bytes(8))
    counts = SharedCounts(tmp_path, rows=1, words=1)
    assert read(counts) == [[0]]
    counts.close()


def test_file_becomes_shorter(tmp_path: Path) -> None:
    """A file that becomes shorter while it is open is ignored, and does no harm."""
    path = write_other(tmp_path, [5])
    counts = SharedCounts(tmp_path, rows=1, words=1)
    assert read(counts) == [[0], [5]]
    os.truncate(path, 0)
    assert read(counts) == [[0]]


def test_full_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On a full disk, the worker counts in its own memory and still reads the others."""

    def fail(descriptor: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", fail, raising=False)
    write_other(tmp_path, [5])
    counts = SharedCounts(tmp_path, rows=1, words=1)
    own, _ = counts.open_row("small")
    own[0] = 1
    assert read(counts) == [[1], [5]]
    assert not (tmp_path / f"{os.getpid()}.counts").exists()


@contextmanager
def worker(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a worker process that counts requests and takes all retries it can."""
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process


def count_retries(process: subprocess.Popen[str], requests: int) -> int:
    """Let a worker count requests; return how many retries it could take."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{requests}\n")
    process.stdin.flush()
    return int(process.stdout.readline())


def test_two_workers(tmp_path: Path) -> None:
    """Two worker processes share one budget: a fifth of the requests of both."""
    with worker(tmp_path) as first:
        assert count_retries(first, 300) == 60
        with worker(tmp_path) as second:
            assert count_retries(second, 700) == 140
            assert second.stdin is not None
            second.stdin.close()
        assert count_retries(first, 0) == 0
        assert first.stdin is not None
        first.stdin.close()
    counts = SharedCounts(tmp_path, rows=64, words=WORDS)
    budget = RetryBudget(RetrySettings(), *counts.open_row("small"))
    assert next(n for n in range(1000) if not budget.take(NOW)) == 30  # both have ended
