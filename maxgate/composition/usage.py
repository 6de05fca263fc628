"""Builds the ledger of requests, their prices, and what reports usage."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from maxgate.api.middleware import FormatPrice
from maxgate.api.organization.usage import NoUsage
from maxgate.clock import Clock
from maxgate.generation.request_record import RequestSink
from maxgate.limits.exchanges import CountUsed
from maxgate.limits.planner import Price
from maxgate.model_cards.card import ModelCard, map_names
from maxgate.settings import Settings
from maxgate.stores.usage import UsageStore
from maxgate.telemetry.metrics_store import MetricsStore
from maxgate.telemetry.registry import (
    USAGE_LINES,
    USAGE_LINES_LOST,
    USAGE_LINES_MOVED,
    USAGE_SPOOL_SIZE,
)
from maxgate.usage.business import ActivityReader, RequestPrices, RevenueCounter
from maxgate.usage.rate_cards import RateCards
from maxgate.usage.reports import UsageReports
from maxgate.usage.window_use import WindowUse

if TYPE_CHECKING:
    from maxgate.usage.ledger import SpooledLedger


@dataclass(frozen=True)
class Billing:
    """The prices of requests, their ledger, and the reports of it; None where there is none.

    `price` and `count_used` are those of Limits. Without `has_admins`, the gateway serves only its
    own machine, and everyone there is an admin.
    """

    reports: UsageReports | NoUsage
    find_batch_size: Callable[[str], int]
    sinks: Sequence[RequestSink] = ()
    price: Price | None = None
    format_price: FormatPrice | None = None
    count_used: CountUsed | None = None
    activity: ActivityReader | None = None
    ledger: "SpooledLedger | None" = None
    store: UsageStore | None = None
    has_admins: bool = True

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Record usage during the block; afterwards, store the rest and close the database."""
        async with AsyncExitStack() as resources:
            if self.ledger is not None:
                await resources.enter_async_context(self.ledger.running())  # closes the database
            elif self.store is not None:
                await resources.enter_async_context(aclosing(self.store))
            yield


def build_billing(
    settings: Settings,
    model_cards: Sequence[ModelCard],
    clock: Clock,
    metrics: MetricsStore,
    store: UsageStore | None,
) -> Billing:
    """Build the ledger, prices and reports; `store` replaces the database, without a ledger.

    Raises ConfigurationError if the database or the folder of the ledger cannot be used, and for
    prices of aliases.
    """
    settings.pricing.check_names(map_names(model_cards))
    cards = RateCards(settings.pricing)
    find_batch_size = find_batch_sizes(settings, model_cards)
    ledger = None
    if store is None and (store := open_usage(settings, clock)) is not None:
        ledger = build_ledger(settings, store, clock, metrics, find_batch_size)
    has_priced_models = not cards.is_empty
    prices = RequestPrices(cards, clock, find_batch_size)
    reports = None if store is None else UsageReports(store, cards, clock)
    is_shown = reports is not None and (settings.auth.has_keys or settings.auth.has_jwt)
    return Billing(
        reports if is_shown and reports is not None else _explain_no_usage(settings),
        find_batch_size,
        sinks=[RevenueCounter(prices, metrics)] if has_priced_models else [],
        price=cards.price if has_priced_models else None,
        format_price=prices.format_price if has_priced_models else None,
        count_used=None if reports is None else WindowUse(reports),
        activity=None if reports is None else ActivityReader(reports, clock),
        ledger=ledger,
        store=store,
        has_admins=settings.auth.mode is not None,
    )


def open_usage(settings: Settings, clock: Clock) -> UsageStore | None:
    """Open the database of usage; None if usage is not recorded.

    Raises ConfigurationError if it cannot be used.
    """
    if not settings.usage.enabled:
        return None
    from maxgate.stores.usage_store import open_usage_store  # noqa: PLC0415  # slow to import

    return open_usage_store(settings.database, settings.state_dir, clock=clock)


def build_ledger(
    settings: Settings,
    store: UsageStore,
    clock: Clock,
    metrics: MetricsStore,
    find_batch_size: Callable[[str], int],
) -> "SpooledLedger":
    """Build the ledger of requests; raises ConfigurationError if its folder cannot be used."""
    from maxgate.usage.ledger import SpooledLedger  # noqa: PLC0415  # only if it is used
    from maxgate.usage.mover import MoverEvents  # noqa: PLC0415

    return SpooledLedger(
        settings.usage,
        settings.state_dir,
        store,
        clock,
        find_batch_size=find_batch_size,
        on_written=partial(metrics.add, USAGE_LINES, ()),
        on_lost=partial(metrics.add, USAGE_LINES_LOST, ()),
        events=MoverEvents(
            partial(metrics.add, USAGE_LINES_MOVED, ()),
            partial(metrics.add, USAGE_LINES_LOST, ()),
            partial(metrics.set_gauge, USAGE_SPOOL_SIZE, ()),
        ),
    )


def find_batch_sizes(settings: Settings, cards: Sequence[ModelCard]) -> Callable[[str], int]:
    """Return a function from a model to the number of requests that its engine works on at once.

    A request has this part of the engine while it runs.
    """
    slots = settings.admission.slots
    sizes = {card.name: slots or (card.max and card.max.max_batch_size) or 1 for card in cards}
    return lambda model: sizes.get(model, 1)


def _explain_no_usage(settings: Settings) -> NoUsage:
    if not (settings.auth.has_keys or settings.auth.has_jwt):
        return NoUsage(
            "Usage is for admins: set auth.mode (MAXGATE_AUTH__MODE) to `keys` or `jwt`."
        )
    return NoUsage("Usage is not recorded: set usage.enabled (MAXGATE_USAGE__ENABLED) to true.")
