"""Snapshots in a file, one JSON object a line, and back again at their own pace.

The first line says what the file is. A line is written whole as soon as its snapshot is there, so
that a recording that was cut off is good up to its last line.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Final, Self, TextIO

import orjson
from pydantic import TypeAdapter, ValidationError

from maxgate.errors import ConfigurationError, MaxgateError
from maxgate.monitor.sampler import Sleep
from maxgate.monitor.snapshot import Snapshot

FORMAT: Final = "maxgate-monitor"
VERSION: Final = 1
_SNAPSHOT: Final = TypeAdapter(Snapshot)


class Recorder:
    """Writes snapshots to a file; a context manager."""

    def __init__(self, path: Path, url: str) -> None:
        try:
            self._file: TextIO = path.open("w", buffering=1, encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error
        header = {"format": FORMAT, "version": VERSION, "url": url}
        self._file.write(orjson.dumps(header).decode() + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, snapshot: Snapshot) -> None:
        """One line; raises MaxgateError where the disk takes no more."""
        try:
            self._file.write(_SNAPSHOT.dump_json(snapshot).decode() + "\n")
        except OSError as error:
            raise MaxgateError(f"the recording ends here: {error.strerror}") from error


class Recording:
    """A file of snapshots; `url` is the gateway's and `damaged` counts lines that are not whole.

    Raises ConfigurationError for a file that is no recording, or one of another version.
    """

    def __init__(self, path: Path) -> None:
        try:
            lines = path.read_bytes().splitlines()
        except OSError as error:
            raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
        header = _header(path, lines)
        self.url: str = header.get("url", "")
        self.damaged = 0
        self.snapshots = tuple(self._read(lines[1:]))
        if not self.snapshots:
            raise ConfigurationError(f"{path}: the recording is empty")

    def _read(self, lines: list[bytes]) -> Iterator[Snapshot]:
        for line in lines:
            try:
                yield _SNAPSHOT.validate_json(line)
            except ValidationError:
                self.damaged += 1


def _header(path: Path, lines: list[bytes]) -> dict[str, str]:
    if not lines:
        raise ConfigurationError(f"{path}: the file is empty")
    try:
        header = orjson.loads(lines[0])
    except orjson.JSONDecodeError:
        header = None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ConfigurationError(f"{path}: not a recording of monitor.py")
    if header.get("version") != VERSION:
        version = header.get("version")
        raise ConfigurationError(
            f"{path}: version {version!r} of a recording; this program reads {VERSION}"
        )
    return header


async def replay(
    recording: Recording, speed: float, sleep: Sleep = asyncio.sleep
) -> AsyncGenerator[Snapshot]:
    """The snapshots with their own pauses, `speed` times as fast."""
    before = recording.snapshots[0].elapsed
    for snapshot in recording.snapshots:
        await sleep(max(snapshot.elapsed - before, 0) / speed)
        before = snapshot.elapsed
        yield snapshot
