"""`maxgate usage try-limit`: the dry run of a limit over recorded requests."""

from typing import Annotated, Final
from zoneinfo import ZoneInfo

import typer

from maxgate.cli.limits import LimitUnit, parse_amount, to_number, to_unit
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
from maxgate.settings import load_settings
from maxgate.stores.usage import EntryQuery
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
        typer.Option(help="Calendar window.", show_default="minute, or none if the unit has none"),
    ] = None,
    scope: Annotated[ScopeKind, typer.Option(help="Scope that has the limit.")] = "key",
    model: Annotated[str | None, typer.Option(help="Count this model only.")] = None,
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
    trial = Trial(scope, to_unit(unit), window, number, model, time_zone)
    results = replay(entries, trial, find_span, RateCards(settings.pricing))
    names = {} if scope == "organization" else load_names(settings, [scope])
    rows = [
        describe_trial(result, names, peak=to_number(result.peak, unit))
        for result in results
        if result.refused or as_json
    ]
    print_rows(_COLUMNS, rows, as_json=as_json)
    refused, requests = (sum(getattr(r, n) for r in results) for n in ("refused", "requests"))
    say(f"{refused} of {requests} requests of {len(results)} would have been refused.")


def _check_time_zone(name: str) -> None:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        raise typer.BadParameter(
            f"{name[:50]!r} is not a time zone such as Europe/Berlin", param_hint="--time-zone"
        ) from None
