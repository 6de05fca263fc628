"""API keys in the database, as `maxgate keys` creates, lists and changes them."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

import typer

from maxgate.auth.organization import keys, people
from maxgate.auth.organization.changes import Change
from maxgate.auth.organization.projects import DEFAULT_PROJECT, ensure_default_project
from maxgate.cli.key_options import NewKey
from maxgate.cli.organization import (
    Result,
    change,
    find_key,
    find_project,
    find_user,
    list_all,
    load_database_settings,
    read,
    say_delay,
)
from maxgate.cli.tables import print_object, print_rows, say
from maxgate.errors import ConfigurationError
from maxgate.stores.identity import AdminKey, ApiKey, IdentityTransaction, OwnerType, Project

_COLUMNS: Final = ("id", "name", "project", "owner", "models", "expires_at", "state", "key")
_ADMIN_COLUMNS: Final = ("id", "name", "expires_at", "last_used_at", "state", "key")
_HIDDEN: Final = frozenset({"digest", "previous_digest", "redacted_value", "version"})


def create(new: NewKey) -> tuple[str, str]:
    """Create a key; returns its id and the key.

    It belongs to a member of the project, or to a new service account with the name of the key.
    """
    seconds = _count_seconds(new.expires)

    async def work(transaction: Change) -> tuple[ApiKey | AdminKey, str]:
        if new.is_admin:
            return await keys.create_admin_key(transaction, new.name or "admin", seconds)
        project = await _choose_project(transaction, new.project)
        name = new.name or "key"
        owner_type, owner_id = await _choose_owner(transaction, project, new.owner, name)
        limits = keys.KeyLimits(
            expires_in=seconds,
            service_class=new.service_class,
            models=new.models,
            networks=new.networks or (),
        )
        return await keys.create_key(transaction, project.id, owner_type, owner_id, name, limits)

    key, text = change(work)
    if isinstance(key, ApiKey):
        say(f"{key.id} belongs to {key.owner_id} in {key.project_id}. The key is shown only now.")
    else:
        say(f"{key.id} is an admin key. The key is shown only now.")
    return key.id, text


def list_keys(project: str | None, *, admin: bool, as_json: bool) -> None:
    """List the keys of all projects or of one, or the admin keys."""

    async def work(rows: IdentityTransaction) -> Sequence[ApiKey | AdminKey]:
        if admin:
            return await list_all(rows.admin_keys)
        if project is not None:
            found = await find_project(rows, project)
            return await list_all(rows.keys, project_id=found.id)
        projects = await list_all(rows.projects)
        return [key for one in projects for key in await list_all(rows.keys, project_id=one.id)]

    found = [_describe(key) for key in read(work)]
    print_rows(_ADMIN_COLUMNS if admin else _COLUMNS, found, as_json=as_json)


def show(key_id: str, *, as_json: bool) -> None:
    """Show all fields of a key."""

    async def work(rows: IdentityTransaction) -> dict[str, Any]:
        return _describe(await find_key(rows, key_id))

    print_object(read(work), as_json=as_json)


def rotate(key_id: str, grace_seconds: int) -> str:
    """Replace the text of a key; returns the new one."""
    key, text = _change_key(
        key_id,
        lambda transaction, key: keys.rotate_key(
            transaction, key.project_id, key.id, grace_seconds=grace_seconds
        ),
    )
    end = f"for {grace_seconds} s" if grace_seconds else "no longer"
    say_delay(load_database_settings(), f"{key.id} has a new text; the old one is accepted {end}")
    return text


def set_blocked(key_id: str, *, blocked: bool) -> None:
    """Refuse a key, or accept it again."""
    key = _change_key(
        key_id,
        lambda transaction, key: keys.set_blocked(
            transaction, key.project_id, key.id, blocked=blocked
        ),
    )
    state = "blocked" if blocked else "not blocked any more"
    say_delay(load_database_settings(), f"{key.id} is {state}")


def revoke(key_id: str) -> None:
    """Delete a key."""

    async def work(transaction: Change) -> str:
        key = await find_key(transaction.rows, key_id)
        if isinstance(key, ApiKey):
            await keys.delete_key(transaction, key.project_id, key.id)
        else:
            await keys.delete_admin_key(transaction, key.id)
        return key.id

    say_delay(load_database_settings(), f"{change(work)} is revoked and deleted")


def _change_key(key_id: str, edit: Callable[[Change, ApiKey], Awaitable[Result]]) -> Result:
    async def work(transaction: Change) -> Result:
        key = await find_key(transaction.rows, key_id)
        if isinstance(key, AdminKey):
            raise ConfigurationError(
                f"{key.id} is an admin key, which can only be revoked; create another one with "
                "`maxgate keys create --admin`"
            )
        return await edit(transaction, key)

    return change(work)


async def _choose_project(transaction: Change, text: str | None) -> Project:
    if text in (None, DEFAULT_PROJECT):
        return await ensure_default_project(transaction)
    return await find_project(transaction.rows, str(text))


async def _choose_owner(
    transaction: Change, project: Project, owner: str | None, name: str
) -> tuple[OwnerType, str]:
    if owner is None:
        account = await people.create_service_account(transaction, project.id, name)
        return "service_account", account.id
    if await transaction.rows.service_accounts.find(project.id, owner) is not None:
        return "service_account", owner
    user = await find_user(transaction.rows, owner)
    member = await transaction.rows.project_users.find(project.id, user.id)
    if member is None or member.role == "none":
        raise ConfigurationError(
            f"{user.id} is not a member of {project.id}; run: "
            f"maxgate users projects join {user.id} {project.id}"
        )
    return "user", user.id


def _count_seconds(expires: datetime | None) -> int | None:
    if expires is None:
        return None
    seconds = int((expires - datetime.now(UTC)).total_seconds())
    if not 1 <= seconds <= keys.MAX_LIFETIME:
        years = keys.MAX_LIFETIME // (366 * 86_400)
        raise typer.BadParameter(
            f"{expires.isoformat()} is not within the next {years} years", param_hint="--expires"
        )
    return seconds


def _describe(key: ApiKey | AdminKey) -> dict[str, Any]:
    """Return the fields of a key, without its hashes."""
    fields = {name: value for name, value in asdict(key).items() if name not in _HIDDEN}
    for name in ("models", "networks"):
        if isinstance(fields.get(name), tuple):
            fields[name] = list(fields[name])
    state = "active"
    if key.expires_at is not None and key.expires_at <= datetime.now(UTC).timestamp():
        state = "expired"
    if isinstance(key, ApiKey):
        fields |= {"project": fields.pop("project_id"), "owner": fields.pop("owner_id")}
        state = "blocked" if fields.pop("blocked") else state
    return {"id": fields.pop("id"), **fields, "state": state, "key": key.redacted_value}
