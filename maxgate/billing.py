"""Builds what prices requests, and what reports usage with its cost and price."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from maxgate.api.middleware import FormatPrice
from maxgate.api.organization.usage import NoUsage
from maxgate.clock import Clock
from maxgate.composition import open_usage
from maxgate.generation.request_record import RequestSink
from maxgate.model_cards.card import ModelCard
from maxgate.settings import Settings
from maxgate.stores.usage import UsageStore
from maxgate.telemetry.metrics_store import MetricsStore
from maxgate.usage.business import ActivityReader, RequestPrices, RevenueCounter
from maxgate.usage.rate_cards import RateCards
from maxgate.usage.reports import UsageReports


@dataclass(frozen=True)
class Billing:
    """The prices of requests, and the database of usage; None where there is none.

    Without `has_admins`, the gateway serves only its own machine, and everyone there is an admin.
    """

    rate_cards: RateCards
    reports: UsageReports | NoUsage
    sinks: Sequence[RequestSink] = ()
    format_price: FormatPrice | None = None
    store: UsageStore | None = None
    activity: ActivityReader | None = None
    has_admins: bool = True

    async def aclose(self) -> None:
        """Close the database."""
        if self.store is not None:
            await self.store.aclose()


def build_billing(
    settings: Settings,
    model_cards: Sequence[ModelCard],
    clock: Clock,
    metrics: MetricsStore,
    store: UsageStore | None,
) -> Billing:
    """Build the prices of requests, and what reads usage; `store` replaces the database.

    Raises ConfigurationError if the database cannot be used.
    """
    cards = RateCards(settings.pricing)
    sinks: list[RequestSink] = []
    format_price = None
    if not cards.is_empty:
        prices = RequestPrices(cards, clock, find_batch_sizes(settings, model_cards))
        sinks.append(RevenueCounter(prices, metrics))
        format_price = prices.format_price
    billing = Billing(
        cards,
        _explain_no_usage(settings),
        sinks,
        format_price,
        has_admins=settings.auth.mode is not None,
    )
    store = store or open_usage(settings, clock)
    if store is None:
        return billing
    reports = UsageReports(store, cards, clock)
    billing = replace(billing, store=store, activity=ActivityReader(reports, clock))
    if settings.auth.has_keys or settings.auth.has_jwt:
        return replace(billing, reports=reports)
    return billing


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
