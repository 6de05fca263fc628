"""Writing of log lines by a thread of its own, so that a slow or broken log stops nothing else."""

import atexit
import io
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TextIO

MAX_QUEUED_BYTES: Final = 8 << 20
_PAUSE: Final = 0.01
_RETRY_PAUSE: Final = 0.05
_EXIT_TIMEOUT: Final = 2.0


class LogWriter:
    """Queues lines and writes them in order; `write` neither blocks nor raises.

    Lines queued within 10 ms are joined into one system call. A line is dropped, and counted, if
    `max_bytes` are queued already (its reader has stalled) or if it cannot be written (its reader
    has gone, or the disk is full).
    """

    def __init__(self, stream: io.RawIOBase, max_bytes: int = MAX_QUEUED_BYTES) -> None:
        self._stream = stream
        self._max_bytes = max_bytes
        self._lines: list[bytes] = []
        self._queued_bytes = 0
        self._changed = threading.Condition()
        self._hurry = threading.Event()
        self._never = threading.Event()
        self._is_line_open = False
        self._on_drop: Callable[[int], None] | None = None
        self.dropped = 0
        threading.Thread(target=self._run, name="log-writer", daemon=True).start()

    def on_drop(self, callback: Callable[[int], None] | None) -> None:
        """Call this with each number of dropped lines, those until now included."""
        with self._changed:
            self._on_drop = callback
            if self.dropped and callback is not None:
                callback(self.dropped)

    def write(self, line: bytes) -> None:
        """Queue a line, which ends with a line break."""
        with self._changed:
            if self._queued_bytes + len(line) > self._max_bytes:
                self._drop(1)
                return
            self._queued_bytes += len(line)
            self._lines.append(line)
            if len(self._lines) == 1:
                self._changed.notify_all()

    def flush(self, timeout: float = _EXIT_TIMEOUT) -> bool:
        """Wait until all lines are written or dropped; False after `timeout` seconds."""
        self._hurry.set()
        with self._changed:
            done = self._changed.wait_for(lambda: not self._queued_bytes, timeout)
        self._hurry.clear()
        return done

    def drop(self) -> None:
        """Count a line that could not be formatted."""
        with self._changed:
            self._drop(1)

    def _drop(self, lines: int) -> None:
        self.dropped += lines
        if self._on_drop is not None:
            with suppress(Exception):  # logging never fails
                self._on_drop(lines)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines)
            self._hurry.wait(_PAUSE)
            with self._changed:
                lines, self._lines = self._lines, []
            content = b"".join(lines)
            written = self._write(content)
            lost = content.count(b"\n", written)
            with self._changed:
                if lost:
                    self._drop(lost)
                self._queued_bytes -= len(content)
                self._changed.notify_all()

    def _write(self, content: bytes) -> int:
        """Write as much as the stream takes and return the number of bytes."""
        written = 0
        try:
            if self._is_line_open:  # the rest of that line is lost
                self._stream.write(b"\n")
                self._is_line_open = False
            while written < len(content):
                count = self._stream.write(memoryview(content)[written:])
                if count is None:  # a non-blocking descriptor that is full
                    self._never.wait(_RETRY_PAUSE)
                    continue
                written += count
        except Exception:  # noqa: BLE001  # there is nowhere left to report it
            self._is_line_open = self._is_line_open or content[:written][-1:] not in {b"", b"\n"}
        return written


@lru_cache(maxsize=1)
def open_log_writer(stream: TextIO) -> LogWriter:
    """Return the writer of a text stream; its last lines are written when the process exits."""
    # Python's buffer has a lock, which a stalled write would hold when the process exits.
    raw: Any = getattr(stream.buffer, "raw", stream.buffer)
    writer = LogWriter(raw)
    atexit.register(writer.flush)
    return writer


def find_log_stream() -> TextIO:
    """Return stderr, or the null device if the process was started without it."""
    return sys.stderr or Path(os.devnull).open("w", encoding="utf-8")
