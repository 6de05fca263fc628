"""Business metrics: what is counted of each request, and what is read from the ledger."""

from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families

from maxgate.telemetry.layout import MAX_ROWS
from maxgate.telemetry.metrics_store import MetricsStore
from maxgate.telemetry.prometheus import MetricsReader
from maxgate.usage.business import MAX_AGE, ActivityReader, RequestPrices, RevenueCounter
from maxgate.usage.reports import UsageReports
from tests.fakes.clock import FakeClock
from tests.fakes.rate_cards import DAY, HOUR, build_cards
from tests.fakes.request_records import finished_record, send_records
from tests.fakes.usage_store import FakeUsageStore

CARDS = build_cards(
    {
        "model": "small",
        "price": {"input": 4000, "cached_input": 1000, "output": 10_000},
        "cost": {"input": 1000, "gpu_hour": 7200},
    }
)


def expose(
    metrics: MetricsStore, *activity: tuple[str, int, int, float, float]
) -> dict[str, float]:
    """Return the values of the business metrics by name and label values."""
    text, _ = MetricsReader(metrics).expose([], "text/plain", activity)
    names = ("billed", "revenue", "costs", "active", "requests_per", "cost_per")
    return {
        " ".join([sample.name.removeprefix("maxgate_"), *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name.removeprefix("maxgate_").startswith(names)
    }


def test_revenue() -> None:
    """Requests that reached a model are counted with price and cost, in the currency."""
    clock = FakeClock()
    metrics = MetricsStore(clock)
    counter = RevenueCounter(RequestPrices(CARDS, clock, lambda _: 4), metrics)
    record = replace(finished_record(), project_id="red", engine_seconds=0.5)
    refused = replace(record, engine_calls=0)
    send_records(counter, record, record, refused, replace(record, model=None))
    send_records(counter, replace(record, model="large", outcome="upstream_error"))
    assert expose(metrics) == {
        "billed_requests_total small red": 2,
        "revenue_total small red": 2 * (35 * 4 + 2 * 1 + 5 * 10) / 1000,
        "costs_total small red": 2 * (37 * 1 / 1000 + 0.5 / 4 * 2),
        "billed_requests_total large red": 1,
        "revenue_total large red": 0,
        "costs_total large red": 0,
    }


def test_bound() -> None:
    """Further projects share one series."""
    clock = FakeClock()
    metrics = MetricsStore(clock)
    counter = RevenueCounter(RequestPrices(CARDS, clock, lambda _: 4), metrics)
    send_records(
        counter, *(replace(finished_record(), project_id=f"p{n}") for n in range(MAX_ROWS + 9))
    )
    exposed = expose(metrics)
    assert len(exposed) == 3 * MAX_ROWS
    assert exposed["billed_requests_total other other"] == 10


async def test_activity() -> None:
    """Users are counted once per window, and their requests and amounts are averages."""
    clock, store = FakeClock(), FakeUsageStore()
    now = clock.wall()
    for age, user in ((DAY + HOUR, "old"), (3 * HOUR, "ann"), (3 * HOUR, "bob"), (60, "ann")):
        store.add(now - age, user_id=user, input_tokens=1000)
    reader = ActivityReader(UsageReports(store, CARDS, clock), clock)
    found = await reader.read()
    assert found == (("5m", 1, 1, 1.0, 4.0), ("1d", 2, 3, 1.0, 4.0))
    assert expose(MetricsStore(clock), *found) == {
        "active_users 5m": 1,
        "active_users 1d": 2,
        "requests_per_active_user 5m": 1,
        "requests_per_active_user 1d": 1.5,
        "cost_per_request 5m": 1,
        "cost_per_request 1d": 1,
        "revenue_per_request 5m": 4,
        "revenue_per_request 1d": 4,
    }


async def test_outage() -> None:
    """Activity is read at most every MAX_AGE seconds, and absent while the database is away."""
    clock, store = FakeClock(), FakeUsageStore()
    reader = ActivityReader(UsageReports(store, CARDS, clock), clock)
    store.is_away = True
    assert await reader.read() == ()
    store.is_away = False
    assert await reader.read() == ()
    clock.advance(MAX_AGE)
    assert [window.users for window in await reader.read()] == [0, 0]
    queries = len(store.queries)
    await reader.read()
    assert len(store.queries) == queries
