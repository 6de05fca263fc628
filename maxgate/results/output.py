"""Write files that appear complete or never, and never in place of a file that is read."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from maxgate.errors import ConfigurationError


@contextmanager
def open_output(path: Path) -> Iterator[BinaryIO]:
    """Open a file that replaces `path` if the block succeeds; create missing folders.

    A link keeps its place, and what it points to is replaced. A device or pipe, such as /dev/null,
    is written to. Raises ConfigurationError with the reason.
    """
    check_no_folder(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_device(path):
            with path.open("wb") as file:
                yield file
            return
        draft = draft_path(path)
        try:
            with draft.open("wb") as file:
                yield file
            draft.replace(os.path.realpath(path))
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error


def draft_path(path: Path) -> Path:
    """Where a file is written before it is renamed to `path`."""
    real = Path(os.path.realpath(path))
    return real.with_name(f".{real.name}.part")


def is_device(path: Path) -> bool:
    """Whether this is a device or a pipe, which a file must not replace."""
    return path.exists() and not path.is_file() and not path.is_dir()


def check_no_folder(path: Path) -> None:
    """Raises ConfigurationError if an output is a folder, such as `.` or an empty path."""
    if path.is_dir():
        raise ConfigurationError(f"cannot write {path}: it is a folder; give the name of a file")


def check_writable(path: Path) -> None:
    """Check before a run that its results can be written; create missing folders.

    Raises ConfigurationError with the reason.
    """
    check_no_folder(path)
    if is_device(path):
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = draft_path(path)
        draft.touch()
        draft.unlink()
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error


def check_distinct(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Check that no output is an input or another output. Raises ConfigurationError."""
    for number, path in enumerate(outputs):
        if is_device(path):
            continue
        if any(_is_same(path, other) for other in inputs):
            raise ConfigurationError(
                f"cannot write {path}: this command reads it; choose another file"
            )
        if any(_is_same(path, other) for other in outputs[:number]):
            raise ConfigurationError(
                f"cannot write {path}: another output has the same name; choose another file"
            )


def _is_same(one: Path, other: Path) -> bool:
    if one.exists() and other.exists():
        return one.samefile(other)
    return os.path.realpath(one) == os.path.realpath(other)
