"""`maxgate usage try-limit`: the dry run of a limit over recorded requests."""

from collections.abc import Sequence
from typing import Annotated, Final
from zoneinfo import ZoneInfo

import typer

from maxgate.cli.limits import LimitUnit, find_served_name, parse_amount, to_number, to_unit
from maxgate.cli.tables import print_rows, say
from maxgate.cli.usage_database import load_names, read_entries
from maxgate.cli.usage_options import (
    FromOption,
    JsonOption,
    LastDayOption,
    ToOption,
    choose_interval,
)
from maxgate.cli.usage_tables import describe_trial
from maxgate.errors import ConfigurationError
from maxgate.limits.limit import ScopeKind, Window
from maxgate.limits.windows import find_span
from maxgate.settings import Settings, load_settings
from maxgate.stores.usage import EntryQuery, UsageEntry
from maxgate.usage.dry_run import Trial, replay
from maxgate.usage.rate_cards import RateCards

MAX_ENTRIES: Final = 1_000_000
"""Lines of the ledger that a dry run replays; each takes about 1 KB of memory."""
_COLUMNS: Final = ("id", "name", "requests", "refused", "refused_percent", "peak")


def try_limit(
    amount: Annotated[
        str,
        typer.Argument(help="Whole number; of money or GPU seconds, also such as 99.50."),
    ],
    unit: Annotated[LimitUnit, typer.Option(help="Unit of the amount.")],
    per: Annotated[
        Window | None,
        typer.Option(
            help="Calendar window; `maxgate limits set` has no default for it.",
            show_default="minute, or none if the unit has none",
        ),
    ] = None,
    scope: Annotated[ScopeKind, typer.Option(help="Scope that has the limit.")] = "key",
    model: Annotated[
        str | None,
        typer.Option(help="Name or alias of a model.", show_default="all together"),
    ] = None,
    *,
    time_zone: Annotated[str, typer.Option(help="Time zone of the windows.")] = "UTC",
    last: LastDayOption = None,
    begin: FromOption = None,
    end: ToOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replay recorded requests against a limit, and list who would have been refused."""
    has_window = unit not in {"concurrent_requests", "tokens_per_request"}
    if per is not None and has_window != (per != "none"):
        raise typer.BadParameter(
            "only concurrent_requests and tokens_per_request have the window none, and no other",
            param_hint="--per",
        )
    window = per or ("minute" if has_window else "none")
    number = parse_amount(amount, unit)
    _check_time_zone(time_zone)
    start_at, end_at = choose_interval(last or ("1d" if begin is None else None), begin, end)
    settings = load_settings()
    query = EntryQuery(start_at, end_at, limit=MAX_ENTRIES + 1)
    entries = [entry for entry, _ in read_entries(settings, query)]
    if len(entries) > MAX_ENTRIES:
        raise ConfigurationError(
            f"the ledger has more than {MAX_ENTRIES:,} requests in this time; choose a shorter one"
        )
    served = None if model is None else _find_model(settings, model, entries)
    trial = Trial(scope, to_unit(unit), window, number, served, time_zone)
    results = replay(entries, trial, find_span, RateCards(settings.pricing))
    names = {} if scope == "organization" else load_names(settings, [scope])
    rows = [
        describe_trial(result, names, peak=to_number(result.peak, unit))
        for result in results
        if result.refused or as_json
    ]
    print_rows(_COLUMNS, rows, as_json=as_json)
    refused, requests = (sum(getattr(r, n) for r in results) for n in ("refused", "requests"))
    counted = f"{requests} request" if requests == 1 else f"{requests} requests"
    holders = f"{len(results)} {scope}" if len(results) == 1 else f"{len(results)} {scope}s"
    say(f"{refused} of {counted} of {holders} would have been refused.")


def _find_model(settings: Settings, model: str, entries: Sequence[UsageEntry]) -> str:
    """Return the name of a model in the ledger, with a warning if the model is unknown."""
    name = find_served_name(settings, model)
    if name is None and not any(entry.model == model for entry in entries):
        say(
            f"Warning: neither a model card nor a request in this time has the model "
            f"{model[:100]!r}; `maxgate models list` lists the models."
        )
    return name or model


def _check_time_zone(name: str) -> None:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        raise typer.BadParameter(
            f"{name[:50]!r} is not a time zone such as Europe/Berlin", param_hint="--time-zone"
        ) from None
