"""Groups of the spool are read back as they were written, or found to be damaged."""

from dataclasses import replace
from zlib import crc32

import orjson
import pytest

from maxgate.stores.usage import EntryGroup, UsageEntry
from maxgate.usage.groups import (
    MAX_GROUP_BYTES,
    Checked,
    check_groups,
    encode_groups,
    split_group,
)
from tests.fakes.usage_lines import ENTRY, VALUES, read_entries

DAY = 86_400
ROWS = [(number, *VALUES[1:]) for number in (1, 2, 3)]
DATA = encode_groups(ROWS)
GROUP = EntryGroup(3, 20_833, 20_833, orjson.dumps(ROWS))


def read_all(data: bytes) -> list[UsageEntry]:
    """Return the entries of groups that are not damaged."""
    groups, damaged = check_groups(data)
    assert damaged == 0
    return [entry for group in groups for entry in read_entries("s1", group)]


def test_group() -> None:
    """A group has whole entries, and no newline before its end."""
    assert check_groups(DATA) == Checked([GROUP], 0)
    assert read_all(DATA) == [replace(ENTRY, sequence=number) for number in (1, 2, 3)]
    assert DATA.index(b"\n") == len(DATA) - 1


@pytest.mark.parametrize("at", range(0, len(DATA) - 1, 7))
def test_damage(at: int) -> None:
    """A changed or missing byte is detected."""
    changed = DATA[:at] + bytes([DATA[at] ^ 0x10]) + DATA[at + 1 :]
    for data in (changed, DATA[:at] + b"\n"):
        groups, damaged = check_groups(data)
        assert (groups, 1 <= damaged <= len(data)) == ([], True)


def test_groups() -> None:
    """Whole groups are read, damaged ones are skipped, and the rest is left."""
    damaged = b"0" * 8 + DATA[8:]
    many_digits = b"0" * 8 + b" " + b"9" * 5000 + b"\n"
    data = DATA + b"garbage\n\n" + damaged + many_digits + DATA + DATA[:20]
    assert check_groups(data) == Checked([GROUP, GROUP], 1 + 1 + 3 + 5009 // 64)


@pytest.mark.parametrize("header", [b"", b" ", b"1 2 [[1]]", b"x 1 1 [[1]]", b"1 1 x [[1]]"])
def test_odd_group(header: bytes) -> None:
    """A group whose checksum is right, and whose header is not, counts as damaged."""
    assert check_groups(b"%08x %b\n" % (crc32(header), header)).groups == []


def test_half_of_a_surrogate_pair() -> None:
    """Text that is not valid Unicode does not keep requests from their lines."""
    data = encode_groups([VALUES, (*VALUES[:6], "a\ud800", *VALUES[7:])])
    assert read_all(data) == [ENTRY, replace(ENTRY, user_id="a?")]


def test_numbers_that_json_lacks() -> None:
    """A row that JSON cannot have raises ValueError; other rows with NaN have null."""
    surrogate, nan = (
        (*VALUES[:6], "a\ud800", *VALUES[7:]),
        (*VALUES[:19], float("nan"), *VALUES[20:]),
    )
    [group], _ = check_groups(encode_groups([surrogate, nan]))
    assert [row[19] for row in orjson.loads(group.rows)] == [None, None]
    with pytest.raises(ValueError, match="JSON"):
        encode_groups([VALUES, (*surrogate[:19], float("nan"), *surrogate[20:])])


def test_days() -> None:
    """A group tells the days on which its entries ended."""
    times = [20_833 * DAY + 0.5, 20_831 * DAY - 0.5, 20_832.5 * DAY]
    [group], _ = check_groups(encode_groups([(1, time, *VALUES[2:]) for time in times]))
    assert (group.first_day, group.last_day) == (20_830, 20_833)


def test_large_group() -> None:
    """Entries that take much space are in several groups, in their order."""
    rows = [(number, *VALUES[1:5], "x" * 50_000, *VALUES[6:]) for number in range(20)]
    data = encode_groups(rows)
    assert [entry.sequence for entry in read_all(data)] == list(range(20))
    assert max(map(len, data.split(b"\n"))) <= MAX_GROUP_BYTES + 50
    huge = encode_groups([(1, *VALUES[1:5], "x" * 2 * MAX_GROUP_BYTES, *VALUES[6:])])
    assert len(read_all(huge)) == 1


def test_split() -> None:
    """Both parts of a group are groups of the same days."""
    first, rest = split_group(GROUP, 1)
    assert [entry.sequence for entry in read_all(first)] == [1]
    assert [entry.sequence for entry in read_all(rest)] == [2, 3]
    with pytest.raises(ValueError, match="unexpected"):
        split_group(GROUP._replace(rows=b"[[1]"), 1)


def test_line_of_an_earlier_version() -> None:
    """A line that has a checksum and the row of one entry is a group, too."""
    data = orjson.dumps(VALUES)
    line = b"%08x %b\n" % (crc32(data), data)
    expected = EntryGroup(1, 20_833, 20_833, b"[%b]" % data)
    assert check_groups(line + DATA + line) == Checked([expected, GROUP, expected], 0)


@pytest.mark.parametrize(
    ("row", "day"),
    [(b"[1]", -1), (b"[", -1), (b"[1,null,2]", -1), (b"[1,1e999]", -1), (b"[1,1.8e9,2]", 20_833)],
)
def test_odd_line_of_an_earlier_version(row: bytes, day: int) -> None:
    """The database decides about a line whose checksum is right."""
    line = b"%08x %b\n" % (crc32(row), row)
    assert check_groups(line) == Checked([EntryGroup(1, day, day, b"[%b]" % row)], 0)
