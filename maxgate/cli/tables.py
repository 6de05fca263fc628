"""Plain tables and JSON on standard output, and remarks and questions on standard error."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import typer

from maxgate.errors import ConfigurationError


def print_rows(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """Print a table with these columns of the rows, or a JSON list of the whole rows."""
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    cells = [columns, *[[format_cell(column, row[column]) for column in columns] for row in rows]]
    widths = [max(len(line[at]) for line in cells) for at in range(len(columns))]
    for line in cells:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(padded).rstrip())


def print_object(row: Mapping[str, Any], *, as_json: bool) -> None:
    """Print one field per line, or a JSON object."""
    if as_json:
        print(json.dumps(row, indent=2))
        return
    width = max(map(len, row))
    for field, value in row.items():
        print(f"{field.ljust(width)}  {format_cell(field, value)}")


def format_cell(column: str, value: Any) -> str:
    """Format a value; a number in a column such as `created_at` is a time in Unix seconds."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value in ("", [], {}):
        return "-"
    if column.endswith("_at") and isinstance(value, int):
        return datetime.fromtimestamp(value, UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    return json.dumps(value) if isinstance(value, dict) else str(value)


def say(text: str) -> None:
    """Print a remark on standard error, so that standard output has the result alone."""
    typer.echo(text, err=True)


def confirm(question: str, *, yes: bool, err: bool = True) -> None:
    """Ask for confirmation, unless `yes`; exits with 1 if it is refused.

    Raises ConfigurationError if standard input ends without an answer, as without a terminal.
    """
    if yes:
        return
    try:
        confirmed = typer.confirm(question, err=err)
    except typer.Abort as error:
        if not isinstance(error.__context__, EOFError):  # Ctrl-C
            raise
        typer.echo(err=err)
        raise ConfigurationError(
            "there is no terminal to ask for confirmation; confirm with --yes"
        ) from None
    if not confirmed:
        raise typer.Exit(1)
