"""The organization in the database, as the commands read and change it: without a gateway."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, TypeVar

from maxgate.auth.key_changes import KeyChanges, NoKeyChanges
from maxgate.auth.organization import keys
from maxgate.auth.organization.changes import COMMAND_LINE, Change, Organization
from maxgate.auth.organization.errors import DatabaseUnavailable
from maxgate.auth.pepper import load_peppers
from maxgate.cli.tables import say
from maxgate.clock import SystemClock
from maxgate.errors import ConfigurationError, InvalidRequest, NotFound
from maxgate.settings import Settings, load_settings
from maxgate.stores.identity import (
    AdminKey,
    ApiKey,
    IdentityTransaction,
    Page,
    Project,
    Rows,
    StoreUnavailable,
    User,
)
from maxgate.stores.settings import NO_DATABASE

Result = TypeVar("Result")
Item = TypeVar("Item", bound=Any)

_BATCH: Final = 100


def load_database_settings() -> Settings:
    """Load the settings; raises ConfigurationError if there is no database."""
    settings = load_settings()
    if not settings.database.is_enabled:
        raise ConfigurationError(
            f"setting database.url is {NO_DATABASE}, so there is no database; remove it to use "
            "SQLite, or write postgresql://user@host:5432/name"
        )
    return settings


def read(work: Callable[[IdentityTransaction], Awaitable[Result]]) -> Result:
    """Return the result of a function that reads the database of the settings."""

    async def run() -> Result:
        async with (
            open_organization(load_database_settings()) as organization,
            organization.read() as rows,
        ):
            return await work(rows)

    return _run(run)


def change(
    work: Callable[[Change], Awaitable[Result]], *, settings: Settings | None = None
) -> Result:
    """Return the result of a function that changes the database; all of it is one transaction."""

    async def run() -> Result:
        async with (
            open_organization(settings or load_database_settings()) as organization,
            organization.change(COMMAND_LINE) as transaction,
        ):
            return await work(transaction)

    return _run(run)


@asynccontextmanager
async def open_organization(settings: Settings) -> AsyncIterator[Organization]:
    """Open the database; SQLite is created or upgraded first.

    Raises ConfigurationError, and StoreUnavailable.
    """
    from maxgate.auth.pepper_check import check_peppers  # noqa: PLC0415  # slow to import
    from maxgate.stores.database import Database  # noqa: PLC0415
    from maxgate.stores.identity_store import SqlIdentityStore  # noqa: PLC0415
    from maxgate.stores.migrate import prepare_database  # noqa: PLC0415

    await asyncio.to_thread(prepare_database, settings.database, settings.state_dir)
    await asyncio.to_thread(check_peppers, settings.auth, settings.database, settings.state_dir)
    store = SqlIdentityStore(Database(settings.database, settings.state_dir))
    changes: KeyChanges = NoKeyChanges()
    if settings.redis.url is not None:
        from maxgate.composition.identity import build_key_changes  # noqa: PLC0415  # slow to import

        changes = build_key_changes(settings)
    load = partial(load_peppers, settings.auth, settings.state_dir, create=True)
    try:
        yield Organization(store, load, SystemClock(), changes)
    finally:
        await changes.aclose()
        await store.aclose()


def say_delay(settings: Settings, subject: str) -> None:
    """Print when running gateways take over a change."""
    if settings.redis.url is None:
        say(f"{subject}. Running gateways take it over within 60 s (5 s with redis.url).")
    else:
        say(f"{subject}. Running gateways take it over within 5 s (60 s while Redis is away).")


async def list_all(rows: Rows[Item], **where: Any) -> list[Item]:
    """Return all rows of a kind, oldest first."""
    items: list[Item] = []
    after = None
    while True:
        found = await rows.list(Page(limit=_BATCH, after=after), **where)
        items += found.items
        if not found.has_more:
            return items
        last = found.items[-1]
        after = last.user_id if hasattr(last, "user_id") else last.id


async def find_project(rows: IdentityTransaction, text: str) -> Project:
    """Return the project with this id, or the active one with this name."""
    found = await rows.projects.find(text)
    if found is not None:
        return found
    projects = await list_all(rows.projects, name=text)
    active = [project for project in projects if project.archived_at is None]
    if len(active) > 1:
        raise ConfigurationError(
            f"{len(active)} projects have the name {text!r}; write the id of one: "
            f"{', '.join(project.id for project in active)}"
        )
    if not active:
        raise ConfigurationError(
            f"no project has the id or name {text[:100]!r}; `maxgate projects list` lists them, "
            "and `maxgate projects create NAME` creates one"
        )
    return active[0]


async def find_user(rows: IdentityTransaction, text: str) -> User:
    """Return the user with this id or e-mail address."""
    found = await rows.users.find(text)
    if found is None:
        page = await rows.users.list(Page(limit=1), email=text)
        found = page.items[0] if page.items else None
    if found is None:
        raise ConfigurationError(
            f"no user has the id or e-mail address {text[:100]!r}; `maxgate users list` lists "
            "them, and `maxgate users add EMAIL` adds one"
        )
    return found


async def find_key(rows: IdentityTransaction, key_id: str) -> ApiKey | AdminKey:
    """Return the key with this id, in whichever project it is, or the admin key."""
    admin = await rows.admin_keys.find(key_id)
    if admin is not None:
        return admin
    try:
        return await keys.find_key(rows, key_id)
    except NotFound:
        raise ConfigurationError(
            f"no key has the id {key_id[:100]!r}; `maxgate keys list` lists them (with --admin, "
            "admin keys; with --file, those of the file)"
        ) from None


def _run(work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    try:
        return asyncio.run(work())
    except (InvalidRequest, NotFound) as error:
        raise ConfigurationError(error.message.removesuffix(".")) from error
    except DatabaseUnavailable as error:
        raise StoreUnavailable(f"{error.__cause__}; nothing was changed") from error
