"""Cost and price of usage, by rate cards.

Amounts are whole numbers of 10^-15 of the currency. A rate has up to 9 decimals and is per million
tokens, so that tokens have exact amounts; those of GPU time are rounded down. Decimal numbers would
be as exact and take ten times as long, and binary fractions would add up to other sums.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

from maxgate.generation.chunk import Usage
from maxgate.stores.usage import Bucket
from maxgate.usage.pricing_settings import PricingSettings, RateCard, Rates

DECIMALS: Final = 15
CURRENCY: Final = 10**DECIMALS
"""The amount of one unit of the currency."""
MILLIONTH: Final = CURRENCY // 10**6
BILLIONTH: Final = CURRENCY // 10**9
_SECONDS_PER_HOUR: Final = 3600


class Quantities(NamedTuple):
    """The usage that is paid for; `input_tokens` include the cached ones."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    gpu_seconds: float = 0.0


class Amounts(NamedTuple):
    """Amounts of each line item."""

    input: int = 0
    cached_input: int = 0
    output: int = 0
    gpu_time: int = 0

    @property
    def total(self) -> int:
        """The sum of the items."""
        return self.input + self.cached_input + self.output + self.gpu_time

    def plus(self, other: Self) -> "Amounts":
        """Add each item."""
        return Amounts(*(mine + its for mine, its in zip(self, other, strict=True)))


class Charge(NamedTuple):
    """The amounts that usage costs the operator, and those that users are charged."""

    cost: Amounts = Amounts()
    price: Amounts = Amounts()

    def plus(self, other: Self) -> "Charge":
        """Add each item."""
        return Charge(self.cost.plus(other.cost), self.price.plus(other.price))


NOTHING: Final = Charge()


@dataclass(frozen=True, slots=True)
class _ItemRates:
    """Amounts per token, and per 3,600 microseconds of GPU time."""

    input: int
    cached_input: int
    output: int
    gpu_hour: int

    @classmethod
    def build(cls, rates: Rates) -> Self:
        cached = rates.input if rates.cached_input is None else rates.cached_input
        return cls(
            *(int(r * MILLIONTH) for r in (rates.input, cached, rates.output, rates.gpu_hour))
        )

    def multiply(self, used: Quantities) -> Amounts:
        cached = min(used.cached_tokens, used.input_tokens)
        return Amounts(
            self.input * (used.input_tokens - cached),
            self.cached_input * cached,
            self.output * used.output_tokens,
            self._charge_gpu(used.gpu_seconds),
        )

    def sum(self, usage: Usage, gpu_seconds: float) -> int:
        """Return the total of `multiply`."""
        cached = min(usage.cached, usage.prompt)
        return (
            self.input * (usage.prompt - cached)
            + self.cached_input * cached
            + self.output * usage.completion
            + self._charge_gpu(gpu_seconds)
        )

    def _charge_gpu(self, seconds: float) -> int:
        return self.gpu_hour * round(seconds * 1_000_000) // _SECONDS_PER_HOUR


class _Card(NamedTuple):
    start: int
    cost: _ItemRates | None
    price: _ItemRates


def _build_card(card: RateCard) -> _Card:
    cost = None if card.cost is None else _ItemRates.build(card.cost)
    return _Card(card.start, cost, _ItemRates.build(card.price))


class RateCards:
    """The rate cards of all models; a model without a card costs nothing."""

    def __init__(self, settings: PricingSettings) -> None:
        self.currency = settings.currency
        self._cards: Mapping[str, Sequence[_Card]] = {
            model: [_build_card(card) for card in cards]
            for model, cards in settings.group_by_model().items()
        }
        self._starts = {
            model: [card.start for card in cards] for model, cards in self._cards.items()
        }
        changes = {start for starts in self._starts.values() for start in starts}
        self._changes = sorted(changes - {0})

    @property
    def is_empty(self) -> bool:
        """Whether no model has a card."""
        return not self._cards

    def has(self, model: str, at: float) -> bool:
        """Return whether a model has a card at a time."""
        return self._find(model, at) is not None

    def price(self, model: str, usage: Usage, at: float, gpu_seconds: float = 0.0) -> int:
        """Return the price of a request at a time in Unix seconds, in whole millionths."""
        return round_amount(self.sum_request(model, usage, at, gpu_seconds)[1], MILLIONTH)

    def sum_request(
        self, model: str, usage: Usage, at: float, gpu_seconds: float
    ) -> tuple[int, int]:
        """Return cost and price of a request that ended at a time in Unix seconds."""
        card = self._find(model, at)
        if card is None:
            return 0, 0
        cost = 0 if card.cost is None else card.cost.sum(usage, gpu_seconds)
        return cost, card.price.sum(usage, gpu_seconds)

    def charge_bucket(self, bucket: Bucket) -> Charge:
        """Return cost and price of a bucket of one model, in which no card begins."""
        used = Quantities(
            bucket.input_tokens, bucket.cached_tokens, bucket.output_tokens, bucket.gpu_seconds
        )
        return self.charge(bucket.model or "", used, bucket.start)

    def charge(self, model: str, used: Quantities, at: float) -> Charge:
        """Return cost and price of usage by the card that is valid at a time."""
        card = self._find(model, at)
        if card is None:
            return NOTHING
        cost = Amounts() if card.cost is None else card.cost.multiply(used)
        return Charge(cost, card.price.multiply(used))

    def list_changes(self, start: int, end: int) -> Sequence[int]:
        """Return the times between `start` and `end`, both excluded, at which a card begins."""
        return [at for at in self._changes if start < at < end]

    def _find(self, model: str, at: float) -> _Card | None:
        starts = self._starts.get(model)
        if starts is None:
            return None
        number = bisect_right(starts, at)
        return self._cards[model][number - 1] if number else None


def round_amount(amount: int, unit: int) -> int:
    """Return an amount in a unit such as MILLIONTH, halves rounded up."""
    return (amount + unit // 2) // unit


def format_amount(amount: int) -> str:
    """Format an amount in the currency, not rounded to cents, such as `0.0000015`."""
    whole, part = divmod(abs(amount), CURRENCY)
    sign = "-" if amount < 0 else ""
    return f"{sign}{whole}.{part:0{DECIMALS}d}".rstrip("0").rstrip(".")
