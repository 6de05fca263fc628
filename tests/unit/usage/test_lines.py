"""Lines of the spool are read back as they were written, or found to be damaged."""

from dataclasses import replace

import pytest

from maxgate.stores.usage import UsageEntry
from maxgate.usage.lines import Lines, check_line, check_lines, encode_line
from tests.fakes.usage_lines import ENTRY, VALUES, read_entry

LINE = encode_line(VALUES)


def read_line(line: bytes) -> UsageEntry:
    """Return the entry of a line that is not damaged."""
    data = check_line(line[:-1])
    assert data is not None
    return read_entry("s1", data)


def test_line() -> None:
    """A line has the whole entry, and no newline before its end."""
    assert read_line(LINE) == ENTRY
    assert LINE.index(b"\n") == len(LINE) - 1


@pytest.mark.parametrize("at", range(0, len(LINE) - 1, 7))
def test_damage(at: int) -> None:
    """A changed or missing byte is detected."""
    changed = LINE[:at] + bytes([LINE[at] ^ 0x10]) + LINE[at + 1 : -1]
    assert check_line(changed) is None
    assert check_line(LINE[:at]) is None


def test_half_of_a_surrogate_pair() -> None:
    """Text that is not valid Unicode does not keep a request from its line."""
    line = encode_line((*VALUES[:6], "a\ud800", *VALUES[7:]))
    assert read_line(line) == replace(ENTRY, user_id="a?")


def test_lines() -> None:
    """Whole lines are read, damaged ones are skipped, and the rest is left."""
    data = LINE + b"garbage\n\n" + LINE + LINE[:20]
    assert check_lines(data) == Lines([LINE[9:-1], LINE[9:-1]], 2)
