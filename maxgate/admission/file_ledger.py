"""The ledger of the workers of one host: a file per model, changed under a lock.

The files are read and written with system calls, not mapped: a mapped file that another process
shortens, or that finds the disk full, ends the process. Their pages are in memory all the same,
so that a renewal takes microseconds.
"""

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from time import monotonic
from typing import Final
from zlib import crc32

import orjson
import structlog
from typing_extensions import override

from maxgate.admission.lease_table import GrantBuilder, Lease, LeaseTable, Served
from maxgate.admission.ledger import (
    HEADROOM,
    Grant,
    Holding,
    LedgerUnavailable,
    LocalLedger,
    create_holder_id,
)
from maxgate.clock import Clock, SystemClock

SUFFIX: Final = ".slots"
_MAGIC: Final = b"mgslots1"
_HEADER: Final = struct.Struct("<8sIIQ")
"""Magic, CRC-32 of the rest, length of the content, sequence number."""
_COPY_BYTES: Final = 1 << 24
"""Offset of the second copy, and the maximum of header and content; the gap takes no disk space."""
_FIRST_READ: Final = 4096
"""Bytes of a copy that are read at once; most are shorter."""
_LOCK_SECONDS: Final = 0.05
"""Timeout of the lock, whose owner may have been stopped; a renewal holds it for microseconds."""
_PATIENCE_INTERVAL: Final = 1.0
"""Time after such a timeout in which nobody waits for the lock."""

_log = structlog.get_logger("admission")


class FileLedger(LocalLedger):
    """One holder in the ledger of a folder, which is created.

    The clock's monotonic time must have the same zero in all processes, as the system's has.
    """

    def __init__(
        self, folder: Path, *, clock: Clock | None = None, headroom: float = HEADROOM
    ) -> None:
        self._folder = folder
        self._clock = clock or SystemClock()
        self._headroom = headroom
        self._holder = create_holder_id(self._clock.wall())
        self._files: dict[str, SlotFile] = {}
        self._held: dict[str, tuple[int, float]] = {}
        self._grants = GrantBuilder()

    @override
    async def renew(self, model: str, holding: Holding) -> Grant:
        return self.renew_now(model, holding)

    @override
    def renew_now(self, model: str, holding: Holding) -> Grant:
        file = self._files.get(model) or self._open(model)
        try:
            with file.locked():
                now = self._clock.monotonic()
                slots, expires_at = self._held.get(model, (0, now))
                held = slots if now < expires_at else 0
                table = file.read()
                renewal = table.renew(
                    self._holder, holding, held=held, now=now, headroom=self._headroom
                )
                file.write(table)
        except OSError as error:
            raise LedgerUnavailable(f"{file.path}: {error.strerror or error}") from error
        self._held[model] = renewal.slots, table.leases[self._holder].expires_at
        return self._grants.build(model, renewal, holding.served)

    @override
    async def release(self) -> None:
        for file in self._files.values():
            with suppress(OSError), file.locked():
                table = file.read()
                if table.leases.pop(self._holder, None) is not None:
                    file.write(table)
        for file in self._files.values():
            file.close()
        self._files.clear()
        self._held.clear()

    def _open(self, model: str) -> "SlotFile":
        name = blake2b(model.encode(), digest_size=12).hexdigest() + SUFFIX
        try:
            self._files[model] = SlotFile(self._folder / name)
        except OSError as error:
            raise LedgerUnavailable(f"{self._folder}: {error.strerror}") from error
        return self._files[model]


class SlotFile:
    """The leases of one model in a file; methods raise OSError.

    There are two copies, written in turn, each with a checksum. A process that is killed while it
    writes leaves the other copy.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = self._open()
        self._sequence = 0
        self._patient_at = 0.0

    def close(self) -> None:
        """Close the file; the lock ends with it."""
        os.close(self._descriptor)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock; raises TimeoutError if another process keeps it.

        The kernel takes it from a process that dies.
        """
        self._lock()
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def read(self) -> LeaseTable:
        """Return the newest valid copy; an empty table if there is none."""
        copies = [self._read_copy(offset) for offset in (0, _COPY_BYTES)]
        self._sequence, content = max(copies, key=lambda copy: copy[0])
        try:
            return _decode(content) if self._sequence else self._rebuild()
        except (ValueError, TypeError, AttributeError):
            return self._rebuild()

    def write(self, table: LeaseTable) -> None:
        """Replace the older copy; only after `read`, under the same lock."""
        self.write_content(_encode(table))

    def write_content(self, content: bytes) -> None:
        """Replace the older copy by an encoded table."""
        self._sequence += 1
        rest = _HEADER.pack(_MAGIC, 0, len(content), self._sequence)[12:] + content
        copy = _MAGIC + crc32(rest).to_bytes(4, "little") + rest
        offset = self._sequence % 2 * _COPY_BYTES
        if len(copy) > _COPY_BYTES or os.pwrite(self._descriptor, copy, offset) < len(copy):
            raise OSError("no room for the leases")

    def _open(self) -> int:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def _lock(self) -> None:
        started = monotonic()
        deadline = started + _LOCK_SECONDS if started >= self._patient_at else started
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if monotonic() < deadline:
                    os.sched_yield()
                    continue
                if deadline > started:
                    self._patient_at = deadline + _PATIENCE_INTERVAL
                raise TimeoutError("another process keeps the lock") from None
            if os.fstat(self._descriptor).st_nlink:
                return
            deleted, self._descriptor = self._descriptor, self._open()
            os.close(deleted)

    def _read_copy(self, offset: int) -> tuple[int, bytes]:
        """Return sequence number and content; the number is 0 if they are not valid."""
        data = os.pread(self._descriptor, _FIRST_READ, offset)
        if len(data) < _HEADER.size:
            return 0, b""
        magic, checksum, length, sequence = _HEADER.unpack_from(data)
        end = _HEADER.size + length
        if magic != _MAGIC or end > _COPY_BYTES:
            return 0, b""
        if end > len(data):
            data += os.pread(self._descriptor, end - len(data), offset + len(data))
        if crc32(data[12:end]) != checksum or len(data) < end:
            return 0, b""
        return sequence, data[_HEADER.size : end]

    def _rebuild(self) -> LeaseTable:
        if os.fstat(self._descriptor).st_size:
            _log.warning("rebuilding a damaged file of leases", path=str(self.path))
            os.ftruncate(self._descriptor, 0)
        self._sequence = 0
        return LeaseTable()


def _encode(table: LeaseTable) -> bytes:
    leases = {
        holder: (lease.expires_at, lease.slots, lease.in_use, lease.capacity, lease.demand)
        for holder, lease in table.leases.items()
    }
    served = {tenant: tuple(total) for tenant, total in table.served.items()}
    return orjson.dumps((leases, served, table.settles_at))


def _decode(content: bytes) -> LeaseTable:
    """Raise ValueError, TypeError or AttributeError if the content is not a table."""
    leases, served, settles_at = orjson.loads(content)
    return LeaseTable(
        {
            holder: Lease(float(expires_at), int(slots), int(in_use), int(capacity), dict(demand))
            for holder, (expires_at, slots, in_use, capacity, demand) in leases.items()
        },
        {tenant: Served(float(tokens), float(at)) for tenant, (tokens, at) in served.items()},
        float(settles_at),
    )
