"""The folder of the spools of this host, in `state_dir`.

    usage/mover.lock             locked by the process that moves lines to the database
    usage/rejected.log           lines that the database could not store, after their spool's name
    usage/<spool>/lock           locked by the worker that appends to the spool
    usage/<spool>/<offset>.groups
                                 a segment: the groups of lines of the spool from this byte on;
                                 earlier versions, whose suffix is .log, ignore these files

The groups of a spool are one stream of bytes; a new worker has a new spool. A position within a
group says how many of its lines are stored. Segments are deleted once the database has all of their
lines.
"""

import fcntl
import os
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO, Final

from maxgate.errors import ConfigurationError

FOLDER: Final = "usage"
MOVER_LOCK: Final = "mover.lock"
REJECTED: Final = "rejected.log"
MAX_READ_BYTES: Final = 1024 * 1024
"""Bytes of one batch; a longer group is damaged."""

_LOCK: Final = "lock"
_SUFFIX: Final = ".groups"
_OLD_SUFFIX: Final = ".log"
_UNFINISHED: Final = "."


@dataclass(frozen=True, slots=True)
class Segment:
    """A file with the groups of a spool from byte `start` to byte `end`."""

    path: Path
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a spool: its whole groups, and the byte at which the next part begins.

    Of the first group, `stored` lines are before the position. `is_cut` if the rest of a segment is
    not a whole group, because its writer was killed.
    """

    data: bytes
    end: int
    stored: int = 0
    is_cut: bool = False


def make_folder(state_dir: Path) -> Path:
    """Create the folder for this user only; raises ConfigurationError."""
    folder = state_dir.expanduser() / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / MOVER_LOCK).touch(0o600)
    except OSError as error:
        raise ConfigurationError(
            f"setting usage.enabled: {folder}: {error.strerror}; change state_dir or its rights"
        ) from error
    return folder


def create_spool(folder: Path) -> tuple[Path, int]:
    """Create a spool with an empty segment, and return its folder and its lock; raises OSError.

    The lock ends with the process, or when it is closed.
    """
    name = token_hex(8)
    unfinished = folder / f"{_UNFINISHED}{name}"
    unfinished.mkdir(0o700)
    if (lock := lock_file(unfinished / _LOCK)) is None:  # nobody else knows the name
        raise BlockingIOError(f"{unfinished}: locked")
    os.close(create_segment(unfinished, 0))
    # Only now can the mover see it, which deletes spools that nobody has locked.
    spool = unfinished.rename(folder / name)
    sync_folder(folder)
    return spool, lock


def create_segment(spool: Path, offset: int) -> int:
    """Create an empty segment durably, and return its descriptor; raises OSError.

    What is written to it is durable when the call returns: one system call takes less time than two
    that wait for the interpreter's lock in between.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_DSYNC
    descriptor = os.open(spool / f"{offset:020d}{_SUFFIX}", flags, 0o600)
    sync_folder(spool)
    return descriptor


def sync_folder(folder: Path) -> None:
    """Make the names of files in a folder durable; raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock_file(path: Path) -> int | None:
    """Lock a file, and return its descriptor; None if another one has locked it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def list_spools(folder: Path) -> list[Path]:
    """Return the folders of all spools."""
    with os.scandir(folder) as found:
        return sorted(
            Path(item) for item in found if item.is_dir() and not item.name.startswith(_UNFINISHED)
        )


def list_segments(spool: Path) -> list[Segment]:
    """Return the segments of a spool, oldest first; a spool that is gone has none."""
    segments = []
    with suppress(FileNotFoundError), os.scandir(spool) as found:
        for item in found:
            path = Path(item)
            if path.suffix in {_SUFFIX, _OLD_SUFFIX}:
                with suppress(FileNotFoundError):
                    start = int(path.stem)
                    segments.append(Segment(path, start, start + item.stat().st_size))
    return sorted(segments, key=lambda segment: segment.start)


def find_end(spool: Path) -> int:
    """Return the byte at which a spool ends now."""
    return max([segment.end for segment in list_segments(spool)], default=0)


def measure_folder(folder: Path) -> int:
    """Return the bytes of all segments of all spools."""
    return sum(s.end - s.start for spool in list_spools(folder) for s in list_segments(spool))


def read_piece(spool: Path, position: int, *, is_ended: bool) -> Piece | None:
    """Read the groups from a position of a spool on; None if there are none.

    Nothing follows the last segment of a spool that `is_ended`.
    """
    segments = list_segments(spool)
    for at, segment in enumerate(segments):
        successor = segments[at + 1].start if at + 1 < len(segments) else None
        if max(segment.end, successor or 0) <= position:
            continue
        with segment.path.open("rb") as file:
            offset = max(position - segment.start, 0)
            begin, data = _read_groups(file, offset)
        start = segment.start + begin
        length = data.rfind(b"\n") + 1
        if length:
            return Piece(data[:length], start + length, stored=offset - begin)
        if successor is not None:
            return Piece(b"", successor, is_cut=bool(data))
        if is_ended and data:
            return Piece(b"", start + len(data), is_cut=True)
        return None
    return None


def _read_groups(file: BinaryIO, offset: int) -> tuple[int, bytes]:
    """Return the offset of the group that a position is in, and the bytes from there on.

    Damaged bytes without an end are in no group: they are read from the position on.
    """
    for begin in (_find_group(file, offset), offset):
        file.seek(begin)
        data = file.read(MAX_READ_BYTES)
        if b"\n" in data:
            return begin, data
    return offset, data


def _find_group(file: BinaryIO, offset: int) -> int:
    """Return the offset at which a group begins, given that of a position in it."""
    begin = end = 0
    for size in (1, MAX_READ_BYTES):  # most positions are at the beginning
        begin = max(offset - size, 0)
        file.seek(begin)
        end = file.read(offset - begin).rfind(b"\n") + 1
        if end:
            break
    return begin + end


def delete_moved(spool: Path, position: int, *, is_ended: bool) -> None:
    """Delete the segments whose lines are before the position, and a spool without a segment."""
    segments = list_segments(spool)
    for segment, successor in pairwise(segments):
        if successor.start <= position:
            segment.path.unlink(missing_ok=True)
    if is_ended and segments and segments[-1].end <= position:
        segments[-1].path.unlink(missing_ok=True)
    if is_ended and not list_segments(spool):
        with suppress(OSError):
            (spool / _LOCK).unlink(missing_ok=True)
            spool.rmdir()


def keep_rejected(folder: Path, spool: str, line: bytes) -> None:
    """Append a line to the file of rejected ones durably; raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    descriptor = os.open(folder / REJECTED, flags, 0o600)
    try:
        os.write(descriptor, b"%b %b" % (spool.encode(), line))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_folder(folder)


def lock_ended(spool: Path) -> int | None:
    """Lock a spool whose worker has ended; None if it runs, or the spool is gone."""
    try:
        return lock_file(spool / _LOCK)
    except FileNotFoundError:
        return None
