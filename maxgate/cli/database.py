"""`maxgate db`: create, upgrade and check the tables of the database."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from maxgate.errors import ConfigurationError
from maxgate.settings import Settings, load_settings
from maxgate.stores.settings import NO_DATABASE


def commands() -> typer.Typer:
    """Build the subcommands."""
    app = typer.Typer(help="Upgrade and check the database.", no_args_is_help=True)
    app.command("upgrade")(upgrade)
    app.command("check")(check)
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


def _load() -> Settings:
    settings = load_settings()
    if not settings.database.is_enabled:
        raise ConfigurationError(
            f"setting database.url is {NO_DATABASE}, so there is no database; remove it to use "
            "SQLite, or write postgresql://user@host:5432/name"
        )
    return settings
