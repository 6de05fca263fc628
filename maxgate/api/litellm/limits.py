"""LiteLLM's limits and budgets of a key, on the limits of the database."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Final

from pydantic import Field

from maxgate.api.schemas import RequestBody
from maxgate.auth.organization import limits
from maxgate.auth.organization.changes import Change, check_name
from maxgate.auth.organization.limits import Holder, NewLimit
from maxgate.errors import InvalidRequest
from maxgate.stores.identity import ApiKey, IdentityTransaction
from maxgate.stores.limits import MAX_AMOUNT, StoredLimit, Unit, Window

MILLION: Final = 10**6
_MAX_MODELS: Final = 100
_WINDOWS: Final[Mapping[str, Window]] = {
    "1h": "hour",
    "1d": "day",
    "24h": "day",
    "7d": "week",
    "1w": "week",
    "30d": "month",
    "1mo": "month",
}
_DURATIONS: Final[Mapping[Window, str]] = {"hour": "1h", "day": "1d", "week": "7d", "month": "1mo"}
_RATES: Final[Mapping[str, tuple[Unit, Window]]] = {
    "tpm_limit": ("tokens", "minute"),
    "rpm_limit": ("requests", "minute"),
    "max_parallel_requests": ("concurrent_requests", "none"),
}
_MODEL_RATES: Final[Mapping[str, tuple[Unit, Window]]] = {
    "model_tpm_limit": ("tokens", "minute"),
    "model_rpm_limit": ("requests", "minute"),
}
_BUDGET: Final = frozenset({"max_budget", "soft_budget", "budget_duration"})

Money = Annotated[float, Field(ge=0, le=MAX_AMOUNT // MILLION, allow_inf_nan=False)]
Amount = Annotated[int, Field(ge=0, le=MAX_AMOUNT)]
PerModel = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=200)], Amount],
    Field(max_length=_MAX_MODELS),
]


class LimitFields(RequestBody):
    """Limits of a key: money in the currency of the prices, and amounts per minute.

    A budget lasts for a calendar window, or for ever without `budget_duration`. `soft_budget` is
    reported and refuses nothing.
    """

    max_budget: Money | None = None
    soft_budget: Money | None = None
    budget_duration: str | None = Field(default=None, max_length=20)
    tpm_limit: Amount | None = None
    rpm_limit: Amount | None = None
    max_parallel_requests: Amount | None = None
    model_tpm_limit: PerModel | None = None
    model_rpm_limit: PerModel | None = None


class KeyLimits(LimitFields):
    """The limits of a key, as responses have them."""


async def read_key_limits(rows: IdentityTransaction, key: ApiKey) -> KeyLimits:
    """Return the limits of a key."""
    holder = await limits.hold_key(rows, key.project_id, key.id)
    return describe_limits(await limits.list_limits(rows, holder))


async def set_key_limits(change: Change, key: ApiKey, body: LimitFields) -> KeyLimits:
    """Set the limits that the body has; null removes one, and the others stay."""
    given = body.model_fields_set
    holder = await limits.hold_key(change.rows, key.project_id, key.id)
    stored = await limits.list_limits(change.rows, holder)
    for name, (unit, window) in _RATES.items():
        if name in given:
            await _set(change, holder, stored, NewLimit(unit, window, getattr(body, name)))
    for name, (unit, window) in _MODEL_RATES.items():
        if name in given:
            await _set_models(change, holder, stored, name, unit, window, getattr(body, name) or {})
    if given & _BUDGET:
        await _set_budget(change, holder, stored, body)
    return describe_limits(await limits.list_limits(change.rows, holder))


def describe_limits(stored: Sequence[StoredLimit]) -> KeyLimits:
    """Return the limits of a key in LiteLLM's fields, which not all limits have."""
    by_kind = {(row.unit, row.window, row.model): row for row in stored if not row.is_budget}
    found: dict[str, object] = {}
    for name, kind in _RATES.items():
        row = by_kind.get((*kind, ""))
        found[name] = None if row is None else row.amount
    for name, (unit, window) in _MODEL_RATES.items():
        of_models = {
            row.model: row.amount
            for row in by_kind.values()
            if row.model and (row.unit, row.window) == (unit, window)
        }
        found[name] = of_models or None
    budget = _find_budget(stored)
    if budget is not None:
        found |= {
            "max_budget": _to_money(budget.amount),
            "soft_budget": _to_money(budget.alert_amount),
            "budget_duration": _DURATIONS.get(budget.window),
        }
    return KeyLimits.model_validate(found)


async def _set(
    change: Change, holder: Holder, stored: Sequence[StoredLimit], new: NewLimit
) -> None:
    """Set a limit, or remove it if it has no amount."""
    kind = (new.unit, new.window, new.model)
    row = next((row for row in stored if (row.unit, row.window, row.model) == kind), None)
    if new.amount is not None or new.alert_amount is not None:
        await limits.set_limit(change, holder, new)
    elif row is not None:
        await limits.remove_limit(change, holder, row)


async def _set_models(
    change: Change,
    holder: Holder,
    stored: Sequence[StoredLimit],
    name: str,
    unit: Unit,
    window: Window,
    amounts: Mapping[str, int],
) -> None:
    """Set the limits of models; those of other models are removed."""
    for model in amounts:
        check_name(model, f"{name}.{model[:50]}")
    removed: dict[str, int | None] = {
        row.model: None for row in stored if row.model and (row.unit, row.window) == (unit, window)
    }
    for model, amount in (removed | dict(amounts)).items():
        await _set(change, holder, stored, NewLimit(unit, window, amount, model))


async def _set_budget(
    change: Change, holder: Holder, stored: Sequence[StoredLimit], body: LimitFields
) -> None:
    """Set the budget of a key; fields that the body does not have stay as they are."""
    old, given = _find_budget(stored), body.model_fields_set
    amount, alert = (old.amount, old.alert_amount) if old else (None, None)
    window: Window = old.window if old else "total"
    if "max_budget" in given:
        amount = _to_millionths(body.max_budget)
    if "soft_budget" in given:
        alert = _to_millionths(body.soft_budget)
    if "budget_duration" in given:
        window = find_window(body.budget_duration)
    if amount is None and alert is None and body.budget_duration is not None:
        raise InvalidRequest(
            "'budget_duration' has no effect without 'max_budget' or 'soft_budget'. Send one of "
            "them, too.",
            param="budget_duration",
        )
    if old is not None and (old.window != window or (amount is None and alert is None)):
        await limits.remove_limit(change, holder, old)
    if amount is not None or alert is not None:
        new = NewLimit(
            *("money", window, amount),
            is_budget=True,
            time_zone=old.time_zone if old else "UTC",
            alert_percents=old.alert_percents if old and amount is not None else (),
            alert_amount=alert,
        )
        await limits.set_limit(change, holder, new)


def find_window(duration: str | None) -> Window:
    """Return the calendar window of a duration; raises InvalidRequest for another one."""
    if duration is None:
        return "total"
    if duration not in _WINDOWS:
        raise InvalidRequest(
            f"'budget_duration' {duration!r} is not a calendar window. Send 1h, 1d (or 24h), 7d "
            "(or 1w, from Monday), 1mo (or 30d, from the first of the month), or leave it out for "
            "a budget that is never renewed.",
            param="budget_duration",
        )
    return _WINDOWS[duration]


def _find_budget(stored: Sequence[StoredLimit]) -> StoredLimit | None:
    budgets = (row for row in stored if row.is_budget and row.unit == "money" and not row.model)
    return next(budgets, None)


def _to_millionths(amount: float | None) -> int | None:
    if not amount:
        return None if amount is None else 0
    return max(round(Decimal(str(amount)) * MILLION), 1)  # a budget of 0 refuses everything


def _to_money(amount: int | None) -> float | None:
    return None if amount is None else amount / MILLION
