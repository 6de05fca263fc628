"""Where limits come from: the settings, and several sources together."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from typing_extensions import override

from maxgate.generation.context import ANONYMOUS, Principal
from maxgate.limits.limit import Limit, LimitSource, Scope, ScopeKind, Unit
from maxgate.limits.settings import (
    RATES,
    BudgetSettings,
    LimitSettings,
    RateSettings,
    ScopeSettings,
)

_MAX_CALLERS: Final = 10_000
_SCALES: Final[dict[str, tuple[Unit, int]]] = {
    "tokens": ("tokens", 1),
    "requests": ("requests", 1),
    "money": ("money", 1_000_000),
    "gpu_seconds": ("gpu_milliseconds", 1000),
}


class SettingsSource(LimitSource):
    """Limits of the settings.

    Without authentication, everyone is one project; users and keys do not exist, and have no
    limits.
    """

    def __init__(self, settings: LimitSettings) -> None:
        self._settings = settings
        self._found: dict[tuple[str, str, str, str], Sequence[Limit]] = {}

    @property
    @override
    def bounds_requests(self) -> bool:
        scopes = self._settings.list_scopes()
        rates = [rates for scope in scopes for rates in (scope, *scope.models.values())]
        return any(one.tokens_per_request is not None for one in rates)

    @override
    def find(self, principal: Principal, model: str) -> Sequence[Limit]:
        caller = (principal.key_id, principal.owner_id, principal.project_id, model)
        limits = self._found.get(caller)
        if limits is None:
            if len(self._found) >= _MAX_CALLERS:
                self._found.clear()
            limits = self._found[caller] = tuple(self._list(principal, model))
        return limits

    def _list(self, principal: Principal, model: str) -> Iterator[Limit]:
        settings = self._settings
        yield from self._build(settings.everyone, "organization", "", model)
        is_known = principal.key_id or principal.owner_id != ANONYMOUS.owner_id
        # Without authentication, clients choose the project by a header.
        project = (principal if is_known else ANONYMOUS).project_id
        rules = settings.projects.get(project, settings.each_project)
        yield from self._build(rules, "project", project, model)
        if principal.owner_id != ANONYMOUS.owner_id:
            rules = settings.users.get(principal.owner_id, settings.each_user)
            yield from self._build(rules, "user", principal.owner_id, model)
        if principal.key_id:
            rules = settings.keys.get(principal.key_id, settings.each_key)
            yield from self._build(rules, "key", principal.key_id, model)

    def _build(
        self, rules: ScopeSettings | None, kind: ScopeKind, scope_id: str, model: str
    ) -> Iterator[Limit]:
        if rules is None:
            return
        yield from self._list_rates(rules, Scope(kind, scope_id))
        if (rates := rules.models.get(model)) is not None:
            yield from self._list_rates(rates, Scope(kind, scope_id, model))

    def _list_rates(self, rates: RateSettings, scope: Scope) -> Iterator[Limit]:
        zone = self._settings.time_zone
        for name, amount in rates.list_rates():
            unit, window = RATES[name]
            yield Limit(scope, unit, window, amount, name.replace("_", " "), time_zone=zone)
        for budget in rates.budgets:
            yield self._convert(budget, scope)

    def _convert(self, budget: BudgetSettings, scope: Scope) -> Limit:
        unit, scale = _SCALES[budget.unit]
        amount = round(budget.amount * scale)
        name = f"{budget.unit.replace('_', ' ')} budget"
        zone = self._settings.time_zone
        return Limit(scope, unit, budget.window, amount, name, is_budget=True, time_zone=zone)


class CombinedSource(LimitSource):
    """The limits of several sources; all of them apply."""

    def __init__(self, sources: Sequence[LimitSource]) -> None:
        self._sources = sources
        self._joined: dict[tuple[int, ...], tuple[list[Sequence[Limit]], Sequence[Limit]]] = {}

    @property
    @override
    def is_empty(self) -> bool:
        return all(source.is_empty for source in self._sources)

    @property
    @override
    def bounds_requests(self) -> bool:
        return any(source.bounds_requests for source in self._sources)

    @override
    def on_change(self, forget: Callable[[], None]) -> None:
        for source in self._sources:
            source.on_change(forget)

    @override
    def find(self, principal: Principal, model: str) -> Sequence[Limit]:
        found = [source.find(principal, model) for source in self._sources]
        filled = [limits for limits in found if limits]
        if len(filled) <= 1:
            return filled[0] if filled else ()
        # The same object each time, which the planner recognises; the parts keep their ids alive.
        key = tuple([id(limits) for limits in filled])
        joined = self._joined.get(key)
        if joined is None:
            if len(self._joined) >= _MAX_CALLERS:
                self._joined.clear()
            joined = self._joined[key] = filled, tuple([lim for part in filled for lim in part])
        return joined[1]
