"""Files of snapshots: a header line, then one JSON object per line.

Each line is flushed as soon as its snapshot is taken, so an interrupted recording is complete up to
its last full line.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal, Self, TextIO

import orjson
from pydantic import TypeAdapter, ValidationError

from maxgate.errors import ConfigurationError, MaxgateError
from maxgate.monitor.snapshot import Snapshot

FORMAT: Final = "maxgate-monitor"
VERSION: Final = 1
_SNAPSHOT: Final = TypeAdapter(Snapshot)


class Recorder:
    """Writes snapshots to a new file, or appends them to a recording; a context manager.

    Raises ConfigurationError if the file cannot be created, or exists and `append` is not set.
    """

    def __init__(self, path: Path, url: str, *, append: bool = False) -> None:
        earlier = Recording(path) if append and path.exists() else None
        self._last = None if earlier is None else earlier.snapshots[-1]
        self._shift: float | None = None
        try:
            mode: Literal["x", "a"] = "x" if earlier is None else "a"
            self._file: TextIO = path.open(mode, buffering=1, encoding="utf-8")
        except FileExistsError as error:
            raise ConfigurationError(
                f"--record {path}: the file exists; choose another name, or add --append"
            ) from error
        except OSError as error:
            raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error
        if earlier is None:
            header = {"format": FORMAT, "version": VERSION, "url": url}
            self._file.write(orjson.dumps(header).decode() + "\n")
        elif not path.read_bytes().endswith(b"\n"):
            self._file.write("\n")  # the last line was cut off

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, snapshot: Snapshot) -> None:
        """Append a line; raises MaxgateError if that fails, for example on a full disk."""
        if self._shift is None:
            self._shift = _compute_shift(self._last, snapshot)
        snapshot = replace(snapshot, elapsed=snapshot.elapsed + self._shift)
        try:
            self._file.write(_SNAPSHOT.dump_json(snapshot).decode() + "\n")
        except OSError as error:
            raise MaxgateError(f"recording stopped: {error.strerror}") from error


def _compute_shift(last: Snapshot | None, first: Snapshot) -> float:
    """Seconds to add to the clock of a recording that continues after the snapshot `last`."""
    if last is None:
        return 0.0
    return last.elapsed + max(0.0, first.at - last.at) - first.elapsed


class Recording:
    """A recorded file: `url` of the gateway, `snapshots`, and the number of `damaged` lines.

    Raises ConfigurationError if the file is not a recording, or has another version.
    """

    def __init__(self, path: Path) -> None:
        try:
            lines = path.read_bytes().splitlines()
        except OSError as error:
            raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
        self.url: str = _parse_header(path, lines).get("url", "")
        self.damaged = 0
        self.snapshots = tuple(self._parse_snapshots(lines[1:]))
        if not self.snapshots:
            raise ConfigurationError(f"{path}: the recording has no snapshots")

    def _parse_snapshots(self, lines: list[bytes]) -> Iterator[Snapshot]:
        for line in lines:
            try:
                yield _SNAPSHOT.validate_json(line)
            except ValidationError:
                self.damaged += 1


def _parse_header(path: Path, lines: list[bytes]) -> dict[str, str]:
    if not lines:
        raise ConfigurationError(f"{path}: the file is empty")
    try:
        header = orjson.loads(lines[0])
    except orjson.JSONDecodeError:
        header = None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ConfigurationError(f"{path}: not a recording of monitor.py")
    version = header.get("version")
    if version != VERSION:
        raise ConfigurationError(
            f"{path}: recording version {version!r} is not supported, only version {VERSION}"
        )
    return header
