"""Usage of an interval, with cost and price computed when it is read."""

import pytest

from maxgate.stores.usage import BucketQuery, EntryQuery, Width
from maxgate.usage.rate_cards import MILLIONTH
from maxgate.usage.reports import MAX_PAGE, ReportQuery, UsageReports, list_edges
from tests.fakes.clock import FakeClock
from tests.fakes.rate_cards import DAY, HOUR, build_cards
from tests.fakes.usage_store import FakeUsageStore


def build_reports(store: FakeUsageStore, *rates: tuple[int, int]) -> UsageReports:
    """Build reports with a rate of input tokens from each time on."""
    cards = [{"model": "small", "valid_from": at, "price": {"input": rate}} for at, rate in rates]
    return UsageReports(store, build_cards(*cards), FakeClock())


@pytest.mark.parametrize(
    ("width", "start", "end", "edges"),
    [
        ("1d", 0, 2 * DAY, [0, DAY, 2 * DAY]),
        ("1d", HOUR + 5, DAY + 1, [HOUR, DAY, DAY + HOUR]),
        ("1h", 90, HOUR - 1, [60, HOUR]),
        ("1m", 59, 61, [0, 60, 120]),
        ("1d", 7, 8, [0, HOUR]),
        ("1d", DAY, DAY, []),
        ("1d", DAY, 0, []),
    ],
)
def test_edges(width: Width, start: int, end: int, edges: list[int]) -> None:
    """Buckets begin at multiples of their width, and edges of the interval are rounded outwards."""
    assert list(list_edges(width, start, end)) == edges


async def test_change_within_a_day() -> None:
    """Usage on both sides of a change of the rate is priced exactly, whatever the width."""
    store = FakeUsageStore()
    change = 10 * DAY + 7 * HOUR
    for at in (9 * DAY, change - 0.5, change, 10 * DAY + 23 * HOUR, 11 * DAY):
        store.add(at, input_tokens=100)
    reports = build_reports(store, (0, 1), (change, 3))
    widths: tuple[Width, ...] = ("1m", "1h", "1d")
    for width in widths:
        buckets = await reports.list_buckets(ReportQuery(width, 9 * DAY, 12 * DAY))
        prices = [sum(r.charge.price.total for r in b.rows) // MILLIONTH for b in buckets]
        assert sum(prices) == 100 * (1 + 1 + 3 + 3 + 3)
    assert prices == [100, 700, 300]
    assert [(q.width, q.start, q.end) for q in store.queries[-3:]] == [
        ("1d", 9 * DAY, 10 * DAY),
        ("1h", 10 * DAY, 11 * DAY),
        ("1d", 11 * DAY, 12 * DAY),
    ]


async def test_corrected_price() -> None:
    """A corrected rate changes the cost of the past, and nothing that is stored."""
    store = FakeUsageStore()
    store.add(DAY, input_tokens=10)
    query, before = ReportQuery("1d", 0, 2 * DAY), list(store.entries)
    [wrong] = await build_reports(store, (0, 9)).sum(query)
    [right] = await build_reports(store, (0, 2)).sum(query)
    assert (wrong.charge.price.total, right.charge.price.total) == (90 * MILLIONTH, 20 * MILLIONTH)
    assert (wrong.input_tokens, right.input_tokens, store.entries) == (10, 10, before)


async def test_groups() -> None:
    """Groups are sums over all other dimensions, sorted, and empty buckets have none."""
    store = FakeUsageStore()
    store.add(0, input_tokens=4, cached_tokens=1, output_tokens=2, gpu_seconds=0.5)
    store.add(HOUR, input_tokens=6, model="other", project_id="blue", user_id="bob")
    store.add(HOUR, input_tokens=8, model="other", project_id="blue")
    reports = build_reports(store, (0, 1))
    query = ReportQuery("1d", 0, 2 * DAY, group_by=frozenset({"project_id"}))
    first, second = await reports.list_buckets(query)
    assert [
        (r.group[0], r.requests, r.input_tokens, r.charge.price.total, r.unpriced_models)
        for r in first.rows
    ] == [("blue", 2, 14, 0, {"other"}), ("red", 1, 4, 4 * MILLIONTH, set())]
    assert (first.rows[1].cached_tokens, first.rows[1].gpu_seconds) == (1, 0.5)
    assert second == (DAY, 2 * DAY, [])


async def test_filters() -> None:
    """Filters and kinds reach the store, with the model as another dimension."""
    store = FakeUsageStore()
    filters = {"project_id": frozenset({"red"})}
    query = ReportQuery(
        "1h", 0, HOUR, frozenset({"embeddings"}), filters, frozenset({"api_key_id"})
    )
    assert await build_reports(store).sum(query) == []
    assert store.queries == [
        BucketQuery(
            "1h",
            0,
            HOUR,
            frozenset({"embeddings"}),
            filters,
            frozenset({"api_key_id", "model"}),
        )
    ]


async def test_entries() -> None:
    """Lines of the ledger are read page by page, newest first, up to the limit."""
    store = FakeUsageStore()
    for number in range(MAX_PAGE + 5):
        store.add(float(number), input_tokens=number)
    reports = build_reports(store, (0, 2))
    for limit in (3, MAX_PAGE, MAX_PAGE + 1, MAX_PAGE + 9):
        query = EntryQuery(0, DAY, limit=limit)
        found = [entry async for entry in reports.iterate_entries(query)]
        newest = list(reversed(store.entries))[:limit]
        assert [entry for entry, _ in found] == newest
    assert found[0][1].price.total == 2 * (MAX_PAGE + 4) * MILLIONTH
