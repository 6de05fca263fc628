"""`maxgate keys`: create, list, rotate, block and revoke API keys, in the database or a file."""

import getpass
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from maxgate.auth.api_key import generate_key, is_well_formed
from maxgate.auth.organization.keys import MAX_GRACE
from maxgate.cli import database_keys, file_keys
from maxgate.cli.key_options import (
    FileCommand,
    NewKey,
    parse_duration,
    parse_expiry,
    split_list,
    split_networks,
)
from maxgate.cli.tables import say
from maxgate.errors import ConfigurationError
from maxgate.generation.context import ServiceClass
from maxgate.settings import Settings, load_settings

FileOption = Annotated[
    str | None,
    typer.Option(
        help="Use a file instead of the database; without PATH, that of auth.keys_file.",
        metavar="[PATH]",
        show_default="only if database.url is none",
    ),
]
IdArgument = Annotated[str, typer.Argument(help="Id of the key, as in the list.", metavar="ID")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def commands() -> typer.Typer:
    """Build the subcommands."""
    app = typer.Typer(help="Create, list, rotate, block and revoke API keys.", no_args_is_help=True)
    app.command("create", cls=FileCommand)(create)
    app.command("list", cls=FileCommand)(list_keys)
    app.command("show", cls=FileCommand)(show)
    app.command("rotate")(rotate)
    app.command("block")(block)
    app.command("unblock")(unblock)
    app.command("revoke", cls=FileCommand)(revoke)
    app.command("hash")(print_hash)
    return app


def create(
    name: Annotated[str, typer.Option(help="Name of the key, and of its service account.")] = "",
    project: Annotated[
        str | None,
        typer.Option(
            help="Id or name of the project, the unit of fairness and isolation.",
            show_default="default",
        ),
    ] = None,
    owner: Annotated[
        str | None,
        typer.Option(
            help="Id or e-mail address of a member, or id of a service account.",
            show_default="a new service account",
        ),
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
        ServiceClass | None,
        typer.Option(help="Class of its requests, which they cannot exceed.", show_default="any"),
    ] = None,
    *,
    admin: Annotated[bool, typer.Option("--admin", help="Create a key for the admin API.")] = False,
    file: FileOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print id and key as JSON.")] = False,
) -> None:
    """Create a key and print it once; only its hash is stored."""
    settings = load_settings()
    new = NewKey(
        name=name,
        project=project,
        owner=owner,
        models=split_list(models),
        networks=split_networks(networks),
        expires=parse_expiry(expires),
        service_class=service_class,
        is_admin=admin,
    )
    path = _choose_file(file, settings)
    if path is not None:
        key_id, key = file_keys.create(path, new, settings)
    else:
        _check_admin_options(new)
        key_id, key = database_keys.create(new)
    print(json.dumps({"id": key_id, "key": key}) if as_json else key)
    if not settings.auth.has_keys:
        say("The gateway does not ask for keys yet: set auth.mode (MAXGATE_AUTH__MODE) to keys.")


def list_keys(
    project: Annotated[
        str | None, typer.Option(help="Id or name of a project.", show_default="all")
    ] = None,
    *,
    admin: Annotated[bool, typer.Option("--admin", help="List the admin keys.")] = False,
    file: FileOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the keys; of each, only its beginning and end are shown."""
    settings = load_settings()
    path = _choose_file(file, settings)
    if path is None:
        if admin and project is not None:
            raise typer.BadParameter("admin keys have no project; remove one of the options")
        database_keys.list_keys(project, admin=admin, as_json=as_json)
        other = settings.auth.find_key_file(settings.state_dir)
        if other.exists():
            say(f"{other} has keys, too: maxgate keys list --file")
        return
    if admin or project is not None:
        raise typer.BadParameter("--project and --admin are for keys in the database only")
    file_keys.list_keys(path, as_json=as_json)


def show(key_id: IdArgument, file: FileOption = None, *, as_json: JsonOption = False) -> None:
    """Show a key with its limits, but not the key itself."""
    path = _choose_file(file, load_settings())
    if path is None:
        database_keys.show(key_id, as_json=as_json)
    else:
        file_keys.show(path, key_id, as_json=as_json)


def rotate(
    key_id: IdArgument,
    grace: Annotated[
        str,
        typer.Option(help="Duration, such as 12h, for which the old text is accepted, too."),
    ] = "0",
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print id and key as JSON.")] = False,
) -> None:
    """Replace the text of a key and print the new one; id, owner and limits stay."""
    seconds = 0 if grace == "0" else parse_duration(grace)
    if seconds is None or seconds > MAX_GRACE:
        raise typer.BadParameter(
            f"{grace[:50]!r} is not 0 or a duration such as 12h, up to {MAX_GRACE // 86_400}d",
            param_hint="--grace",
        )
    key = database_keys.rotate(key_id, seconds)
    print(json.dumps({"id": key_id, "key": key}) if as_json else key)


def block(key_id: IdArgument) -> None:
    """Refuse a key until it is unblocked."""
    database_keys.set_blocked(key_id, blocked=True)


def unblock(key_id: IdArgument) -> None:
    """Accept a blocked key again."""
    database_keys.set_blocked(key_id, blocked=False)


def revoke(key_id: IdArgument, file: FileOption = None) -> None:
    """Revoke a key for ever: delete it, or disable it in the file."""
    path = _choose_file(file, load_settings())
    if path is None:
        database_keys.revoke(key_id)
    else:
        file_keys.revoke(path, key_id)


def print_hash(
    *,
    generate: Annotated[bool, typer.Option("--generate", help="Generate a key, too.")] = False,
) -> None:
    """Print the hash of a key from standard input, for an entry that is written by hand."""
    if generate:
        key = generate_key()
        say(f"key: {key}")
    else:
        key = getpass.getpass("Key: ") if sys.stdin.isatty() else sys.stdin.read(1000)
        key = key.strip()
    if not is_well_formed(key):
        raise ConfigurationError(
            "standard input is not a key of maxgate, or has a typing error; "
            "create a key with `maxgate keys create` or `maxgate keys hash --generate`"
        )
    print(file_keys.hash_with_pepper(key, load_settings()))


def _choose_file(file: str | None, settings: Settings) -> Path | None:
    """Return the file to use; None for the database."""
    if file:
        return Path(file).expanduser()
    if file is None and settings.database.is_enabled:
        return None
    return settings.auth.find_key_file(settings.state_dir)


def _check_admin_options(new: NewKey) -> None:
    limits = (new.project, new.owner, new.models, new.networks, new.service_class)
    if new.is_admin and any(limit is not None for limit in limits):
        raise typer.BadParameter(
            "an admin key has no project, owner, models, networks or service class, because it "
            "cannot use models; create another key for them",
            param_hint="--admin",
        )
