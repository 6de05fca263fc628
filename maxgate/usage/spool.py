"""The spool of one worker: lines are on disk before their requests end.

A group of lines is encoded, written and synced at once. Encoding one line after the other takes
less time than encoding each between other work.
"""

import asyncio
import errno
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final, Generic, NamedTuple, TypeAlias, TypeVar

import structlog

from maxgate.errors import StackTrace
from maxgate.usage.folder import create_segment, create_spool, measure_folder

MIN_GROUP_SECONDS: Final = 0.01
MAX_GROUP_SECONDS: Final = 0.05
"""Bounds of the interval of groups, which is the longest time that a line waits to be written."""
GROUP_SHARE: Final = 0.005
"""Share of a core's time that writing and syncing may take, within the bounds of the interval.

A group takes 300 to 400 µs on the virtual machine of benchmarks/RESULTS.md.
"""
_SMOOTHING: Final = 0.1
RETRY_SECONDS: Final = 0.25
"""Interval of attempts to write while there is no room."""
MAX_PENDING_BYTES: Final = 16 * 1024 * 1024
"""Bytes of lines that wait in memory; further ones are lost."""
MAX_SEGMENT_BYTES: Final = 4 * 1024 * 1024
CLOSE_SECONDS: Final = 5.0
"""Time to wait for room when the gateway stops."""

_MEASURE_SECONDS: Final = 1.0
_NO_ROOM: Final = "no room on disk and in memory"

Item = TypeVar("Item")
"""A request that has ended, whose line is not encoded yet."""
OnDurable: TypeAlias = Callable[[], None]
"""Ends a request whose line is durable; must not raise."""

_log = structlog.get_logger("usage")


class _Group(NamedTuple):
    """Lines, and what is called when they are on disk."""

    data: bytes
    lines: int
    waiting: list[OnDurable]


def choose_interval(write_seconds: float) -> float:
    """Return the interval of groups that take so much CPU time to write and sync, in seconds."""
    return min(max(write_seconds / GROUP_SHARE, MIN_GROUP_SECONDS), MAX_GROUP_SECONDS)


class Spool(Generic[Item]):
    """Appends lines to the segments of a new spool.

    `encode` returns the lines of items; if it raises, or memory has no room for all of them, it is
    called again for each item. While there is no room, or the disk fails, `is_full` is set: lines
    then wait in memory, and nothing waits for them. `on_written` and `on_lost` are called with
    numbers of lines, on the event loop, and `on_full` with each change of `is_full`, on another
    thread. Raises OSError if the spool cannot be created.
    """

    def __init__(
        self,
        folder: Path,
        max_bytes: int,
        *,
        encode: Callable[[Sequence[Item]], bytes],
        on_written: Callable[[int], None],
        on_lost: Callable[[int], None],
        on_full: Callable[[bool], None] = lambda _: None,
        close_timeout: float = CLOSE_SECONDS,
    ) -> None:
        self.path, self._lock = create_spool(folder)
        self.is_full = False
        self._loop = asyncio.get_running_loop()
        self._encode = encode
        self._on_written = on_written
        self._on_lost = on_lost
        self._on_full = on_full
        self._close_timeout = close_timeout
        self._items: list[Item] = []
        self._waiting: list[OnDurable] = []
        self._pending_bytes = 0
        self._next_group_at = 0.0
        self._group_seconds = MIN_GROUP_SECONDS
        self._write_seconds = 0.0
        self._is_scheduled = False
        self._lost = 0
        self._reasons: set[str] = set()
        self._has_ended = False
        self._is_closed = False
        self._is_closing = threading.Event()
        self._never = threading.Event()
        self._queue: SimpleQueue[_Group | None] = SimpleQueue()
        self._file = _SegmentFile(folder, self.path, max_bytes)
        self._thread = threading.Thread(target=self._work, name="usage spool", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        """The identity of the spool."""
        return self.path.name

    def append(self, item: Item, on_durable: OnDurable | None = None) -> bool:
        """Append the line of an item, which is encoded when its group is written.

        Returns whether `on_durable` will be called, on the event loop, when the line is durable;
        otherwise there is nothing to wait for. Call this on the event loop.
        """
        if self._pending_bytes > MAX_PENDING_BYTES or self._is_closed:
            self._lose(1, _NO_ROOM)
            return False
        self._items.append(item)
        if not self._is_scheduled:
            self._is_scheduled = True
            delay = self._next_group_at - self._loop.time()
            if delay > 0:
                self._loop.call_later(delay, self._hand_over)
            else:  # after the other requests of this iteration
                self._loop.call_soon(self._hand_over)
        if on_durable is None or self.is_full:
            return False
        self._waiting.append(on_durable)
        return True

    async def aclose(self) -> None:
        """Write what is pending, for a bounded time, and release the spool; never raises."""
        self._hand_over()
        self._is_closed = True
        self._is_closing.set()
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join, 2 * self._close_timeout + 1)
        if self._lost:
            _log.error("lines of usage are lost", lines=self._lost, spool=self.name)
        os.close(self._lock)

    def _hand_over(self) -> None:
        self._is_scheduled = False
        self._next_group_at = self._loop.time() + self._group_seconds
        items, self._items = self._items, []
        if not items:
            return
        group = self._encode_group(items)
        self._waiting = []
        self._pending_bytes += len(group.data)
        if group.lines or group.waiting:
            self._queue.put(group)

    def _encode_group(self, items: Sequence[Item]) -> _Group:
        with suppress(Exception):  # one that cannot be encoded is found below
            data = self._encode(items)
            if self._pending_bytes + len(data) <= MAX_PENDING_BYTES:
                return _Group(data, len(items), self._waiting)
        parts = self._encode_each(items)
        return _Group(b"".join(parts), len(parts), self._waiting)

    def _encode_each(self, items: Sequence[Item]) -> list[bytes]:
        """Encode the lines that can be encoded, and that memory has room for."""
        parts, size = list[bytes](), self._pending_bytes
        for item in items:
            if size > MAX_PENDING_BYTES:
                self._lose(1, _NO_ROOM)
                continue
            try:
                parts.append(self._encode([item]))
            except Exception as error:  # noqa: BLE001  # the others must be written
                self._lose(1, "encoding failed", error)
            else:
                size += len(parts[-1])
        return parts

    def _work(self) -> None:
        """Write groups until the spool is closed; runs in the thread."""
        while not self._has_ended:
            groups = self._take(wait=True)
            if groups:
                began = time.thread_time()
                is_written = self._write(groups)
                self._call(self._finish, groups, is_written, time.thread_time() - began)
        self._file.close()

    def _take(self, *, wait: bool) -> list[_Group]:
        """Return all groups that were handed over, and note the end."""
        groups: list[_Group] = []
        with suppress(Empty):
            while True:
                group = self._queue.get(block=wait and not groups)
                if group is None:
                    self._has_ended = True
                    break
                groups.append(group)
        return groups

    def _write(self, groups: list[_Group]) -> bool:
        """Write groups as soon as there is room; False if there was none until the end.

        Groups that are handed over meanwhile are added to the list.
        """
        data = b"".join([group.data for group in groups])
        give_up_at: float | None = None
        while True:
            try:
                self._file.write(data)
            except OSError as error:
                if not self.is_full:
                    self.is_full = True
                    self._on_full(True)
                    _log.error("the spool of usage has no room", error=error.strerror)
            else:
                if self.is_full:
                    self.is_full = False
                    self._on_full(False)
                    _log.info("the spool of usage has room again")
                return True
            self._call(self._release, list(groups))
            if self._is_closing.wait(RETRY_SECONDS):
                give_up_at = give_up_at or time.monotonic() + self._close_timeout
                if time.monotonic() >= give_up_at:
                    return False
                self._never.wait(RETRY_SECONDS)
            added = self._take(wait=False)
            groups += added
            data += b"".join([group.data for group in added])

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop was closed without waiting for the thread
            self._loop.call_soon_threadsafe(function, *arguments)

    def _finish(self, groups: list[_Group], is_written: bool, cpu_seconds: float) -> None:
        self._release(groups)
        self._write_seconds += _SMOOTHING * (cpu_seconds - self._write_seconds)
        self._group_seconds = choose_interval(self._write_seconds)
        lines = sum(group.lines for group in groups)
        self._pending_bytes -= sum(len(group.data) for group in groups)
        if is_written:
            self._on_written(lines)
        else:
            self._lose(lines, _NO_ROOM)

    def _release(self, groups: list[_Group]) -> None:
        """Let requests end: their lines are on disk, or wait in memory for room."""
        for group in groups:
            for on_durable in group.waiting:
                on_durable()
            group.waiting.clear()  # a group without room is released before it is written

    def _lose(self, lines: int, reason: str, error: Exception | None = None) -> None:
        """Count lost lines, and log the first loss for each reason."""
        if reason not in self._reasons:
            self._reasons.add(reason)
            trace = {} if error is None else {"exception": StackTrace(error)}
            _log.error(f"lines of usage are lost: {reason}", spool=self.name, **trace)
        self._lost += lines
        self._on_lost(lines)


class _SegmentFile:
    """The current segment; used by one thread."""

    def __init__(self, folder: Path, spool: Path, max_bytes: int) -> None:
        self._folder = folder
        self._spool = spool
        self._max_bytes = max_bytes
        self._max_segment_bytes = min(MAX_SEGMENT_BYTES, max_bytes // 16)
        self._descriptor = create_segment(spool, 0)
        self._start = self._size = 0
        self._is_torn = False
        self._total = 0
        self._measured_at = 0.0

    def write(self, data: bytes) -> None:
        """Append lines durably, or not at all; raises OSError."""
        if self._is_torn:
            self._cut()
        if self._size >= self._max_segment_bytes:
            self._begin_segment()
        self._check_bound(len(data))
        self._is_torn = True
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            if not os.fstat(self._descriptor).st_nlink:
                raise FileNotFoundError(errno.ENOENT, "the spool was deleted; restart the gateway")
        except OSError:
            self._cut()
            raise
        self._is_torn = False
        self._size += len(data)
        self._total += len(data)

    def _cut(self) -> None:
        """Remove what was written in part: all of it is written again."""
        os.ftruncate(self._descriptor, self._size)
        self._is_torn = False

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _begin_segment(self) -> None:
        descriptor = create_segment(self._spool, self._start + self._size)
        os.close(self._descriptor)
        self._descriptor = descriptor
        self._start += self._size
        self._size = 0

    def _check_bound(self, length: int) -> None:
        """Raise OSError if the lines of all spools of this host would take too much space."""
        now = time.monotonic()
        if now - self._measured_at >= _MEASURE_SECONDS or self._total + length > self._max_bytes:
            self._total, self._measured_at = measure_folder(self._folder), now
        if self._total + length > self._max_bytes:
            if self._size:  # only whole segments are deleted
                self._begin_segment()
            raise OSError(errno.EDQUOT, "usage.max_spool_bytes is reached")
