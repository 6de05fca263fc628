"""Lines of the spool: a checksum and the values of an entry, and how they are read back.

A line is the CRC-32 of the JSON in eight hexadecimal digits, a space, a JSON array and a newline.
The array has the fields of UsageEntry in their order, from `sequence`; fields that are added later
follow at the end, and have a default.
"""

import json
from dataclasses import fields
from typing import Any, Final, NamedTuple
from zlib import crc32

import orjson

from maxgate.stores.usage import UsageEntry

MAX_COUNT: Final = 2**40
"""Larger numbers from a faulty engine are cut: their sums would not fit into the database."""

_NAMES: Final = [field.name for field in fields(UsageEntry)[1:]]
_TOKENS: Final = slice(_NAMES.index("input_tokens"), _NAMES.index("output_tokens") + 1)
_DECISIONS: Final = _NAMES.index("decisions")


def encode_line(values: tuple[Any, ...]) -> bytes:
    """Encode the values of an entry from `sequence` on."""
    try:
        data = orjson.dumps(values)
    except TypeError:  # half of a surrogate pair, in a name from an identity provider
        data = json.dumps(values, ensure_ascii=False).encode(errors="replace")
    return b"%08x %b\n" % (crc32(data), data)


def decode_line(spool: str, line: bytes) -> UsageEntry | None:
    """Decode a line without its newline; None if it is damaged."""
    data = line[9:]
    try:
        if int(line[:8], 16) != crc32(data):
            return None
        values = orjson.loads(data)[: len(_NAMES)]
        if max(values[_TOKENS]) > MAX_COUNT:
            values[_TOKENS] = [min(count, MAX_COUNT) for count in values[_TOKENS]]
        if len(values) > _DECISIONS:
            values[_DECISIONS] = tuple(values[_DECISIONS])
        return UsageEntry(spool, *values)
    except (ValueError, TypeError, IndexError):
        return None


class Lines(NamedTuple):
    """Entries of a part of a spool, its length in bytes, and its damaged lines."""

    entries: list[UsageEntry]
    length: int
    damaged: int


def decode_lines(spool: str, data: bytes) -> Lines:
    """Decode all whole lines; a damaged one is skipped."""
    length = data.rfind(b"\n") + 1
    found = [decode_line(spool, line) for line in data[:length].split(b"\n")[:-1]]
    entries = [entry for entry in found if entry is not None]
    return Lines(entries, length, len(found) - len(entries))
