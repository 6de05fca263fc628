"""`maxgate keys`: create, hash, list and revoke the API keys in a file."""

import getpass
import json
import re
import secrets
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer
from pydantic import ValidationError

from maxgate.auth.api_key import generate_key, hash_key, is_well_formed
from maxgate.auth.key_file import DEFAULT_PROJECT, HASH_PREFIX, KeyEntry, parse_time, read_key_file
from maxgate.auth.key_file_changes import add_entry, disable_entry
from maxgate.auth.pepper import load_peppers
from maxgate.errors import ConfigurationError
from maxgate.settings import Settings, load_settings

FileOption = Annotated[
    Path | None, typer.Option(help="File with the keys.", show_default="auth.keys_file")
]
_UNITS: Final = {"h": "hours", "d": "days", "w": "weeks"}
_DURATION: Final = re.compile(r"([1-9]\d{0,4})([hdw])")
_COLUMNS: Final = ("id", "name", "project", "owner", "models", "expires", "state", "hash")


def commands() -> typer.Typer:
    """Build the subcommands."""
    app = typer.Typer(help="Create, hash, list and revoke API keys.", no_args_is_help=True)
    app.command("create")(create)
    app.command("hash")(print_hash)
    app.command("list")(list_keys)
    app.command("revoke")(revoke)
    return app


def create(
    name: Annotated[str, typer.Option(help="Description of the key.")] = "",
    project: Annotated[
        str, typer.Option(help="Project, the unit of fairness and isolation.")
    ] = DEFAULT_PROJECT,
    owner: Annotated[
        str | None, typer.Option(help="Person or service that uses it.", show_default="the key")
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            help="Model that it may use; repeatable or comma-separated.", show_default="all"
        ),
    ] = None,
    networks: Annotated[
        list[str] | None,
        typer.Option(
            help="Network that it may be used from, such as 10.0.0.0/8; repeatable.",
            show_default="all",
        ),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(help="Date, time, or duration such as 90d or 12h.", show_default="never"),
    ] = None,
    service_class: Annotated[
        Literal["priority", "default", "flex"] | None,
        typer.Option(help="Class of its requests, which they cannot exceed.", show_default="any"),
    ] = None,
    *,
    admin: Annotated[bool, typer.Option("--admin", help="Allow the admin API.")] = False,
    file: FileOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print id and key as JSON.")] = False,
) -> None:
    """Create a key and print it once; only its hash is stored."""
    settings = load_settings()
    key, path = generate_key(), _choose_file(file, settings)
    fields = {
        "id": f"key_{secrets.token_hex(8)}",
        "hash": _hash(key, settings),
        "name": name,
        "project": project,
        "owner": owner,
        "models": _split(models),
        "networks": _split(networks),
        "expires": _parse_expiry(expires),
        "service_class": service_class,
        "admin": admin,
    }
    unset = (None, "", False)
    entry = _build_entry({name: value for name, value in fields.items() if value not in unset})
    add_entry(path, entry)
    print(json.dumps({"id": entry.id, "key": key}) if as_json else key)
    _say(f"{entry.id} is in {path}. The key is shown only now.")
    if not settings.auth.has_keys:
        _say("The gateway does not ask for keys yet: set auth.mode (MAXGATE_AUTH__MODE) to keys.")


def print_hash(
    *,
    generate: Annotated[bool, typer.Option("--generate", help="Generate a key, too.")] = False,
) -> None:
    """Print the hash of a key from standard input, for an entry that is written by hand."""
    if generate:
        key = generate_key()
        _say(f"key: {key}")
    else:
        key = getpass.getpass("Key: ") if sys.stdin.isatty() else sys.stdin.read(1000)
        key = key.strip()
    if not is_well_formed(key):
        raise ConfigurationError(
            "standard input is not a key of maxgate, or has a typing error; "
            "create a key with `maxgate keys create` or `maxgate keys hash --generate`"
        )
    print(_hash(key, load_settings()))


def list_keys(
    file: FileOption = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """List the keys, with the beginning of their hashes."""
    path = _choose_file(file, load_settings())
    keys = [_describe(entry) for entry in read_key_file(path)]
    if as_json:
        print(json.dumps(keys, indent=2))
        return
    rows = [_COLUMNS, *[[_format(key[column]) for column in _COLUMNS] for key in keys]]
    widths = [max(len(row[at]) for row in rows) for at in range(len(_COLUMNS))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def revoke(
    key_id: Annotated[str, typer.Argument(help="Id of the key, as in the list.", metavar="ID")],
    file: FileOption = None,
) -> None:
    """Disable a key; running gateways refuse it within 5 s."""
    path = _choose_file(file, load_settings())
    entry = disable_entry(path, key_id)
    _say(f"{entry.id} is revoked in {path}.")


def _choose_file(file: Path | None, settings: Settings) -> Path:
    return settings.auth.find_key_file(settings.state_dir) if file is None else file.expanduser()


def _hash(key: str, settings: Settings) -> str:
    peppers = load_peppers(settings.auth, settings.state_dir, create=True)
    return HASH_PREFIX + hash_key(key, peppers[0]).hex()


def _split(values: Sequence[str] | None) -> list[str] | None:
    items = [item.strip() for value in values or () for item in value.split(",")]
    if "" in items:
        raise typer.BadParameter("a list has an empty item; remove it")
    return items or None


def _parse_expiry(value: str | None) -> str | None:
    if value is None:
        return None
    if found := _DURATION.fullmatch(value):
        now = datetime.now(UTC).replace(microsecond=0)
        return (now + timedelta(**{_UNITS[found[2]]: int(found[1])})).isoformat()
    try:
        return parse_time(value).isoformat()
    except ValueError as error:
        raise typer.BadParameter(
            f"{error}, or a duration such as 90d", param_hint="--expires"
        ) from None


def _build_entry(fields: dict[str, Any]) -> KeyEntry:
    try:
        return KeyEntry.model_validate(fields)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)[0]
        field = str(details["loc"][0]).replace("_", "-")
        message = details["msg"].removeprefix("Value error, ")
        raise typer.BadParameter(message, param_hint=f"--{field}") from None


def _describe(entry: KeyEntry) -> dict[str, Any]:
    state = "active"
    if entry.expires is not None and entry.expires <= datetime.now(UTC):
        state = "expired"
    return {
        "id": entry.id,
        "name": entry.name,
        "project": entry.project,
        "owner": entry.owner,
        "models": entry.models,
        "networks": entry.networks,
        "expires": entry.expires and entry.expires.isoformat(),
        "service_class": entry.service_class,
        "admin": entry.admin,
        "state": "revoked" if entry.disabled else state,
        "hash": entry.hash.removeprefix(HASH_PREFIX)[:8],
    }


def _format(value: Any) -> str:
    return ",".join(value) if isinstance(value, list) else str(value or "-")


def _say(text: str) -> None:
    typer.echo(text, err=True)
