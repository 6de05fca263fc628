"""Users of the organization and of projects, and service accounts."""

import re
from dataclasses import replace
from typing import Final

from maxgate.auth.organization.changes import (
    Change,
    check_name,
    check_version,
    create_id,
    remove,
    require,
)
from maxgate.auth.organization.limits import Holder, remove_limits
from maxgate.auth.organization.projects import get_active_project, get_project
from maxgate.errors import InvalidRequest
from maxgate.stores.identity import (
    IdentityTransaction,
    OrganizationRole,
    Page,
    ProjectRole,
    ProjectUser,
    ServiceAccount,
    User,
)
from maxgate.stores.limits import ScopeKey

_EMAIL: Final = re.compile(r"[^@\s]{1,64}@[^@\s]{1,185}")
_BATCH: Final = 100


async def add_user(
    change: Change, email: str, name: str | None = None, role: OrganizationRole = "reader"
) -> User:
    """Add a user to the organization; raises Conflict if there is one with the e-mail address."""
    if not _EMAIL.fullmatch(check_name(email, "email")):
        raise InvalidRequest("'email' must be an e-mail address.", param="email")
    shown = check_name(name) if name is not None else email.partition("@")[0]
    user = User(create_id("user-"), email, shown, role, change.now)
    await change.rows.users.add(user)
    await change.record("user.added", user.id, data={"role": role})
    return user


async def get_user(rows: IdentityTransaction, user_id: str) -> User:
    """Return a user; raises NotFound."""
    return require(await rows.users.find(user_id), "user", user_id)


async def set_user_role(
    change: Change, user_id: str, role: OrganizationRole, *, version: int | None = None
) -> User:
    """Change the role of a user in the organization."""
    user = await get_user(change.rows, user_id)
    check_version(user.version, version)
    user = await change.rows.users.update(replace(user, role=role))
    await change.record("user.updated", user.id, changes_requested={"role": role})
    return user


async def delete_user(change: Change, user_id: str, *, version: int | None = None) -> None:
    """Delete a user with its memberships; its keys are refused from then on."""
    user = await get_user(change.rows, user_id)
    check_version(user.version, version)
    await remove(change.rows.users, user, user_id)
    await remove_limits(change, Holder(ScopeKey("user", user_id)))
    await change.record("user.deleted", user_id)


async def add_project_user(
    change: Change,
    project_id: str,
    role: ProjectRole,
    *,
    user_id: str | None = None,
    email: str | None = None,
) -> tuple[ProjectUser, User]:
    """Add a user to a project, by id or e-mail address; an unknown address is a new user."""
    project = await get_active_project(change.rows, project_id)
    if user_id is not None and email is None:
        user = await get_user(change.rows, user_id)
    elif email is None or user_id is not None:
        raise InvalidRequest("Send one of 'user_id' and 'email'.", param="user_id")
    else:
        found = await change.rows.users.list(Page(limit=1), email=email)
        user = found.items[0] if found.items else await add_user(change, email)
    member = ProjectUser(project_id, user.id, role, change.now)
    await change.rows.project_users.add(member)
    await change.record("user.added", user.id, project, data={"role": role})
    return member, user


async def get_project_user(
    rows: IdentityTransaction, project_id: str, user_id: str
) -> tuple[ProjectUser, User]:
    """Return a user of a project; raises NotFound."""
    await get_project(rows, project_id)
    member = await rows.project_users.find(project_id, user_id)
    return require(member, "user of the project", user_id), await get_user(rows, user_id)


async def set_project_role(
    change: Change,
    project_id: str,
    user_id: str,
    role: ProjectRole,
    *,
    version: int | None = None,
) -> tuple[ProjectUser, User]:
    """Change the role of a user in a project."""
    project = await get_active_project(change.rows, project_id)
    member, user = await get_project_user(change.rows, project_id, user_id)
    check_version(member.version, version)
    member = await change.rows.project_users.update(replace(member, role=role))
    await change.record("user.updated", user_id, project, changes_requested={"role": role})
    return member, user


async def remove_project_user(
    change: Change, project_id: str, user_id: str, *, version: int | None = None
) -> None:
    """Remove a user from a project; its keys of the project are refused from then on."""
    project = await get_project(change.rows, project_id)
    member, _ = await get_project_user(change.rows, project_id, user_id)
    check_version(member.version, version)
    await remove(change.rows.project_users, member, project_id, user_id)
    await change.record("user.deleted", user_id, project)


async def create_service_account(
    change: Change, project_id: str, name: str, role: ProjectRole = "member"
) -> ServiceAccount:
    """Create a service account without a key."""
    project = await get_active_project(change.rows, project_id)
    account = ServiceAccount(project_id, create_id("svcacct_"), check_name(name), role, change.now)
    await change.rows.service_accounts.add(account)
    await change.record("service_account.created", account.id, project, data={"role": role})
    return account


async def get_service_account(
    rows: IdentityTransaction, project_id: str, account_id: str
) -> ServiceAccount:
    """Return a service account; raises NotFound."""
    await get_project(rows, project_id)
    account = await rows.service_accounts.find(project_id, account_id)
    return require(account, "service account", account_id)


async def update_service_account(
    change: Change,
    project_id: str,
    account_id: str,
    *,
    name: str | None = None,
    role: ProjectRole | None = None,
    version: int | None = None,
) -> ServiceAccount:
    """Change the name or role of a service account; None keeps it."""
    project = await get_active_project(change.rows, project_id)
    account = await get_service_account(change.rows, project_id, account_id)
    check_version(account.version, version)
    wanted = replace(
        account,
        name=account.name if name is None else check_name(name),
        role=role or account.role,
    )
    if wanted == account:
        return account
    account = await change.rows.service_accounts.update(wanted)
    requested = {"name": account.name, "role": account.role}
    await change.record("service_account.updated", account.id, project, changes_requested=requested)
    return account


async def delete_service_account(
    change: Change, project_id: str, account_id: str, *, version: int | None = None
) -> None:
    """Delete a service account and its keys."""
    project = await get_project(change.rows, project_id)
    account = await get_service_account(change.rows, project_id, account_id)
    check_version(account.version, version)
    while keys := (
        await change.rows.keys.list(Page(limit=_BATCH), project_id=project_id, owner_id=account_id)
    ).items:
        for key in keys:
            await remove(change.rows.keys, key, project_id, key.id)
            await remove_limits(change, Holder(ScopeKey("key", key.id), project))
            await change.record("api_key.deleted", key.id, project)
    await remove(change.rows.service_accounts, account, project_id, account_id)
    await remove_limits(change, Holder(ScopeKey("user", account_id), project))
    await change.record("service_account.deleted", account_id, project)
