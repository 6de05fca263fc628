"""`maxgate db`: create, upgrade and check the tables of the database."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from maxgate.auth.pepper import name_source
from maxgate.errors import ConfigurationError
from maxgate.settings import Settings, load_settings
from maxgate.stores.settings import NO_DATABASE


def commands() -> typer.Typer:
    """Build the subcommands."""
    app = typer.Typer(
        help="Upgrade and check the database, and accept a pepper.", no_args_is_help=True
    )
    app.command("upgrade")(upgrade)
    app.command("check")(check)
    app.command("accept-pepper")(accept_pepper)
    return app


def upgrade() -> None:
    """Create the tables, or upgrade them to this version; safe to repeat.

    Gateways of the previous version go on meanwhile. Upgrade the database first, then them.
    """
    from maxgate.stores.migrate import upgrade_database  # noqa: PLC0415  # slow to import

    settings = _load()
    before = upgrade_database(settings.database, settings.state_dir)
    if before.is_usable:
        print(f"Nothing to do: {before.message}.")
    elif before.revision is None:
        print(f"Created the tables (revision {before.expected}). Next: maxgate serve")
    else:
        print(
            f"Upgraded the database from revision {before.revision} to {before.expected}. "
            "Next: restart the gateways with this version, one by one."
        )


def check(
    *, as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False
) -> None:
    """Check that this version can use the database; exit with 1 if not."""
    from maxgate.stores.migrate import check_database  # noqa: PLC0415  # slow to import

    settings = _load()
    state = check_database(settings.database, settings.state_dir)
    if as_json:
        print(json.dumps({**asdict(state), "usable": state.is_usable}, indent=2))
    else:
        print(f"{state.message[0].upper()}{state.message[1:]}.")
    if not state.is_usable:
        raise typer.Exit(1)


def accept_pepper() -> None:
    """Use the present pepper although the keys in the database were hashed with another one.

    For a lost pepper: the keys that exist stay unusable, and new ones work.
    """
    from maxgate.auth.pepper_check import accept_peppers  # noqa: PLC0415  # slow to import
    from maxgate.stores.migrate import prepare_database  # noqa: PLC0415

    settings = _load()
    prepare_database(settings.database, settings.state_dir)
    accept_peppers(settings.auth, settings.database, settings.state_dir)
    source = name_source(settings.auth, settings.state_dir)
    print(
        f"Gateways with the pepper of {source} start from now on. Next: maxgate keys create --admin"
    )


def _load() -> Settings:
    settings = load_settings()
    if not settings.database.is_enabled:
        raise ConfigurationError(
            f"setting database.url is {NO_DATABASE}, so there is no database; remove it to use "
            "SQLite, or write postgresql://user@host:5432/name"
        )
    return settings
