"""Groups of entries in the spool: a checksum, a header and the values of the entries as JSON.

A group is a line of text: the CRC-32 of the rest in eight hexadecimal digits, the number of
entries, the first and the last day on which one of them ended, in days since 1970, and a JSON array
of rows, separated by spaces. A row has the fields of UsageEntry in their order, from `sequence`;
fields that are added later follow at the end, and have a default. Earlier versions wrote a checksum
and a row without an array around it.
"""

import json
from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from zlib import crc32

import orjson

from maxgate.stores.usage import WIDTH_SECONDS, EntryGroup

MAX_GROUP_BYTES: Final = 256 * 1024
"""Maximum size of a group, unless a single entry is larger."""
_START: Final = 9
"""Length of the checksum and the space."""
_FINISHED_AT: Final = 1
"""Index of the time of an entry in its row."""
_DAY_SECONDS: Final = WIDTH_SECONDS["1d"]
_MIN_ROW_BYTES: Final = 64
_MAX_DIGITS: Final = 9


def encode_groups(rows: Sequence[Sequence[Any]]) -> bytes:
    """Encode rows as one group, or as several if it would be large.

    Raises TypeError or ValueError for values that JSON cannot represent.
    """
    try:
        values = orjson.dumps(rows)
    except TypeError:
        values = b"[%b]" % b",".join(map(_encode_row, rows))
    if len(values) > MAX_GROUP_BYTES and len(rows) > 1:
        half = len(rows) // 2
        return encode_groups(rows[:half]) + encode_groups(rows[half:])
    times = [row[_FINISHED_AT] for row in rows]
    days = min(times) // _DAY_SECONDS, max(times) // _DAY_SECONDS
    return _format(len(rows), *days, values)


def _encode_row(row: Sequence[Any]) -> bytes:
    try:
        return orjson.dumps(row)
    except TypeError:  # half of a surrogate pair, in a name from an identity provider
        return json.dumps(row, ensure_ascii=False, allow_nan=False).encode(errors="replace")


def split_group(group: EntryGroup, at: int) -> tuple[bytes, bytes]:
    """Split a group after `at` rows; raises ValueError for invalid JSON."""
    rows = orjson.loads(group.rows)
    days = group.first_day, group.last_day
    first, rest = [_format(len(part), *days, orjson.dumps(part)) for part in (rows[:at], rows[at:])]
    return first, rest


def _format(entries: int, first_day: float, last_day: float, rows: bytes) -> bytes:
    data = b"%d %d %d %b" % (entries, first_day, last_day, rows)
    return b"%08x %b\n" % (crc32(data), data)


class Checked(NamedTuple):
    """The groups in a part of a spool, and the number of entries in damaged ones."""

    groups: list[EntryGroup]
    damaged: int


def check_groups(data: bytes) -> Checked:
    """Check whole groups; a damaged one is skipped."""
    groups, damaged, start = list[EntryGroup](), 0, 0
    while (end := data.find(b"\n", start)) >= 0:  # `split` reads each byte more slowly
        line, start = data[start:end], end + 1
        group = _check(line)
        if group is None:
            damaged += _count_damaged(line)
        else:
            groups.append(group)
    return Checked(groups, damaged)


def _check(line: bytes) -> EntryGroup | None:
    """Return the group of a line without its newline; None if it is damaged."""
    data = line[_START:]
    try:
        if int(line[:8], 16) != crc32(data):
            return None
        if data.startswith(b"["):  # of an earlier version
            day = _find_day(data)
            return EntryGroup(1, day, day, b"[%b]" % data)
        entries, first, last, rows = data.split(b" ", 3)
        return EntryGroup(int(entries), int(first), int(last), rows)
    except ValueError:
        return None


def _find_day(row: bytes) -> int:
    """Return the day on which the entry of a row ended; -1 if its time is not a number."""
    try:
        return int(float(row.split(b",", 2)[_FINISHED_AT])) // _DAY_SECONDS
    except (ValueError, IndexError, OverflowError):
        return -1


def _count_damaged(line: bytes) -> int:
    """Return how many entries a damaged line had, as far as its header tells."""
    entries = line[_START:].partition(b" ")[0][:_MAX_DIGITS]
    return max(min(int(entries), len(line) // _MIN_ROW_BYTES), 1) if entries.isdigit() else 1
