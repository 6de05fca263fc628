"""The benchmark of writes makes lines that the ledger can read."""

import orjson

from benchmarks.usage_writes import build_lines
from maxgate.stores.usage_rows import ROW
from maxgate.usage.groups import check_groups


def test_lines() -> None:
    """Each line of a group has the fields of an entry."""
    [group], damaged = check_groups(build_lines([1, 2]))
    rows = orjson.loads(group.rows)
    assert ([row[0] for row in rows], {len(row) for row in rows}, group.entries, damaged) == (
        [1, 2],
        {len(ROW)},
        2,
        0,
    )
