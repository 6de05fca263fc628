"""Limits and budgets of keys, users, projects and the organization."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final
from zoneinfo import ZoneInfo

from maxgate.auth.organization.changes import (
    Change,
    check_name,
    check_version,
    create_id,
    remove,
    require,
)
from maxgate.auth.organization.projects import get_active_project, get_project
from maxgate.errors import Conflict, InvalidRequest
from maxgate.stores.identity import IdentityTransaction, Page, Project
from maxgate.stores.limits import (
    MAX_AMOUNT,
    ScopeKey,
    SpendAlert,
    StoredLimit,
    Unit,
    Window,
)

MAX_LIMITS: Final = 1000
"""Limits of one scope, at most."""
MAX_ALERTS: Final = 100
"""Spend alerts of a project or the organization, at most."""
BUDGET_WINDOWS: Final[Sequence[Window]] = ("hour", "day", "week", "month", "total")
RATE_WINDOWS: Final[Sequence[Window]] = ("minute", "hour", "day", "week", "month")
BUDGET_UNITS: Final[Sequence[Unit]] = (
    *("money", "tokens", "input_tokens", "output_tokens", "gpu_milliseconds", "requests"),
)
RATE_UNITS: Final[Sequence[Unit]] = ("requests", "tokens", "input_tokens", "output_tokens")
POINT_UNITS: Final[Sequence[Unit]] = ("concurrent_requests", "tokens_per_request")
"""Units that have no window."""


@dataclass(frozen=True, slots=True)
class NewLimit:
    """A limit to set; see StoredLimit."""

    unit: Unit
    window: Window
    amount: int | None
    model: str = ""
    is_budget: bool = False
    time_zone: str = "UTC"
    alert_percents: tuple[int, ...] = ()
    alert_amount: int | None = None


@dataclass(frozen=True, slots=True)
class Holder:
    """An existing scope, and its project; None for users and the organization."""

    scope: ScopeKey
    project: Project | None = None

    @property
    def project_id(self) -> str:
        """The project of its limits."""
        return "" if self.project is None else self.project.id


ORGANIZATION: Final = Holder(ScopeKey("organization"))


async def hold_project(rows: IdentityTransaction, project_id: str) -> Holder:
    """Return the scope of a project; raises NotFound."""
    project = await get_project(rows, project_id)
    return Holder(ScopeKey("project", project_id), project)


async def hold_key(rows: IdentityTransaction, project_id: str, key_id: str) -> Holder:
    """Return the scope of a key; raises NotFound."""
    project = await get_project(rows, project_id)
    require(await rows.keys.find(project_id, key_id), "API key", key_id)
    return Holder(ScopeKey("key", key_id), project)


async def hold_user(rows: IdentityTransaction, user_id: str) -> Holder:
    """Return the scope of a user, whose limits count in all projects; raises NotFound."""
    require(await rows.users.find(user_id), "user", user_id)
    return Holder(ScopeKey("user", user_id))


async def hold_service_account(
    rows: IdentityTransaction, project_id: str, account_id: str
) -> Holder:
    """Return the scope of a service account; raises NotFound."""
    project = await get_project(rows, project_id)
    account = await rows.service_accounts.find(project_id, account_id)
    require(account, "service account", account_id)
    return Holder(ScopeKey("user", account_id), project)


async def list_limits(rows: IdentityTransaction, holder: Holder) -> list[StoredLimit]:
    """Return the limits of a scope, oldest first."""
    kind, scope_id = holder.scope
    found = await rows.limits.list(
        Page(limit=MAX_LIMITS), project_id=holder.project_id, scope=kind, scope_id=scope_id
    )
    return found.items


async def find_limit(
    rows: IdentityTransaction, holder: Holder, unit: Unit, window: Window, model: str = ""
) -> StoredLimit | None:
    """Return the limit of a scope for a unit, window and model."""
    kind, scope_id = holder.scope
    where = {"scope": kind, "scope_id": scope_id, "unit": unit, "window": window, "model": model}
    found = await rows.limits.list(Page(limit=1), project_id=holder.project_id, **where)
    return found.items[0] if found.items else None


async def set_limit(
    change: Change, holder: Holder, new: NewLimit, *, version: int | None = None
) -> StoredLimit:
    """Set a limit; replaces that of the same scope, unit, window and model."""
    check_limit(new)
    await _require_active(change, holder)
    found = await find_limit(change.rows, holder, new.unit, new.window, new.model)
    check_version(found.version if found else 0, version)
    kind, scope_id = holder.scope
    wanted = StoredLimit(
        project_id=holder.project_id,
        id=create_id("limit_") if found is None else found.id,
        scope=kind,
        scope_id=scope_id,
        model=new.model,
        unit=new.unit,
        window=new.window,
        amount=new.amount,
        created_at=change.now if found is None else found.created_at,
        time_zone=new.time_zone,
        is_budget=new.is_budget,
        alert_percents=tuple(sorted(set(new.alert_percents))),
        alert_amount=new.alert_amount,
    )
    if found is None:
        if len(await list_limits(change.rows, holder)) >= MAX_LIMITS:
            raise Conflict(f"There are {MAX_LIMITS} limits already. Remove one of them.")
        await change.rows.limits.add(wanted)
        stored = wanted
    else:
        stored = await change.rows.limits.update(replace(wanted, version=found.version))
    await _record(change, "updated", stored, holder, changes_requested=_describe(stored))
    return stored


async def remove_limit(
    change: Change, holder: Holder, limit: StoredLimit, *, version: int | None = None
) -> None:
    """Remove a limit that was read."""
    check_version(limit.version, version)
    await _require_active(change, holder)
    await remove(change.rows.limits, limit, limit.project_id, limit.id)
    await _record(change, "deleted", limit, holder)


async def remove_limits(change: Change, holder: Holder) -> None:
    """Remove all limits of a key, user or service account that is deleted with them."""
    for limit in await list_limits(change.rows, holder):
        await change.rows.limits.delete(limit.project_id, limit.id)


def check_limit(new: NewLimit) -> None:
    """Raise InvalidRequest for a limit that cannot be meant."""
    _check_kind(new)
    for name in ("amount", "alert_amount"):
        amount = getattr(new, name)
        if amount is not None and not 0 <= amount <= MAX_AMOUNT:
            raise InvalidRequest(f"'{name}' must be 0 to {MAX_AMOUNT}, not {amount}.", param=name)
    if new.amount is None and new.alert_amount is None:
        raise InvalidRequest("'amount' is required.", param="amount")
    if new.model:
        check_name(new.model, "model")
    _check_alerts(new)
    try:
        ZoneInfo(new.time_zone)
    except (KeyError, ValueError, OSError):
        raise InvalidRequest(
            f"'time_zone' {new.time_zone[:100]!r} is unknown; write one such as UTC or "
            "Europe/Berlin.",
            param="time_zone",
        ) from None


def _check_kind(new: NewLimit) -> None:
    if new.unit in POINT_UNITS:
        windows: Sequence[Window] = ("none",)
    else:
        windows = BUDGET_WINDOWS if new.is_budget else RATE_WINDOWS
    if new.window not in windows:
        kind = "a budget" if new.is_budget else "a limit"
        raise InvalidRequest(
            f"'window' of {kind} of {new.unit} must be one of {', '.join(windows)}, not "
            f"{new.window}.",
            param="window",
        )
    if new.unit not in (BUDGET_UNITS if new.is_budget else (*RATE_UNITS, *POINT_UNITS)):
        if new.is_budget:
            rule = f"a budget must be of {', '.join(BUDGET_UNITS)}"
        else:
            rule = f"{new.unit} must be a budget"
        raise InvalidRequest(f"'unit' {new.unit} has another kind of limit: {rule}.", param="unit")


def _check_alerts(new: NewLimit) -> None:
    if new.alert_percents and (not new.is_budget or new.amount is None):
        raise InvalidRequest("'alert_percents' need a budget with an amount.", param="amount")
    if new.alert_amount is not None and not new.is_budget:
        raise InvalidRequest("'alert_amount' needs a budget.", param="alert_amount")
    if len(new.alert_percents) > MAX_ALERTS or any(
        not 1 <= percent <= 99 for percent in new.alert_percents
    ):
        raise InvalidRequest(
            "'alert_percents' must be 1 to 99: shares of the budget before it is used up.",
            param="alert_percents",
        )


async def get_spend_alert(rows: IdentityTransaction, holder: Holder, alert_id: str) -> SpendAlert:
    """Return an alert of a project or the organization; raises NotFound."""
    found = await rows.spend_alerts.find(holder.project_id, alert_id)
    return require(found, "spend alert", alert_id)


async def save_spend_alert(
    change: Change,
    holder: Holder,
    alert_id: str | None,
    amount: int,
    recipients: Sequence[str],
    subject_prefix: str | None,
    *,
    version: int | None = None,
) -> SpendAlert:
    """Create an alert, or replace the one with this id."""
    if not 1 <= amount <= MAX_AMOUNT:
        raise InvalidRequest(
            f"'threshold_amount' must be 1 to {MAX_AMOUNT // 10_000}.", param="threshold_amount"
        )
    for index, recipient in enumerate(recipients):
        param = f"notification_channel.recipients[{index}]"
        if "@" not in check_name(recipient, param):
            raise InvalidRequest(f"'{param}' must be an e-mail address.", param=param)
    if subject_prefix:
        check_name(subject_prefix, "notification_channel.subject_prefix")
    await _require_active(change, holder)
    if alert_id is None:
        page, project_id = Page(limit=MAX_ALERTS), holder.project_id
        if len((await change.rows.spend_alerts.list(page, project_id=project_id)).items) >= (
            MAX_ALERTS
        ):
            raise Conflict(f"There are {MAX_ALERTS} alerts already. Delete one of them.")
        stored = SpendAlert(
            project_id,
            create_id("alert_"),
            amount,
            tuple(recipients),
            subject_prefix,
            change.now,
        )
        await change.rows.spend_alerts.add(stored)
        event = "spend_alert.created"
    else:
        found = await get_spend_alert(change.rows, holder, alert_id)
        check_version(found.version, version)
        wanted = replace(
            found, amount=amount, recipients=tuple(recipients), subject_prefix=subject_prefix
        )
        stored = await change.rows.spend_alerts.update(wanted)
        event = "spend_alert.updated"
    requested = {"amount": amount, "recipients": list(recipients), "prefix": subject_prefix}
    await change.record(event, stored.id, holder.project, changes_requested=requested)
    return stored


async def delete_spend_alert(
    change: Change, holder: Holder, alert_id: str, *, version: int | None = None
) -> None:
    """Delete an alert."""
    found = await get_spend_alert(change.rows, holder, alert_id)
    check_version(found.version, version)
    await _require_active(change, holder)
    await remove(change.rows.spend_alerts, found, found.project_id, alert_id)
    await change.record("spend_alert.deleted", alert_id, holder.project)


async def _require_active(change: Change, holder: Holder) -> None:
    if holder.project is not None:
        await get_active_project(change.rows, holder.project.id)


async def _record(
    change: Change, verb: str, limit: StoredLimit, holder: Holder, **details: object
) -> None:
    kind = "spend_limit" if limit.is_budget else "rate_limit"  # the latter is OpenAI's
    await change.record(f"{kind}.{verb}", limit.id, holder.project, **details)


def _describe(limit: StoredLimit) -> dict[str, object]:
    return {
        "scope": {"type": limit.scope, "id": limit.scope_id},
        "model": limit.model or None,
        "unit": limit.unit,
        "window": limit.window,
        "amount": limit.amount,
        "time_zone": limit.time_zone,
        "alert_percents": list(limit.alert_percents),
        "alert_amount": limit.alert_amount,
    }
