"""`maxgate usage`: usage with its cost and price, and dry runs of limits, from the database."""

from collections.abc import Sequence
from typing import Annotated, Final, get_args

import typer

from maxgate.cli.key_options import split_list
from maxgate.cli.tables import print_rows, say
from maxgate.cli.usage_database import load_names, read_entries, read_usage
from maxgate.cli.usage_options import (
    CsvOption,
    FromOption,
    JsonOption,
    LastDayOption,
    LastOption,
    ToOption,
    choose_interval,
)
from maxgate.cli.usage_tables import (
    DIMENSIONS,
    GroupName,
    Row,
    build_rows,
    describe_entry,
    list_columns,
    sum_amounts,
    write_csv,
)
from maxgate.cli.usage_trial import try_limit
from maxgate.errors import ConfigurationError
from maxgate.settings import Settings, load_settings
from maxgate.stores.usage import Dimension, EntryQuery, Width
from maxgate.usage.reports import ReportQuery, ReportRow

_SHORT_SECONDS: Final = 2 * 86_400
"""Intervals up to this are read to the minute, and longer ones to the hour."""
_ENTRY_COLUMNS: Final = (
    "finished_at",
    "request",
    "project",
    "key",
    "model",
    "outcome",
    "input_tokens",
    "output_tokens",
    "total_seconds",
    "price",
)


def commands() -> typer.Typer:
    """Build the command and its subcommands."""
    app = typer.Typer(help="Report usage with its cost and price.")
    app.callback(invoke_without_command=True)(show)
    app.command("entries")(list_entries)
    app.command("try-limit")(try_limit)
    return app


def show(
    context: typer.Context,
    by: Annotated[
        str, typer.Option(help="Groups: project, user, key and model; comma-separated, or none.")
    ] = "project,model",
    last: LastOption = None,
    begin: FromOption = None,
    end: ToOption = None,
    width: Annotated[
        Width | None,
        typer.Option(help="Report each minute, hour or day.", show_default="the whole time"),
    ] = None,
    *,
    as_json: JsonOption = False,
    csv_file: CsvOption = None,
) -> None:
    """Report usage with its cost and price.

    The hours at the edges of the interval count as a whole; the minutes if it is up to 2 days long.
    """
    if context.invoked_subcommand is not None:
        return
    groups = _parse_groups(by)
    start_at, end_at = choose_interval(last or ("30d" if begin is None else None), begin, end)
    settings = load_settings()
    read_width: Width = "1h" if end_at - start_at <= _SHORT_SECONDS else "1d"
    dimensions: frozenset[Dimension] = frozenset(DIMENSIONS[group] for group in groups)
    query = ReportQuery(width or read_width, start_at, end_at, group_by=dimensions)
    buckets = read_usage(settings, query, by_bucket=width is not None)
    names = load_names(settings, groups)
    rows = build_rows(buckets, groups, names, has_time=width is not None)
    columns = list_columns(groups, has_time=width is not None)
    if csv_file is not None:
        write_csv(csv_file, columns, rows)
    else:
        print_rows(columns, rows, as_json=as_json)
    _say_sums(settings, rows, [row for bucket in buckets for row in bucket.rows])


def list_entries(
    request: Annotated[
        str | None, typer.Option(help="Id of a request, as in x-request-id.", metavar="ID")
    ] = None,
    project: Annotated[str | None, typer.Option(help="Id of a project.")] = None,
    key: Annotated[str | None, typer.Option(help="Id of a key.")] = None,
    last: LastDayOption = None,
    begin: FromOption = None,
    end: ToOption = None,
    limit: Annotated[int, typer.Option(help="Maximum number of lines.", min=1)] = 100,
    *,
    as_json: JsonOption = False,
    csv_file: CsvOption = None,
) -> None:
    """List requests in the ledger, newest first; JSON and CSV have all fields."""
    if last is None and begin is None and request is None:
        last = "1d"
    start_at, end_at = choose_interval(last, begin, end)
    filters: dict[Dimension, frozenset[str]] = {}
    if project is not None:
        filters["project_id"] = frozenset({project})
    if key is not None:
        filters["api_key_id"] = frozenset({key})
    query = EntryQuery(start_at, end_at, filters, request, limit=limit)
    rows = [describe_entry(*line) for line in read_entries(load_settings(), query)]
    if request is not None and not rows:
        raise ConfigurationError(f"the ledger has no request with the id {request[:100]!r}")
    if csv_file is not None:
        write_csv(csv_file, list(rows[0]) if rows else _ENTRY_COLUMNS, rows)
    else:
        print_rows(_ENTRY_COLUMNS, rows, as_json=as_json)
    if len(rows) == limit and not request:
        say(f"There may be more than these {limit}; raise --limit or choose a shorter time.")


def _parse_groups(by: str) -> list[GroupName]:
    names = split_list([by]) if by not in {"", "none"} else []
    unknown = [name for name in names or () if name not in get_args(GroupName)]
    if unknown:
        raise typer.BadParameter(
            f"{unknown[0][:50]!r} is not one of {', '.join(DIMENSIONS)}", param_hint="--by"
        )
    return [group for group in DIMENSIONS if group in (names or ())]


def _say_sums(settings: Settings, rows: Sequence[Row], found: Sequence[ReportRow]) -> None:
    """Print the sums, and the models without a rate card."""
    requests = sum(row.requests for row in found)
    cost, price = (sum_amounts(rows, column) for column in ("cost", "price"))
    currency = settings.pricing.currency.upper()
    say(f"Sum: {requests} requests, cost {cost:f}, price {price:f} {currency}.")
    unpriced = sorted({model for row in found for model in row.unpriced_models})
    if unpriced:
        say(f"No rate card in pricing.rate_cards, so no cost: {', '.join(unpriced)}.")
