"""Business metrics: revenue and cost by project and model, and active users.

Revenue and costs are counted when requests finish, so that they never fall. Active users are read
from the ledger, because each worker knows only its own.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from typing_extensions import override

from maxgate.clock import Clock
from maxgate.generation.chunk import Usage
from maxgate.generation.request_record import RequestRecord, RequestSink
from maxgate.stores.identity import StoreUnavailable
from maxgate.telemetry.metrics_store import MetricsStore
from maxgate.usage.rate_cards import BILLIONTH, CURRENCY, RateCards, format_amount, round_amount
from maxgate.usage.reports import ReportQuery, UsageReports

WINDOWS: Final = {"5m": 300, "1d": 86_400}
MAX_AGE: Final = 15
"""Seconds for which active users are not read again."""


class Activity(NamedTuple):
    """Users of the last minutes or day; amounts are in the currency, per request."""

    window: str
    users: int
    requests: int
    cost_per_request: float
    price_per_request: float


class RequestPrices:
    """Prices requests that have just ended, by their records.

    `find_batch_size` returns how many requests the engine of a model works on at once; a request
    has this part of the engine's time.
    """

    def __init__(
        self, cards: RateCards, clock: Clock, find_batch_size: Callable[[str], int]
    ) -> None:
        self._cards = cards
        self._clock = clock
        self._find_batch_size = find_batch_size

    def sum(self, record: RequestRecord) -> tuple[int, int]:
        """Return cost and price of a request."""
        model = record.model or ""
        usage = Usage(record.prompt_tokens, record.completion_tokens, record.cached_tokens)
        gpu_seconds = record.engine_seconds / self._find_batch_size(model)
        return self._cards.sum_request(model, usage, self._clock.wall(), gpu_seconds)

    def format_price(self, record: RequestRecord) -> str:
        """Return the price in the currency as decimal text."""
        return format_amount(self.sum(record)[1])


class RevenueCounter(RequestSink):
    """Counts price and cost of each request that reached an engine."""

    def __init__(self, prices: RequestPrices, metrics: MetricsStore) -> None:
        self._prices = prices
        self._metrics = metrics

    @override
    def request_started(self) -> None:
        """Count nothing."""

    @override
    def request_finished(self, record: RequestRecord) -> None:
        if record.model is None or not record.engine_calls:
            return
        cost, price = self._prices.sum(record)
        self._metrics.add_revenue(
            record.project_id,
            record.model,
            price=round_amount(price, BILLIONTH),
            cost=round_amount(cost, BILLIONTH),
        )


class ActivityReader:
    """Reads the users of the last minutes and day from the ledger, at most every MAX_AGE seconds.

    While the database is unavailable there are none.
    """

    def __init__(self, reports: UsageReports, clock: Clock) -> None:
        self._reports = reports
        self._clock = clock
        self._read_at = -float(MAX_AGE)
        self._found: tuple[Activity, ...] = ()

    async def read(self) -> tuple[Activity, ...]:
        """Return the activity of each window; never raises StoreUnavailable."""
        now = self._clock.monotonic()
        if now - self._read_at >= MAX_AGE:
            self._read_at = now  # other scrapes do not wait
            try:
                self._found = tuple(
                    [await self._read_window(name, seconds) for name, seconds in WINDOWS.items()]
                )
            except StoreUnavailable:
                self._found = ()
        return self._found

    async def _read_window(self, name: str, seconds: int) -> Activity:
        now = int(self._clock.wall())
        rows = await self._reports.sum(
            ReportQuery("1h", now - seconds, now + 1, group_by=frozenset({"user_id"}))
        )
        requests = sum(row.requests for row in rows)
        amounts = [
            sum(getattr(row.charge, kind).total for row in rows) / CURRENCY
            for kind in ("cost", "price")
        ]
        cost, price = (amount / max(requests, 1) for amount in amounts)
        return Activity(name, len(rows), requests, cost, price)
