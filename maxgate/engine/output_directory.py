"""Writing a directory atomically: it appears complete, or what was there before stays."""

import ctypes
import fcntl
import glob
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from maxgate.engine.prepared_model import MARKER, find_foreign_files, read_prepared
from maxgate.gguf.errors import ModelFileError

_PARTIAL: Final = ".partial-"
_REPLACED: Final = ".replaced"
# Of Linux's renameat2.
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def check_replaceable(out: Path, *, force: bool) -> None:
    """Check that a directory may be written at `out`: there is nothing, or a model and `force`.

    Raises ModelFileError, also for a directory with files that maxgate did not write.
    """
    try:
        if not os.path.lexists(out) or _is_empty(out):
            return
        foreign = find_foreign_files(out) if out.is_dir() else [f"the file {out.name}"]
    except OSError as error:
        raise ModelFileError(f"Cannot read {out}: {error.strerror}") from error
    if foreign:
        shown = ", ".join(foreign[:3]) + (f" and {len(foreign) - 3} more" if foreign[3:] else "")
        reason = "" if read_prepared(out) else f" (it has no {MARKER})"
        raise ModelFileError(
            f"{out} exists and was not written by `maxgate models prepare`{reason}: replacing it "
            f"would delete {shown}. Choose another directory with --out."
        )
    if not force:
        raise ModelFileError(f"{out} exists already. Give --force to replace it.")


def _is_empty(out: Path) -> bool:
    return out.is_dir() and not any(out.iterdir())


@contextmanager
def write_atomically(out: Path, *, force: bool) -> Iterator[Path]:
    """Yield a temporary directory beside `out` that takes its place on success.

    A directory that is there already is only replaced as `check_replaceable` permits. It stays
    until its successor is complete and on the disk.

    Raises ModelFileError if the directory cannot be written.
    """
    try:
        out = out.resolve()  # the target of a link, not the link
    except (OSError, RuntimeError) as error:  # links in a circle
        detail = getattr(error, "strerror", None) or error
        raise ModelFileError(f"Cannot write to {out.parent}: {detail}") from error
    partial = out.parent / f".{out.name}{_PARTIAL}{secrets.token_hex(4)}"
    lock = None
    try:
        try:
            check_replaceable(out, force=force)
            out.parent.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(out)
            partial.mkdir(mode=0o700)
        except OSError as error:
            raise ModelFileError(f"Cannot write to {out.parent}: {error.strerror}") from error
        lock = os.open(partial, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield partial
        partial.chmod(0o755)
        _flush(partial)
        check_replaceable(out, force=force)
        _move(partial, out)
    except OSError as error:
        raise ModelFileError(f"Writing {out} failed: {error.strerror or error}") from error
    finally:
        if lock is not None:
            os.close(lock)
        # Its name now has the directory that it replaced.
        shutil.rmtree(partial, ignore_errors=True)


def remove_prepared(directory: Path) -> None:
    """Remove a directory that `maxgate models prepare` wrote.

    Raises ModelFileError if the directory, or a file in it, is of another origin.
    """
    if directory.is_symlink():
        raise ModelFileError(f"{directory} is a link; remove it and the directory it leads to.")
    check_replaceable(directory, force=True)
    removed = directory.with_name(f".{directory.name}{_PARTIAL}removed")
    try:
        # At once: a directory of which a part is left could be taken for a model.
        directory.rename(removed)
        shutil.rmtree(removed)
    except OSError as error:
        raise ModelFileError(f"Removing {directory} failed: {error.strerror}") from error


def _remove_abandoned(out: Path) -> None:
    # A process that was killed cannot remove its directory, but it holds no lock either.
    for partial in out.parent.glob(f".{glob.escape(out.name)}{_PARTIAL}*"):
        with suppress(OSError):
            lock = os.open(partial, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if partial.suffix == _REPLACED and not os.path.lexists(out):
                    partial.rename(out)
                else:
                    shutil.rmtree(partial, ignore_errors=True)
            finally:
                os.close(lock)


def _flush(directory: Path) -> None:
    # Otherwise, a crash after the rename leaves empty files.
    for path in (directory, *directory.rglob("*")):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _move(partial: Path, out: Path) -> None:
    if not out.exists() or _is_empty(out):
        partial.rename(out)
    elif not _exchange(partial, out):
        replaced = partial.with_name(f"{partial.name}{_REPLACED}")
        out.rename(replaced)
        try:
            partial.rename(out)
        except OSError:
            replaced.rename(out)
            raise
        shutil.rmtree(replaced, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two directories atomically; False where the file system cannot."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:  # not Linux
        return False
    paths = os.fsencode(first), os.fsencode(second)
    return bool(rename(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0)
