"""Settings of limits that need no database."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic_settings import NoDecode

from maxgate.errors import ConfigurationError
from maxgate.limits.limit import Unit, Window
from maxgate.limits.table import MAX_AMOUNT
from maxgate.settings_section import Section, parse_mapping

_Amount = Annotated[int, Field(ge=0, le=MAX_AMOUNT)]

RATES: Final[Mapping[str, tuple[Unit, Window]]] = {
    "requests_per_minute": ("requests", "minute"),
    "requests_per_hour": ("requests", "hour"),
    "requests_per_day": ("requests", "day"),
    "tokens_per_minute": ("tokens", "minute"),
    "tokens_per_day": ("tokens", "day"),
    "input_tokens_per_minute": ("input_tokens", "minute"),
    "output_tokens_per_minute": ("output_tokens", "minute"),
    "concurrent_requests": ("concurrent_requests", "none"),
    "tokens_per_request": ("tokens_per_request", "none"),
}
"""Unit and window of each rate."""


class BudgetSettings(Section):
    """An amount for a calendar window, after which requests get `insufficient_quota`."""

    unit: Literal["tokens", "requests", "money", "gpu_seconds"]
    """Unit of the amount; `money` is in units of the currency of the rate cards."""
    window: Literal["day", "week", "month", "total"]
    """Calendar window in `limits.time_zone`."""
    amount: float = Field(ge=0, le=10**9)
    """Amount, which may have decimals for money and GPU seconds."""


class RateSettings(Section):
    """Limits of one model."""

    requests_per_minute: _Amount | None = None
    requests_per_hour: _Amount | None = None
    requests_per_day: _Amount | None = None
    tokens_per_minute: _Amount | None = None
    tokens_per_day: _Amount | None = None
    input_tokens_per_minute: _Amount | None = None
    output_tokens_per_minute: _Amount | None = None
    concurrent_requests: _Amount | None = None
    tokens_per_request: _Amount | None = None
    budgets: list[BudgetSettings] = Field(default=[])

    def list_rates(self) -> Iterator[tuple[str, int]]:
        """Yield the rates that are set."""
        for name in RATES:
            amount = getattr(self, name)
            if amount is not None:
                yield name, amount

    @property
    def is_empty(self) -> bool:
        """Whether nothing is limited."""
        return not self.budgets and next(self.list_rates(), None) is None


class ScopeSettings(RateSettings):
    """Limits of a scope, and of single models within it."""

    models: dict[str, RateSettings] = Field(default={})

    @property
    def is_empty(self) -> bool:
        """Whether nothing is limited."""
        return super().is_empty and all(rates.is_empty for rates in self.models.values())

    def name_models(self, names: Mapping[str, str]) -> Self:
        """Return the limits with models by their names; see LimitSettings.name_models."""
        models: dict[str, RateSettings] = {}
        for alias, rates in self.models.items():
            name = names.get(alias)
            if name is None:
                raise ConfigurationError(
                    f"setting limits: models has {alias[:100]!r}, which is no name or alias of a "
                    f"model card; write one of {', '.join(sorted(names)[:10])}"
                )
            if name in models:
                raise ConfigurationError(
                    f"setting limits: models has {name!r} twice, once by its alias {alias!r}; "
                    "keep one"
                )
            models[name] = rates
        return self.model_copy(update={"models": models})


_Scope = Annotated[ScopeSettings | None, NoDecode, BeforeValidator(parse_mapping)]
_Scopes = Annotated[dict[str, ScopeSettings], NoDecode, BeforeValidator(parse_mapping)]


class LimitSettings(Section):
    """Limits of requests and tokens; each scope is an object, as JSON in variables."""

    everyone: _Scope = None
    """Limits of all requests together, and of models, such as `{requests_per_minute: 600}`."""
    each_project: _Scope = None
    """Limits of each project that is not in `limits.projects`."""
    each_user: _Scope = None
    """Limits of each user or service account that is not in `limits.users`."""
    each_key: _Scope = None
    """Limits of each API key that is not in `limits.keys`."""
    projects: _Scopes = Field(default={})
    """Limits of single projects, by id."""
    users: _Scopes = Field(default={})
    """Limits of single users and service accounts, by id."""
    keys: _Scopes = Field(default={})
    """Limits of single API keys, by id."""
    time_zone: str = "UTC"
    """Time zone in which hours, days, weeks and months begin, such as `Europe/Berlin`."""
    assumed_output_tokens: int = Field(default=4096, ge=1, le=1_000_000)
    """Output tokens that a request without `max_tokens` reserves, at most 1/10 of a limit."""

    @property
    def is_enabled(self) -> bool:
        """Whether anything is limited."""
        return not all(scope.is_empty for scope in self.list_scopes())

    def list_scopes(self) -> list[ScopeSettings]:
        """Return the limits of all scopes that are set."""
        scopes = [self.everyone, self.each_project, self.each_user, self.each_key]
        scopes += [*self.projects.values(), *self.users.values(), *self.keys.values()]
        return [scope for scope in scopes if scope is not None]

    def name_models(self, names: Mapping[str, str]) -> Self:
        """Return the limits with models by their names; `names` has each name and alias.

        Raises ConfigurationError for unknown models, and for a model by two names.
        """
        changes: dict[str, object] = {}
        for field in ("everyone", "each_project", "each_user", "each_key"):
            if (scope := getattr(self, field)) is not None:
                changes[field] = scope.name_models(names)
        for field in ("projects", "users", "keys"):
            scopes = getattr(self, field)
            changes[field] = {one: rules.name_models(names) for one, rules in scopes.items()}
        return self.model_copy(update=changes)

    @field_validator("time_zone")
    @classmethod
    def _check_time_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ValueError, OSError, KeyError) as error:  # ZoneInfoNotFoundError is a KeyError
            raise ValueError(f"{name!r} is not a time zone; write Europe/Berlin or UTC") from error
        return name

    @model_validator(mode="after")
    def _check_use(self) -> Self:
        if not self.is_enabled:
            for name in ("time_zone", "assumed_output_tokens"):
                if name in self.model_fields_set:
                    raise ValueError(f"{name} has no effect without a limit; set one too")
        return self
