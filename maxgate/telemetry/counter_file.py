"""Counters of one worker process in memory that other processes can read.

Only its own process writes to a file, one word at a time, so neither side needs a lock.
"""

import errno
import mmap
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from maxgate.telemetry.histogram import BUCKETS, Histogram
from maxgate.telemetry.layout import (
    FINGERPRINT,
    KEY_WORDS,
    PID,
    STARTED_AT,
    WORD_BYTES,
    Layout,
    Table,
)
from maxgate.telemetry.registry import LabelValues, Metric

DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class CounterFile:
    """The counters of this process, in a file or, without a path, in its own memory.

    `counts` and `sums` are the same words, as integers and as doubles. `rows` has the position of
    a row by its label values, for each table; looking up new values adds a row. If the disk has
    no room for the file, `error` says so and the counters are in the process's own memory.
    """

    def __init__(self, layout: Layout, started_at: float, path: Path | None = None) -> None:
        self.error: str | None = None
        self._memory = self._map_memory(layout.size, path)
        self.counts = memoryview(self._memory).cast("q")
        self.sums = memoryview(self._memory).cast("d")
        self.rows = {table: Rows(table, self._memory, self.counts) for table in layout.tables}
        self.counts[PID] = os.getpid()
        self.sums[STARTED_AT] = started_at
        self.counts[FINGERPRINT] = layout.fingerprint

    def read(self) -> bytes:
        """The whole content."""
        return self._memory[:]

    def _map_memory(self, size: int, path: Path | None) -> mmap.mmap:
        if path is not None:
            try:
                with path.open("w+b") as file:
                    allocate(file.fileno(), size)
                    return mmap.mmap(file.fileno(), size)
            except OSError as error:
                if error.errno not in DISK_FULL:
                    raise
                self.error = f"{path}: {error.strerror}"
                with suppress(OSError):
                    path.unlink()
        return mmap.mmap(-1, size)


def allocate(descriptor: int, size: int) -> None:
    """Reserve disk space for an empty file.

    Raises OSError if there is no room.
    """
    # A write to a mapped page that finds the disk full ends the process with SIGBUS.
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    elif os.write(descriptor, bytes(size)) < size:  # macOS
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Rows(dict[LabelValues, int]):
    """Positions of the rows of one table, by label values.

    In a full table, new label values get the row with "other" for every label.
    """

    def __init__(self, table: Table, memory: mmap.mmap, counts: "memoryview[int]") -> None:
        super().__init__()
        self._table = table
        self._memory = memory
        self._counts = counts

    def __missing__(self, values: LabelValues) -> int:
        used = self._counts[self._table.start]
        other = ("other",) * len(self._table.labels)
        if used >= self._table.max_rows - 1 and values != other:
            return self[other]
        row = self._table.find_row(used)
        key = "\t".join(values).encode()[: KEY_WORDS * WORD_BYTES]
        self._memory[row * WORD_BYTES : row * WORD_BYTES + len(key)] = key
        self._counts[self._table.start] = used + 1
        self[values] = row
        return row


@dataclass(frozen=True, slots=True)
class CounterReader:
    """The counters of one worker at one moment. `started_at` is in seconds since 1970 (UTC)."""

    layout: Layout
    content: bytes
    counts: "memoryview[int]"
    pid: int
    started_at: float

    @classmethod
    def open(cls, layout: Layout, content: bytes) -> Self | None:
        """Read the header; None if the file is incomplete or has another layout."""
        if len(content) != layout.size:
            return None
        counts = memoryview(content).cast("q")
        if counts[FINGERPRINT] != layout.fingerprint:
            return None
        started_at = memoryview(content).cast("d")[STARTED_AT]
        return cls(layout, content, counts, counts[PID], started_at)

    def read_counts(self) -> Iterator[tuple[Metric, LabelValues, int]]:
        """Values of all counters and gauges, zeros included."""
        for metric, values, word in self._words():
            if metric.kind != "histogram":
                yield metric, values, self.counts[word]

    def read_histograms(self) -> Iterator[tuple[Metric, LabelValues, Histogram]]:
        """Values of all histograms, empty ones included."""
        sums = memoryview(self.content).cast("d")
        for metric, values, word in self._words():
            if metric.kind == "histogram":
                buckets = self.counts[word : word + BUCKETS].tolist()
                yield metric, values, Histogram(buckets, sums[word + BUCKETS])

    def _words(self) -> Iterator[tuple[Metric, LabelValues, int]]:
        for table in self.layout.tables:
            for number in range(self.counts[table.start]):
                row = table.find_row(number)
                key = self._read_key(table, row)
                for metric, offsets in table.offsets.items():
                    for values, offset in offsets.items():
                        yield metric, key + values, row + offset

    def _read_key(self, table: Table, row: int) -> LabelValues:
        if not table.labels:
            return ()
        key = self.content[row * WORD_BYTES : (row + KEY_WORDS) * WORD_BYTES].rstrip(b"\0")
        values = key.decode(errors="replace").split("\t", len(table.labels) - 1)
        return (*values, *[""] * (len(table.labels) - len(values)))
