"""`maxgate limits`: list, set and remove limits and budgets in the database."""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Final, Literal

import typer

from maxgate.auth.organization import limits
from maxgate.auth.organization.changes import Change
from maxgate.auth.organization.limits import ORGANIZATION, Holder, NewLimit
from maxgate.cli.organization import (
    change,
    find_key,
    find_project,
    find_user,
    list_all,
    load_database_settings,
    read,
)
from maxgate.cli.tables import print_object, print_rows, say
from maxgate.errors import ConfigurationError, InvalidRequest
from maxgate.model_cards.loader import load_cards
from maxgate.settings import Settings
from maxgate.stores.identity import AdminKey, IdentityTransaction, Page
from maxgate.stores.limits import ScopeKey, StoredLimit, Unit, Window

LimitUnit = Literal[
    "requests",
    "tokens",
    "input_tokens",
    "output_tokens",
    "concurrent_requests",
    "tokens_per_request",
    "money",
    "gpu_seconds",
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ProjectOption = Annotated[
    str | None, typer.Option(help="Id or name of a project.", metavar="PROJECT")
]
_COLUMNS: Final = ("id", "scope", "of", "model", "amount", "unit", "per", "budget", "alert_at")
# Steps of a unit in the database, for those that are shown in another one.
_FACTORS: Final[Mapping[str, int]] = {"money": 10**6, "gpu_seconds": 1000}
_ONLY_BUDGETS: Final = frozenset(_FACTORS)
_MAX_PROJECTS: Final = 500
# Flags and units in place of the names that the rules of limits have in the API.
_TERMS: Final[Mapping[str, str]] = {
    "'window'": "--per",
    "'unit'": "--unit",
    "'model'": "--model",
    "'time_zone'": "--time-zone",
    "'alert_percents'": "--alert-at",
    "gpu_milliseconds": "gpu_seconds",
}


def commands() -> typer.Typer:
    """Build the subcommands."""
    app = typer.Typer(help="List, set and remove limits and budgets.", no_args_is_help=True)
    app.command("list")(list_limits)
    app.command("set")(set_limit)
    app.command("remove")(remove)
    return app


def list_limits(project: ProjectOption = None, *, as_json: JsonOption = False) -> None:
    """List all limits, or those of a project, its keys and its service accounts."""

    async def work(rows: IdentityTransaction) -> list[StoredLimit]:
        if project is not None:
            ids = [(await find_project(rows, project)).id]
        else:
            ids = ["", *(found.id for found in await list_all(rows.projects))]
        return [
            limit
            for start in range(0, len(ids), _MAX_PROJECTS)
            for limit in await list_all(rows.limits, project_id=ids[start : start + _MAX_PROJECTS])
        ]

    print_rows(_COLUMNS, list(map(describe_limit, read(work))), as_json=as_json)


def set_limit(
    amount: Annotated[
        str,
        typer.Argument(help="Whole number; of money or GPU seconds, also such as 99.50."),
    ],
    unit: Annotated[LimitUnit, typer.Option(help="Unit of the amount.")],
    per: Annotated[
        Window,
        typer.Option(
            help="Calendar window; required, except by the units that have none.",
            show_default="none, for concurrent_requests and tokens_per_request only",
        ),
    ] = "none",
    project: ProjectOption = None,
    user: Annotated[
        str | None,
        typer.Option(
            help="Id or e-mail address of a user, in all projects; or id of a service account.",
            metavar="USER",
        ),
    ] = None,
    key: Annotated[str | None, typer.Option(help="Id of a key.", metavar="ID")] = None,
    *,
    model: Annotated[
        str, typer.Option(help="Name or alias of a model.", show_default="all together")
    ] = "",
    time_zone: Annotated[
        str, typer.Option(help="Time zone of the windows, such as Europe/Berlin.")
    ] = "UTC",
    alert_at: Annotated[
        list[str] | None,
        typer.Option(help="Share of a budget to report, such as 80%; repeatable."),
    ] = None,
    budget: Annotated[
        bool,
        typer.Option("--budget", help="Refuse as a budget; money and GPU seconds always are one."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Set a limit of the organization, or of one project, user or key; replaces the one before.

    There is one limit for each of these, unit, window and model.
    """
    if sum(option is not None for option in (project, user, key)) > 1:
        raise typer.BadParameter("a limit has one of --project, --user and --key")
    new = NewLimit(
        unit=to_unit(unit),
        window=per,
        amount=parse_amount(amount, unit),
        model=model,
        is_budget=budget or unit in _ONLY_BUDGETS,
        time_zone=time_zone,
        alert_percents=tuple(map(_parse_percent, alert_at or ())),
    )
    settings = load_database_settings()

    async def work(transaction: Change) -> StoredLimit:
        holder = await _find_holder(transaction.rows, project, user, key)
        try:
            return await limits.set_limit(transaction, holder, new)
        except InvalidRequest as error:
            raise ConfigurationError(_rename(str(error))) from error

    limit = change(work)
    if as_json:
        print_object(describe_limit(limit), as_json=True)
    else:
        print(limit.id)
    say(f"{limit.id} is set. Running gateways take it over within 2 s.")
    if model:
        _check_model(settings, limit)


def remove(
    limit_id: Annotated[str, typer.Argument(help="Id, as in the list.", metavar="ID")],
) -> None:
    """Remove a limit."""

    async def work(transaction: Change) -> StoredLimit:
        limit = await _find_limit(transaction.rows, limit_id)
        holder = Holder(limit.scope_key)
        if limit.project_id:
            found = await transaction.rows.projects.find(limit.project_id)
            holder = Holder(limit.scope_key, found)
        await limits.remove_limit(transaction, holder, limit)
        return limit

    say(f"{change(work).id} is removed. Running gateways take it over within 2 s.")


def describe_limit(limit: StoredLimit) -> dict[str, Any]:
    """Return the fields of a limit that lists show; money is in the currency of the prices."""
    unit = "gpu_seconds" if limit.unit == "gpu_milliseconds" else limit.unit
    return {
        "id": limit.id,
        "scope": limit.scope,
        "of": limit.scope_id,
        "project": limit.project_id,
        "model": limit.model or None,
        "amount": to_number(limit.amount, unit),
        "unit": unit,
        "per": None if limit.window == "none" else limit.window,
        "budget": limit.is_budget,
        "time_zone": limit.time_zone,
        "alert_at": [f"{percent}%" for percent in limit.alert_percents],
        "alert_amount": to_number(limit.alert_amount, unit),
        "created_at": limit.created_at,
    }


def _check_model(settings: Settings, limit: StoredLimit) -> None:
    """Warn about a model without a card here; gateways on other hosts may have one."""
    try:
        if find_served_name(settings, limit.model) is not None:
            return
        reason = f"no model card here has the name or alias {limit.model[:100]!r}"
    except ConfigurationError as error:
        reason = f"the model cards cannot be read: {error}"
    say(
        f"Warning: {reason}. The limit has no effect where no gateway serves the model; "
        f"`maxgate models list` lists the models here, and `maxgate limits remove {limit.id}` "
        "removes the limit."
    )


async def _find_holder(
    rows: IdentityTransaction, project: str | None, user: str | None, key: str | None
) -> Holder:
    if project is not None:
        found = await find_project(rows, project)
        return Holder(ScopeKey("project", found.id), found)
    if key is not None:
        api_key = await find_key(rows, key)
        if isinstance(api_key, AdminKey):
            raise ConfigurationError(f"{api_key.id} is an admin key, which cannot use models")
        return await limits.hold_key(rows, api_key.project_id, api_key.id)
    if user is not None:
        for one in await list_all(rows.projects) if user.startswith("svcacct_") else ():
            if await rows.service_accounts.find(one.id, user) is not None:
                return Holder(ScopeKey("user", user), one)
        return Holder(ScopeKey("user", (await find_user(rows, user)).id))
    return ORGANIZATION


async def _find_limit(rows: IdentityTransaction, limit_id: str) -> StoredLimit:
    ids = ["", *(project.id for project in await list_all(rows.projects))]
    for start in range(0, len(ids), _MAX_PROJECTS):
        found = await rows.limits.list(
            Page(limit=1), project_id=ids[start : start + _MAX_PROJECTS], id=limit_id
        )
        if found.items:
            return found.items[0]
    raise ConfigurationError(
        f"no limit has the id {limit_id[:100]!r}; `maxgate limits list` lists them"
    )


def _rename(message: str) -> str:
    for term, flag in _TERMS.items():
        message = message.replace(term, flag)
    return message


def find_served_name(settings: Settings, model: str) -> str | None:
    """Return the served name of a model by its name or alias, None if no card has it.

    Raises ConfigurationError for invalid cards.
    """
    cards = load_cards(settings.cards, settings.cache_dir)
    return next((card.name for card in cards if model in card.names), None)


def to_unit(unit: LimitUnit) -> Unit:
    """Return the unit of the database."""
    return "gpu_milliseconds" if unit == "gpu_seconds" else unit


def parse_amount(text: str, unit: LimitUnit) -> int:
    """Return the amount in the unit of the database; raises BadParameter."""
    factor = _FACTORS.get(unit, 1)
    try:
        amount = Decimal(text) * factor
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or amount < 0 or amount != amount.to_integral_value():
        digits = len(str(factor)) - 1
        rule = f"a number with up to {digits} decimal places" if digits else "a whole number"
        raise typer.BadParameter(f"{text[:50]!r} is not {rule}, 0 or more", param_hint="AMOUNT")
    return int(amount)


def _parse_percent(text: str) -> int:
    number = text.removesuffix("%")
    if not number.isdecimal() or not number.isascii() or not 1 <= int(number[:5]) <= 99:
        raise typer.BadParameter(
            f"{text[:50]!r} is not a share of 1% to 99%; the end of a budget is always reported",
            param_hint="--alert-at",
        )
    return int(number)


def to_number(amount: int | None, unit: str) -> int | float | None:
    """Return an amount in the unit that is shown."""
    if amount is None or unit not in _FACTORS:
        return amount
    return amount / _FACTORS[unit]
