"""Rows of usage for tables, JSON and CSV."""

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from maxgate.errors import ConfigurationError
from maxgate.stores.usage import Dimension, UsageEntry
from maxgate.usage.dry_run import TrialResult
from maxgate.usage.rate_cards import Charge, format_amount
from maxgate.usage.reports import ReportBucket, ReportRow

GroupName: TypeAlias = Literal["project", "user", "key", "model"]
DIMENSIONS: Final[Mapping[GroupName, Dimension]] = {
    "project": "project_id",
    "user": "user_id",
    "key": "api_key_id",
    "model": "model",
}
"""Dimension of each name that --by takes, in the order of Group."""
_NAMED: Final = frozenset({"project", "user", "key"})
# A spreadsheet runs text that starts with these as a formula.
_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
_STANDARD_OUTPUT: Final = Path("-")

Names: TypeAlias = Mapping[str, str]
"""Names of projects, users and keys by their ids."""
Row: TypeAlias = dict[str, Any]


def build_rows(
    buckets: Sequence[ReportBucket], groups: Sequence[GroupName], names: Names, *, has_time: bool
) -> list[Row]:
    """Return one row per group and bucket; amounts are decimal text."""
    return [
        {
            **({"start_at": bucket.start, "end_at": bucket.end} if has_time else {}),
            **_describe_group(row, groups, names),
            **describe_sums(row),
        }
        for bucket in buckets
        for row in bucket.rows
    ]


def list_columns(groups: Sequence[GroupName], *, has_time: bool) -> list[str]:
    """Return the columns of the rows of `build_rows`."""
    columns = ["start_at", "end_at"] if has_time else []
    for group in groups:
        columns += [group, f"{group}_name"] if group in _NAMED else [group]
    return columns + list(describe_sums(ReportRow((None,) * 4)))


def _describe_group(row: ReportRow, groups: Sequence[GroupName], names: Names) -> Row:
    ids = dict(zip(DIMENSIONS, row.group, strict=True))
    fields: Row = {}
    for group in groups:
        found = ids[group] or ""
        fields[group] = found
        if group in _NAMED:
            fields[f"{group}_name"] = names.get(found)
    return fields


def describe_sums(row: ReportRow) -> Row:
    """Return the usage of a row, with cost, price and margin."""
    return {
        "requests": row.requests,
        "input_tokens": row.input_tokens,
        "cached_tokens": row.cached_tokens,
        "output_tokens": row.output_tokens,
        "gpu_seconds": round(row.gpu_seconds, 3),
        **_describe_charge(row.charge),
    }


def _describe_charge(charge: Charge) -> Row:
    cost, price = charge.cost.total, charge.price.total
    return {
        "cost": format_amount(cost),
        "price": format_amount(price),
        "margin": format_amount(price - cost),
    }


def describe_entry(entry: UsageEntry, charge: Charge) -> Row:
    """Return a line of the ledger, with cost and price."""
    return {
        "finished_at": format_time(entry.finished_at),
        "request": entry.request_id,
        "project": entry.project_id,
        "user": entry.user_id,
        "key": entry.api_key_id,
        "model": entry.model,
        "kind": entry.kind,
        "outcome": entry.outcome,
        "status": entry.status,
        "stream": entry.is_stream,
        "cached": entry.is_cached,
        "attempts": entry.attempts,
        "engine": entry.engine,
        "input_tokens": entry.input_tokens,
        "cached_tokens": entry.cached_tokens,
        "output_tokens": entry.output_tokens,
        "queue_seconds": round(entry.queue_seconds, 6),
        "first_token_seconds": entry.first_token_seconds,
        "total_seconds": round(entry.total_seconds, 6),
        "gpu_seconds": round(entry.gpu_seconds, 6),
        "tags": dict(entry.tags),
        "decisions": list(entry.decisions),
        **_describe_charge(charge),
    }


def describe_trial(result: TrialResult, names: Names, *, peak: float | None) -> Row:
    """Return the result of a dry run for one scope."""
    times = (result.first_refused_at, result.last_refused_at)
    first, last = (None if at is None else format_time(at) for at in times)
    return {
        "id": result.scope_id,
        "name": names.get(result.scope_id),
        "requests": result.requests,
        "refused": result.refused,
        "refused_percent": round(100 * result.refused / max(result.requests, 1), 1),
        "peak": peak,
        "first_refused": first,
        "last_refused": last,
    }


def format_time(seconds: float) -> str:
    """Format a time in UTC, with milliseconds."""
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def sum_amounts(rows: Sequence[Row], column: str) -> Decimal:
    """Return the sum of a column of amounts."""
    return sum((Decimal(row[column]) for row in rows), Decimal(0))


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Write rows as CSV (RFC 4180) in UTF-8; `-` is standard output.

    Raises ConfigurationError if the file cannot be written.
    """
    try:
        with (
            nullcontext(sys.stdout)
            if path == _STANDARD_OUTPUT
            else path.open("w", encoding="utf-8", newline="") as file
        ):
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows([[format_csv_cell(row[c], c) for c in columns] for row in rows])
    except OSError as error:
        raise ConfigurationError(f"--csv {path}: {error.strerror}") from error


def format_csv_cell(value: Any, column: str = "") -> Any:
    """Return a cell; text that a spreadsheet would run as a formula gets an apostrophe in front.

    Amounts are decimal text of this program, times in Unix seconds become text, and lists, objects
    and truth values JSON.
    """
    if column in {"start_at", "end_at"}:
        return format_time(value)
    if value is None:
        return ""
    if isinstance(value, bool | dict | list):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and column not in {"cost", "price", "margin"}:
        return f"'{value}" if value.startswith(_FORMULA_STARTS) else value
    return value
