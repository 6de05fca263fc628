"""Options that the commands of usage share."""

import time
from pathlib import Path
from typing import Annotated

import typer

from maxgate.auth.key_file import parse_time
from maxgate.cli.key_options import parse_duration

LastOption = Annotated[
    str | None, typer.Option(help="Time until now, such as 30d, 12h or 15m.", show_default="30d")
]
LastDayOption = Annotated[
    str | None, typer.Option(help="Time until now, such as 1d or 12h.", show_default="1d")
]
FromOption = Annotated[
    str | None,
    typer.Option("--from", help="Date or time of the beginning, such as 2027-01-31, in UTC."),
]
ToOption = Annotated[
    str | None, typer.Option("--to", help="Date or time of the end, excluded.", show_default="now")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
CsvOption = Annotated[
    Path | None,
    typer.Option("--csv", help="Write a CSV file instead; - is standard output.", metavar="FILE"),
]


def choose_interval(last: str | None, begin: str | None, end: str | None) -> tuple[int, int]:
    """Return the edges of the interval in Unix seconds."""
    end_at = int(time.time()) + 1 if end is None else _parse_time(end, "--to")
    if last is not None:
        if begin is not None:
            raise typer.BadParameter("write --from or --last, not both", param_hint="--last")
        seconds = parse_duration(last)
        if seconds is None:
            raise typer.BadParameter(
                f"{last[:50]!r} is not a duration such as 30d, 12h or 15m", param_hint="--last"
            )
        return max(end_at - seconds, 0), end_at
    start_at = _parse_time(begin or "1970-01-01", "--from")
    if start_at >= end_at:
        raise typer.BadParameter("the beginning is not before the end", param_hint="--from")
    return start_at, end_at


def _parse_time(text: str, option: str) -> int:
    try:
        return int(parse_time(text).timestamp())
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None
