"""Settings become limits, and sources are combined."""

from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import ValidationError
from typing_extensions import override

from maxgate.errors import ConfigurationError
from maxgate.generation.context import ANONYMOUS, Principal
from maxgate.limits.limit import Limit, LimitSource, Scope
from maxgate.limits.settings import LimitSettings
from maxgate.limits.sources import CombinedSource, SettingsSource

ALICE = Principal("p1", "p1", "alice", "key_1", "default")


class FixedSource(LimitSource):
    """Returns the same limits for everyone."""

    def __init__(self, *limits: Limit) -> None:
        self._limits = limits

    @property
    @override
    def bounds_requests(self) -> bool:
        return any(limit.unit == "tokens_per_request" for limit in self._limits)

    @override
    def find(self, principal: Principal, model: str) -> Sequence[Limit]:
        return self._limits


def find(principal: Principal = ALICE, model: str = "small", **settings: Any) -> list[Limit]:
    return list(SettingsSource(LimitSettings(**settings)).find(principal, model))


def test_scopes() -> None:
    """Defaults are for everyone without limits of their own; models come on top."""
    one, two = {"requests_per_minute": 1}, {"requests_per_minute": 2}
    limits = find(
        everyone={"tokens_per_day": 9, "models": {"small": one, "large": two}},
        each_project=one,
        projects={"p1": two},
        each_user=one,
        users={"bob": two},
        each_key={},
        time_zone="Europe/Berlin",
    )
    assert limits == [
        Limit(Scope("organization"), "tokens", "day", 9, "tokens per day", False, "Europe/Berlin"),
        Limit(
            Scope("organization", "", "small"),
            "requests",
            "minute",
            1,
            "requests per minute",
            False,
            "Europe/Berlin",
        ),
        Limit(
            Scope("project", "p1"),
            "requests",
            "minute",
            2,
            "requests per minute",
            False,
            "Europe/Berlin",
        ),
        Limit(
            Scope("user", "alice"),
            "requests",
            "minute",
            1,
            "requests per minute",
            False,
            "Europe/Berlin",
        ),
    ]


def test_anonymous() -> None:
    """Clients without authentication are one project, whatever their header says."""
    rates = {"requests_per_minute": 1}
    by_header = Principal("a1", "a1", ANONYMOUS.owner_id, "", "default")
    limits = find(by_header, each_project=rates, each_user=rates, each_key=rates)
    assert [limit.scope for limit in limits] == [Scope("project", "anonymous")]


@pytest.mark.parametrize(
    ("unit", "amount", "expected"),
    [
        ("tokens", 5, ("tokens", 5)),
        ("requests", 5, ("requests", 5)),
        ("money", 12.5, ("money", 12_500_000)),
        ("gpu_seconds", 1.5, ("gpu_milliseconds", 1500)),
    ],
)
def test_budgets(unit: str, amount: float, expected: tuple[str, int]) -> None:
    """Budgets have the units of counters."""
    budget = {"unit": unit, "window": "month", "amount": amount}
    (limit,) = find(each_key={"budgets": [budget]})
    assert (limit.unit, limit.amount, limit.is_budget, limit.window) == (*expected, True, "month")


def test_same_object() -> None:
    """A caller has the same object each time, so that its plan is found."""
    own = SettingsSource(LimitSettings(each_key={"requests_per_minute": 1}))
    other = FixedSource(Limit(Scope("organization"), "tokens", "day", 1, ""))
    combined = CombinedSource([own, other, FixedSource()])
    assert [limit.unit for limit in combined.find(ALICE, "small")] == ["requests", "tokens"]
    assert combined.find(ALICE, "small") is combined.find(ALICE, "small")
    assert CombinedSource([FixedSource(), other]).find(ALICE, "") is other.find(ALICE, "")
    assert not CombinedSource([FixedSource()]).find(ALICE, "")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"each_key": {"tokens_per_day": 1}}, False),
        ({"users": {"bob": {"tokens_per_request": 1}}}, True),
        ({"everyone": {"models": {"small": {"tokens_per_request": 1}}}}, True),
    ],
)
def test_bounds_requests(settings: dict[str, Any], expected: bool) -> None:
    """A limit of tokens per request is known before a caller has it."""
    own = SettingsSource(LimitSettings(**settings))
    assert CombinedSource([FixedSource(), own]).bounds_requests is expected


@pytest.mark.parametrize(
    "settings",
    [
        {"time_zone": "Mars"},
        {"time_zone": "../etc/passwd", "everyone": {"requests_per_minute": 1}},
        {"time_zone": "UTC"},  # without a limit
        {"everyone": {"requests_per_minute": -1}},
        {"everyone": {"requests_per_second": 1}},
        {"each_key": {"budgets": [{"unit": "tokens", "window": "minute", "amount": 1}]}},
        {"each_key": {"models": {"small": {"models": {}}}}},
    ],
)
def test_invalid(settings: dict[str, Any]) -> None:
    """Wrong settings are refused."""
    with pytest.raises(ValidationError):
        LimitSettings(**settings)


def test_aliases() -> None:
    """Limits of a model may name it by an alias."""
    rates = {"requests_per_minute": 1}
    rules = {"requests_per_day": 2, "models": {"little": rates}}
    settings = LimitSettings(everyone=rules, keys={"key_1": rules})
    named = {"requests_per_day": 2, "models": {"small": rates}}
    assert settings.name_models({"small": "small", "little": "small"}) == LimitSettings(
        everyone=named, keys={"key_1": named}
    )


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (["large"], "models has 'large', which is no name or alias of a model card; write one of "),
        (["small", "little"], "models has 'small' twice, once by its alias 'little'; keep one"),
    ],
)
def test_wrong_models(models: list[str], message: str) -> None:
    """A limit of an unknown model and a second one of the same model are refused."""
    rules = {"models": {model: {"requests_per_minute": 1} for model in models}}
    settings = LimitSettings(each_user=rules)
    with pytest.raises(ConfigurationError, match=message):
        settings.name_models({"small": "small", "little": "small"})


def test_json() -> None:
    """In variables, scopes are JSON."""
    settings = LimitSettings.model_validate({"keys": '{"key_1": {"tokens_per_day": 3}}'})
    assert settings.keys["key_1"].tokens_per_day == 3
    assert settings.is_enabled
    assert not LimitSettings.model_validate({"everyone": "{}"}).is_enabled
