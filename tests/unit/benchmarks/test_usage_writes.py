"""The benchmark of writes makes lines that the ledger can read."""

import orjson

from benchmarks.usage_writes import build_lines
from maxgate.stores.usage_rows import LINE
from maxgate.usage.lines import check_lines


def test_lines() -> None:
    """Each line of a group is whole, and has the fields of an entry."""
    found, damaged = check_lines(b"".join(build_lines([1, 2])))
    rows = [orjson.loads(line) for line in found]
    assert ([row[0] for row in rows], {len(row) for row in rows}, damaged) == (
        [1, 2],
        {len(LINE)},
        0,
    )
