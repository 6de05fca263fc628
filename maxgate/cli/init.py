"""`maxgate init`: everything that a gateway with API keys needs, in one step."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer
import yaml

from maxgate.auth.organization import keys, people
from maxgate.auth.organization.changes import Change
from maxgate.auth.organization.projects import DEFAULT_PROJECT, ensure_default_project
from maxgate.auth.pepper import load_peppers
from maxgate.cli.organization import change, load_database_settings
from maxgate.cli.ready_banner import format_example, format_url
from maxgate.cli.tables import say
from maxgate.errors import ConfigurationError
from maxgate.settings import Settings
from maxgate.settings_names import CONFIG_VARIABLE
from maxgate.stores.identity import Page

_DEFAULT_CONFIG: Final = "maxgate.yaml"
_DEFAULT_ENGINE: Final = "http://localhost:8080"
_FIRST_KEY: Final = "first key"
_URL_VARIABLE: Final = "DATABASE_URL"
_TEMPLATE: Final = """\
# Settings of maxgate, written by `maxgate init`. All others: docs/settings.md.
# Environment variables override them: MAXGATE_SERVER__PORT=9000.

server:
  # This machine only. With 0.0.0.0, other machines can connect; put TLS in front of it.
  host: 127.0.0.1
  port: 8000

# Where MAX listens; several engines share the load.
# To start MAX, too: maxgate serve --engine local --card models/llama-3.3-8b-instruct.yaml
engines:
  - url: {engine}

auth:
  # Every request needs an API key; `maxgate keys create` creates one. See docs/admin.md.
  mode: keys

# Projects, users and keys. The default is SQLite in state_dir, which needs no server.
{database}
# Several gateways that share a database report changes of keys to each other by Redis, in 5 s.
# redis:
#   url: redis://localhost:6379/0
"""


@dataclass(frozen=True, slots=True)
class _FirstKeys:
    """The text of each key that was created; None if there was one."""

    admin: str | None
    project: str | None


def init(
    engine_url: Annotated[
        str | None, typer.Option(help="URL of MAX.", show_default=_DEFAULT_ENGINE)
    ] = None,
    database_url: Annotated[
        str | None,
        typer.Option(
            help="URL such as postgresql://user@host/name.",
            envvar=_URL_VARIABLE,
            show_envvar=True,
            show_default="SQLite",
        ),
    ] = None,
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the file; the old one gets the suffix .old.")
    ] = False,
) -> None:
    """Write ./maxgate.yaml, and create the database, an admin key and a first project.

    A second run keeps what exists, and prints it.
    """
    path = _find_config()
    had_file = path.exists()
    is_new = force or not had_file
    if is_new:
        _write_config(path, engine_url, database_url)
    elif engine_url is not None or (database_url and database_url != os.environ.get(_URL_VARIABLE)):
        raise ConfigurationError(
            f"{path} exists, so --engine-url and --database-url have no effect; edit the file, or "
            "replace it with --force"
        )
    try:
        settings = _load(path)
    except ConfigurationError:
        if is_new:
            _undo(path, had_file=had_file)
        raise
    print(f"settings     {path} {'written' if is_new else 'exists and is kept'}")
    has_new_pepper = _prepare(settings)
    created = change(_create_keys, settings=settings)
    _print_key("admin key", created.admin, "maxgate keys create --admin")
    _print_key("project key", created.project, "maxgate keys create --name NAME")
    if created != _FirstKeys(None, None):
        say("The keys are shown only now.")
    if has_new_pepper and None in {created.admin, created.project}:
        say(
            "The keys that exist were hashed with another pepper and are refused. Restore that "
            "pepper, or create new keys."
        )
    url = format_url(settings.server.host, settings.server.port)
    header = f'-H "Authorization: Bearer {created.project or "$KEY"}" '
    print("\nNext:\n")
    print("  maxgate serve")
    print(f"  {format_example(url, 'chat', header)}")
    print("  maxgate projects list")


def _find_config() -> Path:
    chosen = os.environ.get(CONFIG_VARIABLE, _DEFAULT_CONFIG)
    if not chosen:
        raise ConfigurationError(
            f"{CONFIG_VARIABLE} is empty, so no file with settings would be read; unset it"
        )
    return Path(chosen).expanduser()


def _load(path: Path) -> Settings:
    settings = load_database_settings()
    if not settings.auth.has_keys:
        raise ConfigurationError(
            f"setting auth.mode is not keys; write it in {path}, or replace the file with --force"
        )
    return settings


def _undo(path: Path, *, had_file: bool) -> None:
    """Remove a new file that does not fit, so that the next run starts from the same state."""
    if had_file:
        Path(f"{path}.old").replace(path)
    else:
        path.unlink(missing_ok=True)


def _write_config(path: Path, engine_url: str | None, database_url: str | None) -> None:
    """Write the file for its owner only, because the URL of a database may hold a password."""
    lines = ["# database:", "#   url: postgresql://user@localhost:5432/maxgate"]
    if database_url is not None and database_url != os.environ.get(_URL_VARIABLE):
        lines = ["database:", f"  url: {_quote(database_url)}"]
    text = _TEMPLATE.format(
        engine=_quote(engine_url or _DEFAULT_ENGINE), database="\n".join([*lines, ""])
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            path.replace(f"{path}.old")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error


def _prepare(settings: Settings) -> bool:
    """Create or upgrade the tables; return whether a pepper was generated, which all keys need."""
    from maxgate.auth.pepper_check import check_peppers  # noqa: PLC0415  # slow to import
    from maxgate.stores.database import find_url  # noqa: PLC0415
    from maxgate.stores.migrate import upgrade_database  # noqa: PLC0415

    before = upgrade_database(settings.database, settings.state_dir)
    url = find_url(settings.database, settings.state_dir)
    place = url.render_as_string() if settings.database.is_postgres else url.database
    if before.is_usable:
        print(f"database     {place} exists")
    else:
        print(f"database     {place} {'created' if before.revision is None else 'upgraded'}")
    check_peppers(settings.auth, settings.database, settings.state_dir)
    pepper = settings.state_dir.expanduser() / "pepper"
    existed = pepper.exists()
    load_peppers(settings.auth, settings.state_dir, create=True)
    if settings.auth.pepper or settings.auth.pepper_file is not None:
        print("pepper       is that of the settings")
        return False
    print(f"pepper       {pepper} {'exists' if existed else 'created'}; back it up")
    return not existed


async def _create_keys(transaction: Change) -> _FirstKeys:
    """Create an admin key and a key of the default project where there is none."""
    rows, admin, text = transaction.rows, None, None
    if not (await rows.admin_keys.list(Page(limit=1))).items:
        _, admin = await keys.create_admin_key(transaction, _FIRST_KEY)
    await ensure_default_project(transaction)
    if not (await rows.keys.list(Page(limit=1), project_id=DEFAULT_PROJECT)).items:
        account = await people.create_service_account(transaction, DEFAULT_PROJECT, _FIRST_KEY)
        _, text = await keys.create_key(
            transaction, DEFAULT_PROJECT, "service_account", account.id, _FIRST_KEY
        )
    return _FirstKeys(admin, text)


def _print_key(label: str, text: str | None, command: str) -> None:
    print(f"{label:12} {text or f'exists; for another one: {command}'}")


def _quote(url: str) -> str:
    """Return the URL as a scalar of YAML."""
    return yaml.safe_dump(url, width=10_000).removesuffix("\n...\n").rstrip("\n")
