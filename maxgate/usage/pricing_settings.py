"""Settings of prices: rate cards of models."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic_settings import NoDecode

from maxgate.errors import ConfigurationError
from maxgate.settings_section import Section, split_list

MAX_RATE: Final = 1_000_000
"""Highest rate, in the currency."""
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_MAX_DECIMALS: Final = 9
_MAX_CARDS: Final = 10_000


def _parse_rate(value: Any) -> Any:
    """Return a rate as it is written: YAML and JSON parse 0.15 as a float, whose repr is exact."""
    return repr(value) if isinstance(value, float) else value


Rate = Annotated[
    Decimal,
    BeforeValidator(_parse_rate),
    Field(ge=0, le=MAX_RATE, decimal_places=_MAX_DECIMALS),
]


class Rates(Section):
    """Rates in the currency: per million tokens, and per hour of one GPU."""

    input: Rate = Decimal(0)
    """Input tokens that were not cached."""
    cached_input: Rate | None = None
    """Input tokens from the prefix cache; default: as `input`."""
    output: Rate = Decimal(0)
    """Output tokens."""
    gpu_hour: Rate = Decimal(0)
    """GPU time."""

    @model_validator(mode="after")
    def _check_use(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("the rates are empty; write input, cached_input, output or gpu_hour")
        return self


class RateCard(Section):
    """Rates of one model from a time on, until the next card of the model."""

    model: str = Field(min_length=1, max_length=200)
    """Served name of the model."""
    valid_from: datetime | None = None
    """Date, or time at a full hour of UTC, from which the card is valid; default: always."""
    price: Rates
    """Rates that users are charged."""
    cost: Rates | None = None
    """Rates that the operator pays; default: nothing."""

    @field_validator("valid_from", mode="before")
    @classmethod
    def _parse_date(cls, value: Any) -> Any:
        if value is None or isinstance(value, datetime):
            return value
        text = str(value)  # of a date, if YAML has read one
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(
                f"{text[:50]!r} is not a date or time; write 2026-01-01 or 2026-01-01T12:00:00Z"
            ) from None
        return at.replace(tzinfo=UTC) if _DATE.fullmatch(text) else at

    @field_validator("valid_from")
    @classmethod
    def _check_hour(cls, value: datetime | None) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value.isoformat()} has no time zone; write it with a Z for UTC")
        at = value.astimezone(UTC)
        if at.timestamp() % 3600:
            raise ValueError(
                f"{at.isoformat()} is not a full hour in UTC; usage is summed by the hour, so "
                "write 2026-01-01T00:00:00Z"
            )
        if at.timestamp() < 0:
            raise ValueError("the time is before 1970; leave it out for a card that always holds")
        return at

    @property
    def start(self) -> int:
        """The time from which it is valid, in Unix seconds."""
        return 0 if self.valid_from is None else int(self.valid_from.timestamp())


class PricingSettings(Section):
    """Prices of usage; no setting has an effect on what is counted."""

    currency: str = Field(default="usd", pattern="^[a-z]{3}$")
    """Currency of all rates: a code of ISO 4217 in lower case."""
    rate_cards: Annotated[list[RateCard], NoDecode, BeforeValidator(split_list)] = Field(
        default=[], max_length=_MAX_CARDS
    )
    """Rate cards of models, see [pricing.md](pricing.md); JSON in variables."""

    @field_validator("rate_cards")
    @classmethod
    def _check_overlap(cls, cards: list[RateCard]) -> list[RateCard]:
        starts: dict[tuple[str, int], int] = {}
        for number, card in enumerate(cards):
            other = starts.setdefault((card.model, card.start), number)
            if other != number:
                since = card.valid_from.isoformat() if card.valid_from else "always"
                raise ValueError(
                    f"rate_cards[{other}] and rate_cards[{number}] are both for {card.model!r} "
                    f"from the same time ({since}); remove one, or change its valid_from"
                )
        return cards

    @model_validator(mode="after")
    def _check_use(self) -> Self:
        if "currency" in self.model_fields_set and not self.rate_cards:
            raise ValueError("currency has no effect without rate_cards; set them too")
        return self

    def check_names(self, names: Mapping[str, str]) -> None:
        """Raise ConfigurationError for an alias of a model; `names` has each name and alias.

        The ledger has the served names only. A card may be of a model that is served no more.
        """
        for number, card in enumerate(self.rate_cards):
            name = names.get(card.model, card.model)
            if name != card.model:
                raise ConfigurationError(
                    f"setting pricing.rate_cards[{number}]: {card.model!r} is an alias; write the "
                    f"served name {name!r}"
                )

    def group_by_model(self) -> Mapping[str, list[RateCard]]:
        """Return the cards of each model, the earliest first."""
        groups: dict[str, list[RateCard]] = {}
        for card in sorted(self.rate_cards, key=lambda card: card.start):
            groups.setdefault(card.model, []).append(card)
        return groups
