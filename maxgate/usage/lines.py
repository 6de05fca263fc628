"""Lines of the spool: a checksum and the values of an entry, and how they are read back.

A line is the CRC-32 of the JSON in eight hexadecimal digits, a space, a JSON array and a newline.
The array has the fields of UsageEntry in their order, from `sequence`; fields that are added later
follow at the end, and have a default.
"""

import json
from collections.abc import Iterable
from typing import Any, Final, NamedTuple
from zlib import crc32

import orjson

_START: Final = 9
"""Length of the checksum and the space."""


def encode_lines(rows: Iterable[tuple[Any, ...]]) -> list[bytes]:
    """Encode the values of entries, each from `sequence` on."""
    dumps, lines = orjson.dumps, list[bytes]()
    for row in rows:
        try:
            data = dumps(row)
        except TypeError:  # half of a surrogate pair, in a name from an identity provider
            data = json.dumps(row, ensure_ascii=False).encode(errors="replace")
        lines.append(b"%08x %b\n" % (crc32(data), data))
    return lines


def encode_line(row: tuple[Any, ...]) -> bytes:
    """Encode the values of one entry."""
    return encode_lines([row])[0]


def check_line(line: bytes) -> bytes | None:
    """Return the JSON of a line without its newline; None if it is damaged."""
    data = line[_START:]
    try:
        return data if int(line[:8], 16) == crc32(data) else None
    except ValueError:
        return None


class Lines(NamedTuple):
    """The JSON of lines of a part of a spool, and the number of damaged ones."""

    found: list[bytes]
    damaged: int


def check_lines(data: bytes) -> Lines:
    """Check whole lines; a damaged one is skipped."""
    lines = data.split(b"\n")[:-1]
    try:  # as `check_line` does; a call for each line would take longer
        found = [value for line in lines if int(line[:8], 16) == crc32(value := line[_START:])]
    except ValueError:
        found = [checked for checked in map(check_line, lines) if checked is not None]
    return Lines(found, len(lines) - len(found))
