"""API keys of projects, and keys for the admin API."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import Query

from maxgate.api.organization.bodies import KeyChange, KeyRotation, NewAdminKey
from maxgate.api.organization.dependencies import Admin, PageQuery, build_list, create_router
from maxgate.api.organization.schemas import (
    AdminApiKey,
    AdminKeyOwner,
    ApiKey,
    Deleted,
    KeyOwner,
    KeyOwnerServiceAccount,
    KeyOwnerUser,
    NewAdminApiKey,
    ObjectList,
    RotatedApiKey,
)
from maxgate.auth.organization import keys
from maxgate.auth.organization.changes import Change, check_version
from maxgate.auth.organization.projects import get_project
from maxgate.stores import identity
from maxgate.stores.identity import IdentityTransaction, Page

router = create_router()

_NO_GRACE = KeyRotation()


class KeyQuery(PageQuery):
    """A page of the keys of a project whose owners have access to it, have none, or either."""

    owner_project_access: Literal["active", "inactive", "any"] = "any"


class AdminKeyQuery(PageQuery):
    """A page of all admin keys by their age."""

    order: Literal["asc", "desc"] = "asc"


@router.get("/projects/{project_id}/api_keys", operation_id="list_api_keys")
async def list_api_keys(
    project_id: str, query: Annotated[KeyQuery, Query()], admin: Admin
) -> ObjectList[ApiKey]:
    """List the keys of a project, the oldest first."""
    async with admin.read() as rows:
        await get_project(rows, project_id)
        page, matching = query.build_page(), list[ApiKey]()
        while True:
            found = await rows.keys.list(page, project_id=project_id)
            for key in await describe_keys(rows, project_id, found.items):
                if query.owner_project_access in {"any", key.owner_project_access}:
                    matching.append(key)
            if len(matching) > query.limit or not found.has_more:
                break
            page = Page(limit=page.limit, after=found.items[-1].id)
    return build_list(matching[: query.limit], has_more=len(matching) > query.limit)


@router.get("/projects/{project_id}/api_keys/{api_key_id}", operation_id="get_api_key")
async def get_api_key(project_id: str, api_key_id: str, admin: Admin) -> ApiKey:
    """Describe one key."""
    async with admin.read() as rows:
        key = await keys.get_key(rows, project_id, api_key_id)
        [described] = await describe_keys(rows, project_id, [key])
    admin.tag(key.version)
    return described


@router.post("/projects/{project_id}/api_keys/{api_key_id}", operation_id="update_api_key")
async def update_api_key(project_id: str, api_key_id: str, body: KeyChange, admin: Admin) -> ApiKey:
    """Change the expiry of a key, or block or unblock it."""
    async with admin.change() as change:
        key = await keys.get_key(change.rows, project_id, api_key_id)
        check_version(key.version, admin.version)
        if "expires_in_seconds" in body.model_fields_set:
            key = await keys.set_expiry(change, project_id, key.id, body.expires_in_seconds)
        if body.blocked is not None and body.blocked != key.blocked:
            key = await keys.set_blocked(change, project_id, key.id, blocked=body.blocked)
        [described] = await describe_keys(change.rows, project_id, [key])
    admin.tag(key.version)
    return described


@router.delete("/projects/{project_id}/api_keys/{api_key_id}", operation_id="delete_api_key")
async def delete_api_key(project_id: str, api_key_id: str, admin: Admin) -> Deleted:
    """Delete a key; it is refused from then on."""
    async with admin.change() as change:
        await keys.delete_key(change, project_id, api_key_id, version=admin.version)
    return Deleted(object="organization.project.api_key.deleted", id=api_key_id)


@router.post("/projects/{project_id}/api_keys/{api_key_id}/rotate", operation_id="rotate_api_key")
async def rotate_api_key(
    project_id: str, api_key_id: str, admin: Admin, body: KeyRotation = _NO_GRACE
) -> RotatedApiKey:
    """Replace a key; id, owner and limits stay. Only this response has the new key."""

    async def rotate(change: Change) -> RotatedApiKey:
        key, text = await keys.rotate_key(
            change,
            project_id,
            api_key_id,
            grace_seconds=body.grace_seconds,
            version=admin.version,
        )
        [described] = await describe_keys(change.rows, project_id, [key])
        admin.tag(key.version)
        return RotatedApiKey(**described.model_dump(), value=text)

    return await admin.create(RotatedApiKey, rotate)


@router.post("/admin_api_keys", operation_id="create_admin_api_key")
async def create_admin_api_key(body: NewAdminKey, admin: Admin) -> NewAdminApiKey:
    """Create a key for the admin API; only this response has the key."""

    async def create(change: Change) -> NewAdminApiKey:
        key, text = await keys.create_admin_key(change, body.name, body.expires_in_seconds)
        admin.tag(key.version)
        return NewAdminApiKey(**describe_admin_key(key).model_dump(), value=text)

    return await admin.create(NewAdminApiKey, create)


@router.get("/admin_api_keys", operation_id="list_admin_api_keys")
async def list_admin_api_keys(
    query: Annotated[AdminKeyQuery, Query()], admin: Admin
) -> ObjectList[AdminApiKey]:
    """List the keys for the admin API, by default the oldest first."""
    async with admin.read() as rows:
        found = await rows.admin_keys.list(query.build_page(query.order))
    return build_list(list(map(describe_admin_key, found.items)), has_more=found.has_more)


@router.get("/admin_api_keys/{key_id}", operation_id="get_admin_api_key")
async def get_admin_api_key(key_id: str, admin: Admin) -> AdminApiKey:
    """Describe one key for the admin API."""
    async with admin.read() as rows:
        key = await keys.get_admin_key(rows, key_id)
    admin.tag(key.version)
    return describe_admin_key(key)


@router.delete("/admin_api_keys/{key_id}", operation_id="delete_admin_api_key")
async def delete_admin_api_key(key_id: str, admin: Admin) -> Deleted:
    """Delete a key for the admin API; the last one stays."""
    async with admin.change() as change:
        await keys.delete_admin_key(change, key_id, version=admin.version)
    return Deleted(object="organization.admin_api_key.deleted", id=key_id)


async def describe_keys(
    rows: IdentityTransaction, project_id: str, found: Sequence[identity.ApiKey]
) -> list[ApiKey]:
    """Return keys of a project as clients see them, with their owners."""
    page, owner_ids = Page(limit=100), [key.owner_id for key in found]
    accounts = (await rows.service_accounts.list(page, project_id=project_id, id=owner_ids)).items
    members = (await rows.project_users.list(page, project_id=project_id, user_id=owner_ids)).items
    users = (await rows.users.list(page, id=owner_ids)).items
    roles = {member.user_id: member.role for member in members}
    owners = {account.id: _describe_account_owner(account) for account in accounts} | {
        user.id: _describe_user_owner(user, roles.get(user.id, "none")) for user in users
    }
    return [
        _describe_key(key, owners.get(key.owner_id) or KeyOwner(type=key.owner_type))
        for key in found
    ]


def _describe_account_owner(account: identity.ServiceAccount) -> KeyOwner:
    owner = KeyOwnerServiceAccount(
        id=account.id, name=account.name, role=account.role, created_at=account.created_at
    )
    return KeyOwner(type="service_account", service_account=owner)


def _describe_user_owner(user: identity.User, role: identity.ProjectRole) -> KeyOwner:
    owner = KeyOwnerUser(
        id=user.id, email=user.email, name=user.name, role=role, created_at=user.added_at
    )
    return KeyOwner(type="user", user=owner)


def _describe_key(key: identity.ApiKey, owner: KeyOwner) -> ApiKey:
    named = owner.user or owner.service_account
    return ApiKey(
        id=key.id,
        name=key.name,
        redacted_value=key.redacted_value,
        created_at=key.created_at,
        last_used_at=key.last_used_at,
        expires_at=key.expires_at,
        previous_expires_at=key.previous_expires_at,
        blocked=key.blocked,
        **describe_limits(key),
        owner=owner,
        owner_project_access="inactive" if named is None or named.role == "none" else "active",
    )


def describe_limits(key: identity.ApiKey) -> dict[str, Any]:
    """Return the fields with the limits of a key; null for those that it does not have."""
    return {
        "models": None if key.models is None else list(key.models),
        "networks": list(key.networks) or None,
        "service_class": key.service_class,
    }


def describe_admin_key(key: identity.AdminKey) -> AdminApiKey:
    """Return a key for the admin API as clients see it."""
    return AdminApiKey(
        id=key.id,
        name=key.name,
        redacted_value=key.redacted_value,
        created_at=key.created_at,
        last_used_at=key.last_used_at,
        expires_at=key.expires_at,
        owner=AdminKeyOwner(created_at=key.created_at),
    )
