"""The options of a new key."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any, Final

import typer
from typer.core import TyperCommand
from typing_extensions import override

from maxgate.auth.key_file import parse_time
from maxgate.generation.context import ServiceClass

_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DURATION: Final = re.compile(r"([1-9]\d{0,4})([mhdw])")
_FILE_OPTION: Final = "--file"


@dataclass(frozen=True, slots=True)
class NewKey:
    """The fields of a key to create; None sets no limit."""

    name: str = ""
    project: str | None = None
    owner: str | None = None
    models: list[str] | None = None
    networks: list[str] | None = None
    expires: datetime | None = None
    service_class: ServiceClass | None = None
    is_admin: bool = False


class FileCommand(TyperCommand):
    """A command whose option `--file` may be without a value, which then is empty."""

    @override
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        following = [*args[1:], "-"]
        completed: list[str] = []
        for argument, after in zip(args, following, strict=False):
            completed.append(argument)
            if argument == _FILE_OPTION and after.startswith("-"):
                completed.append("")
        return super().parse_args(ctx, completed)


def split_list(values: Sequence[str] | None) -> list[str] | None:
    """Return the items of a repeatable option, which may be comma-separated."""
    items = [item.strip() for value in values or () for item in value.split(",")]
    if "" in items:
        raise typer.BadParameter("a list has an empty item; remove it")
    return items or None


def split_networks(values: Sequence[str] | None) -> list[str] | None:
    """Return the networks of a repeatable option."""
    networks = split_list(values)
    for network in networks or ():
        try:
            ip_network(network)
        except ValueError as error:
            raise typer.BadParameter(
                f"{error}; write 10.0.0.0/8 or 2001:db8::1", param_hint="--networks"
            ) from None
    return networks


def parse_expiry(value: str | None) -> datetime | None:
    """Parse a date, a time with its zone, or a duration from now."""
    if value is None:
        return None
    if seconds := parse_duration(value):
        return datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=seconds)
    try:
        return parse_time(value)
    except ValueError as error:
        raise typer.BadParameter(
            f"{error}, or a duration such as 90d", param_hint="--expires"
        ) from None


def parse_duration(value: str) -> int | None:
    """Return the seconds of a duration such as 12h; None if it is not one."""
    found = _DURATION.fullmatch(value)
    if found is None:
        return None
    return int(timedelta(**{_UNITS[found[2]]: int(found[1])}).total_seconds())
