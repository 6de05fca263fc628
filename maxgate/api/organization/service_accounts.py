"""Service accounts of projects, and their new keys."""

from maxgate.api.organization.bodies import (
    KeyLimitFields,
    NewKey,
    NewServiceAccountBody,
    ServiceAccountChange,
)
from maxgate.api.organization.dependencies import Admin, Paging, build_list, create_router
from maxgate.api.organization.keys import describe_limits
from maxgate.api.organization.schemas import (
    Deleted,
    NewServiceAccount,
    NewServiceAccountKey,
    ObjectList,
    ServiceAccount,
)
from maxgate.auth.organization import people
from maxgate.auth.organization.changes import Change
from maxgate.auth.organization.keys import KeyLimits, create_key
from maxgate.auth.organization.projects import get_project
from maxgate.errors import InvalidRequest
from maxgate.stores import identity

router = create_router()


@router.post("/projects/{project_id}/service_accounts", operation_id="create_service_account")
async def create_service_account(
    project_id: str, body: NewServiceAccountBody, admin: Admin
) -> NewServiceAccount:
    """Create a service account, by default with a key; only this response has the key."""
    for name in KeyLimitFields.model_fields if body.create_service_account_only else ():
        if getattr(body, name) is not None:
            raise InvalidRequest(
                f"'{name}' is for a key; remove it or 'create_service_account_only'.", param=name
            )

    async def create(change: Change) -> NewServiceAccount:
        role: identity.ProjectRole = "none" if body.create_service_account_only else "member"
        account = await people.create_service_account(change, project_id, body.name, role)
        key = None
        if not body.create_service_account_only:
            key = await add_key(change, account, body.name, body)
        admin.tag(account.version)
        return NewServiceAccount(**describe_account(account).model_dump(), api_key=key)

    return await admin.create(NewServiceAccount, create)


@router.get("/projects/{project_id}/service_accounts", operation_id="list_service_accounts")
async def list_service_accounts(
    project_id: str, query: Paging, admin: Admin
) -> ObjectList[ServiceAccount]:
    """List the service accounts of a project, the oldest first."""
    async with admin.read() as rows:
        await get_project(rows, project_id)
        found = await rows.service_accounts.list(query.build_page(), project_id=project_id)
    return build_list(list(map(describe_account, found.items)), has_more=found.has_more)


@router.get(
    "/projects/{project_id}/service_accounts/{service_account_id}",
    operation_id="get_service_account",
)
async def get_service_account(
    project_id: str, service_account_id: str, admin: Admin
) -> ServiceAccount:
    """Describe one service account."""
    async with admin.read() as rows:
        account = await people.get_service_account(rows, project_id, service_account_id)
    admin.tag(account.version)
    return describe_account(account)


@router.post(
    "/projects/{project_id}/service_accounts/{service_account_id}",
    operation_id="update_service_account",
)
async def update_service_account(
    project_id: str, service_account_id: str, body: ServiceAccountChange, admin: Admin
) -> ServiceAccount:
    """Change the name or role of a service account."""
    async with admin.change() as change:
        account = await people.update_service_account(
            change,
            project_id,
            service_account_id,
            name=body.name,
            role=body.role,
            version=admin.version,
        )
    admin.tag(account.version)
    return describe_account(account)


@router.delete(
    "/projects/{project_id}/service_accounts/{service_account_id}",
    operation_id="delete_service_account",
)
async def delete_service_account(project_id: str, service_account_id: str, admin: Admin) -> Deleted:
    """Delete a service account and its keys."""
    async with admin.change() as change:
        await people.delete_service_account(
            change, project_id, service_account_id, version=admin.version
        )
    return Deleted(object="organization.project.service_account.deleted", id=service_account_id)


@router.post(
    "/projects/{project_id}/service_accounts/{service_account_id}/api_keys",
    operation_id="create_service_account_key",
)
async def create_service_account_key(
    project_id: str, service_account_id: str, body: NewKey, admin: Admin
) -> NewServiceAccountKey:
    """Create a key of a service account; only this response has the key."""

    async def create(change: Change) -> NewServiceAccountKey:
        account = await people.get_service_account(change.rows, project_id, service_account_id)
        return await add_key(change, account, body.name, body)

    return await admin.create(NewServiceAccountKey, create)


async def add_key(
    change: Change, account: identity.ServiceAccount, name: str, fields: KeyLimitFields
) -> NewServiceAccountKey:
    """Create a key, and return it as clients see it this once."""
    limits = KeyLimits(
        expires_in=fields.expires_in_seconds,
        service_class=fields.service_class,
        models=fields.models,
        networks=fields.networks or (),
    )
    key, text = await create_key(
        change, account.project_id, "service_account", account.id, name, limits
    )
    return NewServiceAccountKey(
        id=key.id,
        name=key.name,
        value=text,
        created_at=key.created_at,
        expires_at=key.expires_at,
        **describe_limits(key),
    )


def describe_account(account: identity.ServiceAccount) -> ServiceAccount:
    """Return the service account as clients see it."""
    return ServiceAccount(
        id=account.id, name=account.name, role=account.role, created_at=account.created_at
    )
