"""Lines of the spool are read back as they were written, or found to be damaged."""

from dataclasses import replace

import pytest

from maxgate.stores.usage import UsageEntry
from maxgate.usage.lines import MAX_COUNT, Lines, decode_line, decode_lines, encode_line
from tests.fakes.usage_lines import ENTRY, VALUES, read_row

LINE = encode_line(VALUES)
ROW = [*VALUES[:-1], list(VALUES[-1])]


def decode_entry(line: bytes) -> UsageEntry:
    """Return the entry of a line that is not damaged."""
    row = decode_line(line[:-1])
    assert row is not None
    return read_row("s1", row)


def test_line() -> None:
    """A line has the whole entry, and no newline before its end."""
    assert decode_entry(LINE) == ENTRY
    assert LINE.index(b"\n") == len(LINE) - 1


def test_line_without_later_fields() -> None:
    """Lines of an earlier version lack the last fields, and those of a later one have more."""
    older = decode_entry(encode_line(VALUES[:-3]))
    assert older == replace(ENTRY, service_tier="default", tags={}, decisions=())
    assert decode_entry(encode_line((*VALUES, "new"))) == ENTRY


@pytest.mark.parametrize("at", range(0, len(LINE) - 1, 7))
def test_damage(at: int) -> None:
    """A changed or missing byte is detected."""
    changed = LINE[:at] + bytes([LINE[at] ^ 0x10]) + LINE[at + 1 : -1]
    assert decode_line(changed) is None
    assert decode_line(LINE[:at]) is None


def test_large_numbers() -> None:
    """A number that the sums of the database could not hold is cut."""
    line = encode_line((*VALUES[:17], 2**63, *VALUES[18:]))
    assert decode_entry(line) == replace(ENTRY, output_tokens=MAX_COUNT)


def test_half_of_a_surrogate_pair() -> None:
    """Text that is not valid Unicode does not keep a request from its line."""
    line = encode_line((*VALUES[:6], "a\ud800", *VALUES[7:]))
    assert decode_entry(line) == replace(ENTRY, user_id="a?")


def test_lines() -> None:
    """Whole lines are read, damaged ones are skipped, and the rest is left."""
    data = LINE + b"garbage\n\n" + LINE + LINE[:20]
    assert decode_lines(data) == Lines([ROW, ROW], len(data) - 20, 2)
