"""Counts that each worker writes and all workers of one host read, in rows of 64-bit words.

Each worker has a file of its own in the folder of the workers' metrics. Files of workers that have
ended do not count.
"""

import hashlib
import mmap
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Final

import structlog

from maxgate.telemetry.counter_file import DISK_FULL, allocate
from maxgate.telemetry.layout import WORD_BYTES
from maxgate.telemetry.metrics_store import is_running

SUFFIX: Final = ".counts"
"""Of the files, whose names are process ids."""
_PID: Final = re.compile(r"[1-9]\d{0,8}", re.ASCII)
REFRESH_SECONDS: Final = 1.0
"""Interval at which new and ended workers are noticed."""

_log = structlog.get_logger("telemetry")


class SharedCounts:
    """Rows of `words` words, by the hash of a name; names with the same hash share a row.

    If the disk has no room, this worker's counts are in its own memory. Without a folder they are,
    too, and each name has a row of its own.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        rows: int,
        words: int,
        time: Callable[[], float] = monotonic,
    ) -> None:
        self._folder = folder
        self._rows = rows
        self._row_bytes = words * WORD_BYTES
        self._time = time
        self._own_path = None if folder is None else folder / f"{os.getpid()}{SUFFIX}"
        self._memory = memoryview(self._map_memory(rows * self._row_bytes))
        self._others: list[int] = []
        self._refreshed_at = float("-inf")

    def open_row(self, name: str) -> tuple[memoryview, Callable[[], list[memoryview]]]:
        """Return this worker's words of a row, and a function that reads those of all workers."""
        if self._folder is None:
            alone = memoryview(bytearray(self._row_bytes)).cast("q")
            return alone, lambda: [alone]
        digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
        start = int.from_bytes(digest, "little") % self._rows * self._row_bytes
        own = self._memory[start : start + self._row_bytes].cast("q")
        return own, lambda: [own, *self._read_others(start)]

    def close(self) -> None:
        """Close the files of other workers, and delete this worker's."""
        self._close_others()
        if self._own_path is not None:
            with suppress(OSError):
                self._own_path.unlink()

    def _map_memory(self, size: int) -> mmap.mmap:
        if self._own_path is not None:
            try:
                with self._own_path.open("w+b") as file:
                    allocate(file.fileno(), size)
                    return mmap.mmap(file.fileno(), size)
            except OSError as error:
                _log.warning("retries of the workers are not counted together", error=str(error))
                if error.errno in DISK_FULL:
                    with suppress(OSError):
                        self._own_path.unlink()
        return mmap.mmap(-1, size)

    def _read_others(self, start: int) -> list[memoryview]:
        now = self._time()
        if now - self._refreshed_at >= REFRESH_SECONDS:
            self._refreshed_at = now
            self._close_others()
            self._open_others()
        rows = []
        for descriptor in self._others:
            row = b""
            # Read, not mapped: touching the pages of a file that has become shorter is fatal.
            with suppress(OSError):
                row = os.pread(descriptor, self._row_bytes, start)
            if len(row) == self._row_bytes:
                rows.append(memoryview(row).cast("q"))
        return rows

    def _open_others(self) -> None:
        if self._folder is None:
            return
        for path in self._folder.glob(f"*{SUFFIX}"):
            if path == self._own_path or not _PID.fullmatch(path.stem):
                continue
            with suppress(OSError):
                if not is_running(int(path.stem)):
                    path.unlink()
                elif path.is_file():  # reading a named pipe would block
                    self._others.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))

    def _close_others(self) -> None:
        for descriptor in self._others:
            os.close(descriptor)
        self._others.clear()
