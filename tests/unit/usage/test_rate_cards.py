"""Rate cards: their settings, and the amounts that follow from them."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from maxgate.errors import ConfigurationError
from maxgate.generation.chunk import Usage
from maxgate.usage.pricing_settings import PricingSettings
from maxgate.usage.rate_cards import CURRENCY, MILLIONTH, Quantities, RateCards, format_amount
from tests.fakes.rate_cards import CARD, HOUR, build_cards


def test_amounts() -> None:
    """Cached tokens have their own rate, GPU time is paid by the hour, and all amounts are exact.

    The rates are chosen so that sums of binary fractions would differ.
    """
    cards = build_cards(CARD)
    charge = cards.charge("small", Quantities(30, 10, 3, 1.8), 0)
    tenth = MILLIONTH // 10
    assert charge.price == (20 * tenth, tenth, 9 * tenth, 30_000 * tenth)
    assert (charge.price.total, charge.cost.total) == (30_030 * tenth, 60 * tenth)
    assert cards.sum_request("small", Usage(30, 3, 10), 0, 1.8) == (60 * tenth, 30_030 * tenth)
    assert cards.price("small", Usage(30, 3, 10), 0, 1.8) == 3003
    assert cards.price("small", Usage(15, 0), 0) == 2  # of 1.5


def test_change() -> None:
    """A card is valid from its hour on, until the next one of the same model."""
    cards = build_cards(
        {"model": "m", "valid_from": 2 * HOUR, "price": {"input": 5}},
        {"model": "m", "valid_from": HOUR, "price": {"input": 3}},
        {"model": "n", "price": {"input": 7}},
    )
    times = (0, HOUR - 0.1, HOUR, 2 * HOUR - 1, 2 * HOUR, 10**12)
    assert [cards.price("m", Usage(1, 0), at) for at in times] == [0, 0, 3, 3, 5, 5]
    assert [cards.has("m", at) for at in times] == [False, False, True, True, True, True]
    assert [cards.price("n", Usage(1, 0), at) for at in times] == [7] * 6
    assert (cards.list_changes(0, 3 * HOUR), cards.list_changes(HOUR, 2 * HOUR)) == (
        [HOUR, 2 * HOUR],
        [],
    )


def test_alias() -> None:
    """A card names its model as the ledger does, so an alias is refused; old models are not."""
    settings = PricingSettings.model_validate({"rate_cards": [CARD, CARD | {"model": "tiny"}]})
    settings.check_names({"small": "small"})
    message = r"rate_cards\[1\]: 'tiny' is an alias; write the served name 'small'"
    with pytest.raises(ConfigurationError, match=message):
        settings.check_names({"small": "small", "tiny": "small"})


def test_no_card() -> None:
    """A model without a card costs nothing."""
    cards = RateCards(PricingSettings())
    assert (cards.is_empty, cards.price("m", Usage(10, 10), 0, 1.0)) == (True, 0)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0"),
        (MILLIONTH * 3 // 2, "0.0000015"),
        (12 * CURRENCY, "12"),
        (10_000 * CURRENCY + 1, "10000.000000000000001"),
        (-CURRENCY // 2, "-0.5"),
    ],
)
def test_format(amount: int, text: str) -> None:
    """Amounts are formatted exactly, without zeros at the end."""
    assert format_amount(amount) == text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate_cards": [{**CARD, "valid_from": "2026-01-01T00:30:00Z"}]}, "not a full hour"),
        ({"rate_cards": [{**CARD, "valid_from": 5}]}, "'5' is not a date or time"),
        ({"rate_cards": [{**CARD, "valid_from": "2026-01-01T00:00"}]}, "no time zone"),
        ({"rate_cards": [CARD, CARD]}, "are both for 'small' from the same time"),
        ({"rate_cards": [{**CARD, "price": {"inputs": 1}}]}, "Extra inputs are not permitted"),
        ({"rate_cards": [{**CARD, "price": {}}]}, "the rates are empty"),
        ({"rate_cards": [{**CARD, "price": {"input": -1}}]}, "greater than or equal to 0"),
        ({"rate_cards": [{**CARD, "price": {"input": "nan"}}]}, "finite number"),
        ({"rate_cards": [{"model": "m"}]}, "Field required"),
        ({"currency": "usd"}, "no effect without rate_cards"),
        ({"currency": "US$", "rate_cards": [CARD]}, "should match pattern"),
    ],
)
def test_invalid(settings: dict[str, Any], message: str) -> None:
    """Cards that overlap, unknown fields and times within an hour are refused."""
    with pytest.raises(ValidationError, match=message):
        PricingSettings.model_validate(settings)


@pytest.mark.parametrize(
    ("written", "hour"),
    [
        ("2026-01-01", 490_896),
        (date(2026, 1, 1), 490_896),
        ("2026-01-01T02:00:00+01:00", 490_897),
        (None, 0),
    ],
)
def test_start(written: str | date | None, hour: int) -> None:
    """A card begins at midnight of a date in UTC, or at a time with its zone."""
    settings = PricingSettings.model_validate({"rate_cards": [{**CARD, "valid_from": written}]})
    assert settings.rate_cards[0].start == hour * HOUR


def test_decimals() -> None:
    """A rate that YAML parsed as a binary fraction is the number that was written."""
    settings = PricingSettings.model_validate({"rate_cards": [CARD]})
    assert settings.rate_cards[0].price.input == Decimal("0.1")
