"""Counters of the workers of one host: a file of rows of fixed size, changed under a lock.

The file is read and written with system calls, not mapped: a mapped file that another process
shortens, or that finds the disk full, ends the process. Its pages are in memory all the same.

The file has a header, the leases of the holders, and a hash table of rows. Each row has what was
used, and what each holder holds. A process that is killed leaves at most one row half done: a row
is written by one call.
"""

import fcntl
import os
import struct
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from math import inf
from pathlib import Path
from time import monotonic
from typing import Final
from uuid import uuid4

from typing_extensions import override

from maxgate.clock import Clock, SystemClock
from maxgate.limits.table import (
    GRACE_SECONDS,
    LEASE_SECONDS,
    CountersUnavailable,
    CounterTable,
    Reply,
    Report,
    State,
    Take,
    choose_takes,
)

MAX_HOLDERS: Final = 64
"""Processes that share the file at a time; further ones count alone."""
_MAGIC: Final = b"mglimit1"
_HEADER: Final = struct.Struct("<8s32s")
"""Magic and birth."""
_LEASE: Final = struct.Struct("<16sQd")
"""Id of the holder, generation of its place, and end of the lease on the monotonic clock."""
_ROW_BYTES: Final = 32 + 2 * 8 * MAX_HOLDERS
"""Size of a row; see `_build_row_format`."""
_HEADER_BYTES: Final = 4096
_ROWS: Final = 1 << 16
_MAX_PROBES: Final = 64
_FREE: Final = bytes(16)
_LOCK_SECONDS: Final = 0.05
"""Timeout of the lock, whose owner may have been stopped; an exchange holds it for microseconds."""
_PATIENCE_SECONDS: Final = 1.0
"""Time after such a timeout in which nobody waits for the lock."""


@dataclass(slots=True)
class _Known:
    """A counter that a holder has reported, and the amount that the file has of it."""

    digest: bytes
    ends_at: float
    used: int = 0


@dataclass(slots=True)
class _Row:
    """A counter in the file, with the places that holders have had so far."""

    offset: int
    digest: bytes
    ends_at: float
    used: int
    generations: list[int]
    held: list[int]


class FileTable(CounterTable):
    """The counters in a file of a folder, which is created.

    The clock's monotonic time must have the same zero in all processes, as the system's has. The
    file holds 65,536 counters; it takes disk space for those in use.
    """

    is_shared = True
    is_local = True

    def __init__(self, folder: Path, *, clock: Clock | None = None) -> None:
        self._path = folder / "limits.counters"
        self._clock = clock or SystemClock()
        self._descriptor: int | None = None
        self._patient_at = 0.0
        self._known: dict[tuple[str, str], _Known] = {}
        self._max_known = _ROWS // 4
        self._birth = ""

    @override
    async def exchange(
        self, holder: str, reports: Sequence[Report], takes: Sequence[Take], birth: str = ""
    ) -> Reply:
        return self.exchange_now(holder, reports, takes, birth)

    @override
    def exchange_now(
        self, holder: str, reports: Sequence[Report], takes: Sequence[Take], birth: str = ""
    ) -> Reply:
        try:
            with self._locked() as descriptor:
                return self._exchange(descriptor, holder, reports, takes, birth)
        except OSError as error:
            raise CountersUnavailable(f"{self._path}: {error.strerror or error}") from error

    @override
    async def leave(self, holder: str) -> None:
        if self._descriptor is None:
            return
        try:
            with self._locked() as descriptor:
                leases = _Leases(descriptor)
                leases.renew(holder, self._clock.monotonic(), 0)
        except (OSError, CountersUnavailable):
            pass
        os.close(self._descriptor)
        self._descriptor = None

    def _exchange(
        self,
        descriptor: int,
        holder: str,
        reports: Sequence[Report],
        takes: Sequence[Take],
        birth: str,
    ) -> Reply:
        own_birth, now = self._read_birth(descriptor), self._clock.monotonic()
        if own_birth != self._birth:
            self._birth = own_birth
            self._known.clear()
        leases = _Leases(descriptor)
        place = leases.renew(holder, now, LEASE_SECONDS)
        known = [self._know(holder, report) for report in reports]
        found = self._find_all(descriptor, known, leases.places)
        missing = [
            index
            for index, (row, report) in enumerate(zip(found, reports, strict=True))
            if report.rebuilds and report.base is None and row.digest == _FREE
        ]
        if missing or birth not in {"", own_birth}:
            return Reply((), (), leases.count(now), own_birth, missing)
        others = []
        for row, one, report in zip(found, known, reports, strict=True):
            if row.digest == _FREE:
                row.digest, row.ends_at = one.digest, report.ends_at
                row.used = (report.base or 0) + one.used
            leases.drop_ended(row, now)
            row.used += report.used - one.used
            one.used = report.used
            row.generations[place], row.held[place] = leases.generations[place], report.held
            others.append(row.used + sum(row.held) - report.used - report.held)
        totals = [row.used + sum(row.held) for row in found]
        refused, taken = choose_takes(reports, totals, takes)
        for row, one, report, amount, total in zip(
            found, known, reports, taken, totals, strict=True
        ):
            if report.charges:
                row.used += amount
                one.used += amount
            else:
                row.held[place] += amount
            row.held[place] += max(min(report.wish, report.limit - total), 0)
            _write_row(descriptor, row)
        states = [State(row.held[place], other) for row, other in zip(found, others, strict=True)]
        return Reply(states, refused, leases.count(now), own_birth)

    def _know(self, holder: str, report: Report) -> _Known:
        known = self._known.get((holder, report.key))
        if known is None:
            if len(self._known) >= self._max_known:
                wall = self._clock.wall()
                self._known = {key: one for key, one in self._known.items() if wall < one.ends_at}
                self._max_known = max(2 * len(self._known), _ROWS // 4)
            digest = blake2b(report.key.encode(), digest_size=16).digest()
            known = self._known[holder, report.key] = _Known(digest, report.ends_at)
        return known

    def _find_all(self, descriptor: int, known: Sequence[_Known], places: int) -> list[_Row]:
        """Return the row of each counter, or a free row for it."""
        found, taken, wall = list[_Row](), set[int](), self._clock.wall()
        for one in known:
            row = self._find(descriptor, one.digest, places, taken, wall)
            found.append(row)
            taken.add(row.offset)
        return found

    def _find(
        self, descriptor: int, digest: bytes, places: int, taken: Collection[int], wall: float
    ) -> _Row:
        """Return the row of a key, or a free one that is not `taken` in its place."""
        first, free = int.from_bytes(digest[:4], "little"), None
        for probe in range(_MAX_PROBES):
            row = _read_row(descriptor, (first + probe) % _ROWS, places)
            if row.digest == digest:
                return row
            if row.offset in taken:
                continue
            is_ended = wall >= row.ends_at + GRACE_SECONDS
            if free is None and (row.digest == _FREE or is_ended):
                free = _Row(row.offset, _FREE, inf, 0, [0] * places, [0] * places)
            if row.digest == _FREE:
                break
        if free is None:
            raise CountersUnavailable(f"{self._path} has no room for another counter")
        return free

    def _read_birth(self, descriptor: int) -> str:
        header = os.pread(descriptor, _HEADER.size, 0)
        if len(header) == _HEADER.size:
            magic, birth = _HEADER.unpack(header)
            if magic == _MAGIC:
                return str(birth, "ascii", "replace")
        os.ftruncate(descriptor, 0)  # not a file of ours, or damaged
        birth = uuid4().hex
        _write(descriptor, _HEADER.pack(_MAGIC, birth.encode()), 0)
        return birth

    @contextmanager
    def _locked(self) -> Iterator[int]:
        descriptor = self._open() if self._descriptor is None else self._descriptor
        self._descriptor = descriptor = self._lock(descriptor)
        try:
            yield descriptor
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)

    def _open(self) -> int:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(self._path, flags, 0o600)

    def _lock(self, descriptor: int) -> int:
        started = monotonic()
        deadline = started + _LOCK_SECONDS if started >= self._patient_at else started
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if monotonic() < deadline:
                    os.sched_yield()
                    continue
                if deadline > started:
                    self._patient_at = deadline + _PATIENCE_SECONDS
                raise TimeoutError("another process keeps the lock") from None
            if os.fstat(descriptor).st_nlink:
                return descriptor
            os.close(descriptor)  # the file was deleted
            self._descriptor = None
            self._descriptor = descriptor = self._open()


class _Leases:
    """The places of the holders, read from the file.

    A place that gets another holder has another generation, so that what the last one held in each
    row is dropped when the row is read next.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        data = os.pread(descriptor, _LEASE.size * MAX_HOLDERS, _HEADER_BYTES // 2)
        data = data.ljust(_LEASE.size * MAX_HOLDERS, b"\0")
        self._holders = list[bytes]()
        self.generations = list[int]()
        self._ends = list[float]()
        for holder, generation, end in _LEASE.iter_unpack(data):
            if not generation:
                break  # this place and those after it were never used
            self._holders.append(holder)
            self.generations.append(generation)
            self._ends.append(end)

    @property
    def places(self) -> int:
        """Number of places that holders have had so far."""
        return len(self.generations)

    def renew(self, holder: str, now: float, seconds: float) -> int:
        """Renew a lease, or begin it in a free place; returns the place."""
        name = bytes.fromhex(holder)
        place = self._find(name, now)
        if name != self._holders[place] or now >= self._ends[place]:
            self.generations[place] += 1
        self._holders[place], self._ends[place] = name, now + seconds
        lease = _LEASE.pack(name, self.generations[place], now + seconds)
        _write(self._descriptor, lease, _HEADER_BYTES // 2 + place * _LEASE.size)
        return place

    def _find(self, name: bytes, now: float) -> int:
        """Return the place of a holder, or else one whose lease has ended, or else a new one."""
        if name in self._holders:
            return self._holders.index(name)
        for place, end in enumerate(self._ends):
            if now >= end:
                return place
        if self.places == MAX_HOLDERS:
            raise CountersUnavailable(f"more than {MAX_HOLDERS} processes share the limits")
        self._holders.append(name)
        self.generations.append(0)
        self._ends.append(0.0)
        return self.places - 1

    def count(self, now: float) -> int:
        """Return the number of leases."""
        return sum([now < end for end in self._ends])

    def drop_ended(self, row: _Row, now: float) -> None:
        """Release what holders held whose lease has ended."""
        for place, held in enumerate(row.held):
            if held and (
                row.generations[place] != self.generations[place] or now >= self._ends[place]
            ):
                row.held[place] = 0


@cache
def _build_row_format(places: int) -> struct.Struct:
    """Build the format of a row in which only the first `places` have been used.

    A row has the digest of its key, the end of the window and the amount used; then the generations
    of all places, and then the amounts that they hold.
    """
    unused = 8 * (MAX_HOLDERS - places)
    return struct.Struct(f"<16sdq{places}Q{unused}x{places}q{unused}x")


def _read_row(descriptor: int, index: int, places: int) -> _Row:
    offset = _HEADER_BYTES + index * _ROW_BYTES
    data = os.pread(descriptor, _ROW_BYTES, offset).ljust(_ROW_BYTES, b"\0")
    digest, ends_at, used, *rest = _build_row_format(places).unpack(data)
    return _Row(offset, digest, ends_at, used, rest[:places], rest[places:])


def _write_row(descriptor: int, row: _Row) -> None:
    layout = _build_row_format(len(row.held))
    data = layout.pack(row.digest, row.ends_at, row.used, *row.generations, *row.held)
    _write(descriptor, data, row.offset)


def _write(descriptor: int, data: bytes, offset: int) -> None:
    if os.pwrite(descriptor, data, offset) < len(data):
        raise OSError("no room for the counters")
