"""A reader sees what a worker has written."""

import errno
import os
from pathlib import Path

import pytest

from maxgate.telemetry.counter_file import CounterFile, CounterReader
from maxgate.telemetry.histogram import BUCKETS
from maxgate.telemetry.layout import MAX_ROWS, Layout
from maxgate.telemetry.registry import Metric
from tests.unit.telemetry.test_layout import EVICTIONS, LOOKUPS, POOL, WAITING, WAITS

LAYOUT = Layout([WAITING, EVICTIONS, WAITS])


def read(file: CounterFile, layout: Layout = LAYOUT) -> CounterReader:
    reader = CounterReader.open(layout, file.read())
    assert reader is not None
    return reader


def add_eviction(file: CounterFile, pool: str) -> None:
    table = LAYOUT.table_of[EVICTIONS]
    file.counts[file.rows[table][pool,] + table.offsets[EVICTIONS][()]] += 1


@pytest.fixture
def file() -> CounterFile:
    """Counters in memory."""
    return CounterFile(LAYOUT, 12.5)


def test_header(file: CounterFile) -> None:
    """The header identifies the process and its start."""
    assert (read(file).pid, read(file).started_at) == (os.getpid(), 12.5)


def test_counts(file: CounterFile) -> None:
    """Rows appear with their first label values; rows that exist show zeros too."""
    assert list(read(file).read_counts()) == []
    add_eviction(file, "a")
    add_eviction(file, "a")
    add_eviction(file, "b c")
    in_flight = LAYOUT.table_of[WAITING]
    assert file.rows[in_flight][()] == in_flight.find_row(0)
    assert list(read(file).read_counts()) == [
        (WAITING, (), 0),
        (EVICTIONS, ("a",), 2),
        (EVICTIONS, ("b c",), 1),
    ]


def test_histogram(file: CounterFile) -> None:
    """A histogram has its buckets as integers and its sum as a double."""
    table = LAYOUT.table_of[WAITS]
    word = file.rows[table]["a",] + table.offsets[WAITS]["disk",]
    file.counts[word + 7] = 3
    file.sums[word + BUCKETS] = 1.5
    memory, disk = read(file).read_histograms()
    assert (memory[:2], sum(memory[2].counts)) == ((WAITS, ("a", "memory")), 0)
    assert (disk[:2], disk[2].counts[7], disk[2].total) == ((WAITS, ("a", "disk")), 3, 1.5)


def test_full_table(file: CounterFile) -> None:
    """In a full table, new label values are counted as "other"."""
    for number in range(200):
        add_eviction(file, str(number))
    counts = {labels: count for _, labels, count in read(file).read_counts()}
    expected = {(str(number),): 1 for number in range(MAX_ROWS - 1)}
    assert counts == {**expected, ("other",): 200 - (MAX_ROWS - 1)}


def test_long_label_values() -> None:
    """Label values that are too long for the key are cut off, and missing ones are empty."""
    metric = Metric("m_total", "counter", "calls", "M.", (POOL, POOL))
    layout = Layout([metric])
    file = CounterFile(layout, 0)
    for key in [("é" * 200, "b"), ("a", "x" * 300)]:
        assert file.rows[layout.tables[0]][key]
    labels = [labels for _, labels, _ in read(file, layout).read_counts()]
    assert labels == [("é" * 128, ""), ("a", "x" * 254)]


def test_file(tmp_path: Path) -> None:
    """A file has the counts while its process is running."""
    path = tmp_path / "1.metrics"
    add_eviction(CounterFile(LAYOUT, 0, path), "a")
    reader = CounterReader.open(LAYOUT, path.read_bytes())
    assert reader is not None
    assert list(reader.read_counts()) == [(EVICTIONS, ("a",), 1)]


@pytest.mark.parametrize("content", [b"", bytes(LAYOUT.size)])
def test_unfinished_file(content: bytes) -> None:
    """A file without its fingerprint is not read."""
    assert CounterReader.open(LAYOUT, content) is None


def test_other_layout() -> None:
    """A file with another layout is not read, even if it has the same size."""
    other = Layout([WAITING, Metric("b_total", "counter", "calls", "B.", (POOL,)), WAITS])
    assert other.size == LAYOUT.size
    assert CounterReader.open(LAYOUT, CounterFile(other, 0).read()) is None
    assert CounterReader.open(LAYOUT, CounterFile(Layout([LOOKUPS]), 0).read()) is None


def test_full_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On a full disk, the counters are in memory and no incomplete file is left."""

    def fail(descriptor: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", fail, raising=False)
    path = tmp_path / "1.metrics"
    file = CounterFile(LAYOUT, 12.5, path)
    add_eviction(file, "a")
    assert (file.error, list(tmp_path.iterdir())) == (f"{path}: No space left on device", [])
    assert (EVICTIONS, ("a",), 1) in read(file).read_counts()


def test_disk_space_is_reserved(tmp_path: Path) -> None:
    """The file takes its whole size on the disk from the start."""
    path = tmp_path / "1.metrics"
    CounterFile(LAYOUT, 12.5, path)
    assert path.stat().st_blocks * 512 >= LAYOUT.size
