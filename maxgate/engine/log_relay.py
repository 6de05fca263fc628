"""Copies MAX's log into the gateway's, line by line."""

import asyncio
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, NoReturn

import orjson

_INTERVAL: Final = 0.3
_MAX_LINE: Final = 16_384
_READ_BYTES: Final = 1 << 20
_TEXT: Final = re.compile(
    r"(?:\d\d:\d\d:\d\d\.\d{3} )?(DEBUG|INFO|WARNING|ERROR|CRITICAL): ?(.*)", re.DOTALL
)
_COLOR: Final = re.compile(r"\x1b\[[\d;]*m")
_LEVELS: Final = {"WARN": "warning", "CRITICAL": "error", "FATAL": "error"}
_KNOWN: Final = frozenset({"debug", "info", "warning", "error"})


class EngineLine(NamedTuple):
    """A line of an engine's log; `fields` are those besides level, message and time."""

    level: str
    message: str
    fields: dict[str, Any]


def parse_line(line: str, level: str = "info") -> EngineLine:
    """Parse a line of MAX 26.7, in JSON or as text.

    Lines without a level, such as those of a traceback, have that of the line before, `level`.
    """
    line = _COLOR.sub("", line)[:_MAX_LINE]
    if line.startswith("{"):
        try:
            fields = orjson.loads(line)
        except orjson.JSONDecodeError:
            return EngineLine(level, line, {})
        name = str(fields.pop("levelname", level))
        message = str(fields.pop("message", ""))
        if "request_id" in fields:
            fields["engine_request_id"] = fields.pop("request_id")
        for reserved in ("component", "event", "level", "timestamp"):
            fields.pop(reserved, None)
        return EngineLine(_convert_level(name), message, fields)
    if found := _TEXT.fullmatch(line):
        return EngineLine(_convert_level(found[1]), found[2], {})
    return EngineLine(level, line, {})


def _convert_level(name: str) -> str:
    level = _LEVELS.get(name.upper(), name.lower())
    return level if level in _KNOWN else "info"


class LogRelay:
    """Passes the lines of a log file to `write` as they are appended.

    The file may be replaced at any time, as it is when the engine starts again. Empty lines are
    left out.
    """

    def __init__(self, path: Path, write: Callable[[EngineLine], None]) -> None:
        self._path = path
        self._write = write
        self._file: BinaryIO | None = None
        self._rest = b""
        self._level = "info"

    async def run(self) -> NoReturn:
        """Copy until this is cancelled."""
        try:
            while True:
                self.copy()
                await asyncio.sleep(_INTERVAL)
        finally:
            self.copy()
            self.close()

    def copy(self) -> None:
        """Copy the lines that have been appended."""
        self._read_rest()
        if self._is_replaced():
            self.close()
            try:
                self._file = self._path.open("rb")
            except OSError:
                return
            self._read_rest()

    def close(self) -> None:
        """Copy an incomplete line, and close the file."""
        if self._rest:
            self._take(self._rest)
            self._rest = b""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _is_replaced(self) -> bool:
        if self._file is None:
            return True
        try:
            return self._path.stat().st_ino != os.fstat(self._file.fileno()).st_ino
        except OSError:
            return False

    def _read_rest(self) -> None:
        while self._file is not None and (content := self._file.read(_READ_BYTES)):
            *lines, self._rest = (self._rest + content).split(b"\n")
            for line in lines:
                self._take(line)

    def _take(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        if text:
            parsed = parse_line(text, self._level)
            self._level = parsed.level
            if parsed.message:
                self._write(parsed)
