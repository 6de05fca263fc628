"""Rate cards of tests."""

from datetime import UTC, datetime
from typing import Any

from maxgate.usage.pricing_settings import PricingSettings
from maxgate.usage.rate_cards import RateCards

HOUR = 3600
DAY = 24 * HOUR
CARD: dict[str, Any] = {
    "model": "small",
    "price": {"input": 0.1, "cached_input": 0.01, "output": 0.3, "gpu_hour": 6},
    "cost": {"input": 0.2},
}


def build_cards(*cards: dict[str, Any]) -> RateCards:
    """Build rate cards; `valid_from` may be in Unix seconds."""
    dated = [
        {**card, "valid_from": datetime.fromtimestamp(card["valid_from"], UTC)}
        if isinstance(card.get("valid_from"), int)
        else card
        for card in cards
    ]
    return RateCards(PricingSettings.model_validate({"rate_cards": dated}))
