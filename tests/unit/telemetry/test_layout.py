"""Positions follow from declarations."""

from maxgate.telemetry.histogram import BUCKETS
from maxgate.telemetry.layout import KEY_WORDS, MAX_ROWS, WORD_BYTES, Layout
from maxgate.telemetry.registry import Label, Metric

POOL = Label("pool", "A pool.")
RESULT = Label("result", "A result.", {"hit": "found", "miss": "not found"})
LEVEL = Label("level", "A level.", {"memory": "in memory", "disk": "on disk"})

WAITING = Metric("waiting", "gauge", "requests", "Waiting requests.")
LOOKUPS = Metric("lookups_total", "counter", "calls", "Lookups.", (POOL, RESULT, LEVEL))
WAITS = Metric("waits_seconds", "histogram", "seconds", "Waiting times.", (POOL, LEVEL))
EVICTIONS = Metric("evictions_total", "counter", "calls", "Evictions.", (POOL,))


def test_table_without_labels() -> None:
    """Metrics without labels share one row, which has no key."""
    [table] = Layout([WAITING]).tables
    assert (table.labels, table.start, table.max_rows) == ((), 3, 1)
    assert (table.offsets, table.row_words) == ({WAITING: {(): 0}}, 1)


def test_offsets() -> None:
    """Metrics with the same open labels share rows, with a word for each declared value."""
    [table] = Layout([LOOKUPS, EVICTIONS]).tables
    assert table.offsets == {
        LOOKUPS: {
            ("hit", "memory"): KEY_WORDS,
            ("hit", "disk"): KEY_WORDS + 1,
            ("miss", "memory"): KEY_WORDS + 2,
            ("miss", "disk"): KEY_WORDS + 3,
        },
        EVICTIONS: {(): KEY_WORDS + 4},
    }


def test_histogram_takes_its_buckets_and_a_sum() -> None:
    """A histogram takes one word for each bucket and one for the sum, for each label value."""
    [table] = Layout([WAITS, EVICTIONS]).tables
    assert table.offsets == {
        WAITS: {("memory",): KEY_WORDS, ("disk",): KEY_WORDS + BUCKETS + 1},
        EVICTIONS: {(): KEY_WORDS + 2 * (BUCKETS + 1)},
    }


def test_tables_do_not_overlap() -> None:
    """A table starts where the one before ends, and the size covers all of them."""
    layout = Layout([WAITING, LOOKUPS, EVICTIONS])
    first, second = layout.tables
    assert second.start == first.end == 5
    assert second.end == 5 + 1 + MAX_ROWS * (KEY_WORDS + 5)
    assert layout.size == second.end * WORD_BYTES


def test_fingerprint() -> None:
    """Equal declarations give equal fingerprints; any other set of metrics a different one."""
    same = Metric("waiting", "gauge", "requests", "Requests that wait.")
    renamed = Metric("queued", "gauge", "requests", "Waiting requests.")
    assert Layout([same]).fingerprint == Layout([WAITING]).fingerprint
    others = [[renamed], [WAITING, EVICTIONS], [EVICTIONS, WAITING], [LOOKUPS], [WAITS]]
    fingerprints = {Layout(metrics).fingerprint for metrics in [[WAITING], *others]}
    assert len(fingerprints) == len(others) + 1
