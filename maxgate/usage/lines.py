"""Lines of the spool: a checksum and the values of an entry, and how they are read back.

A line is the CRC-32 of the JSON in eight hexadecimal digits, a space, a JSON array and a newline.
The array has the fields of UsageEntry in their order, from `sequence`; fields that are added later
follow at the end, and have a default.
"""

import json
from dataclasses import MISSING, fields
from typing import Any, Final, NamedTuple
from zlib import crc32

import orjson

from maxgate.stores.usage import UsageEntry

MAX_COUNT: Final = 2**40
"""Larger numbers from a faulty engine are cut: their sums would not fit into the database."""

_FIELDS: Final = fields(UsageEntry)[1:]
_NAMES: Final = [field.name for field in _FIELDS]
_REQUIRED: Final = sum(
    field.default is MISSING and field.default_factory is MISSING for field in _FIELDS
)
_DEFAULTS: Final[tuple[Any, ...]] = ("default", {}, ())
"""Values of the fields that follow the required ones."""
_TOKENS: Final = slice(_NAMES.index("input_tokens"), _NAMES.index("output_tokens") + 1)


def encode_line(values: tuple[Any, ...]) -> bytes:
    """Encode the values of an entry from `sequence` on."""
    try:
        data = orjson.dumps(values)
    except TypeError:  # half of a surrogate pair, in a name from an identity provider
        data = json.dumps(values, ensure_ascii=False).encode(errors="replace")
    return b"%08x %b\n" % (crc32(data), data)


def decode_line(line: bytes) -> list[Any] | None:
    """Decode a line without its newline to a row of UsageBatch; None if it is damaged."""
    data = line[9:]
    try:
        if int(line[:8], 16) != crc32(data):
            return None
        row: list[Any] = orjson.loads(data)
        if len(row) != len(_NAMES):  # of an earlier or later version
            if len(row) < _REQUIRED:
                return None
            row = [*row, *_DEFAULTS[len(row) - _REQUIRED :]][: len(_NAMES)]
        if max(row[_TOKENS]) > MAX_COUNT:
            row[_TOKENS] = [min(count, MAX_COUNT) for count in row[_TOKENS]]
    except (ValueError, TypeError):
        return None
    return row


class Lines(NamedTuple):
    """Rows of a part of a spool, its length in bytes, and its damaged lines."""

    rows: list[list[Any]]
    length: int
    damaged: int


def decode_lines(data: bytes) -> Lines:
    """Decode all whole lines; a damaged one is skipped."""
    length = data.rfind(b"\n") + 1
    found = [decode_line(line) for line in data[:length].split(b"\n")[:-1]]
    rows = [row for row in found if row is not None]
    return Lines(rows, length, len(found) - len(rows))
