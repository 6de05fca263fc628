"""LiteLLM's routes for keys, on the keys of the organization; AdminGuard keeps them to admins.

Scripts that were written for LiteLLM use them. Its other routes do not exist.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from maxgate.api.litellm.bodies import (
    DeleteKeys,
    GenerateKey,
    OneKey,
    RegenerateKey,
    UpdateKey,
    count_seconds,
)
from maxgate.api.litellm.limits import read_key_limits, set_key_limits
from maxgate.api.litellm.schemas import (
    DeletedKeys,
    GeneratedKey,
    Key,
    KeyInfo,
    KeyWithSpend,
    describe_key,
    describe_new_key,
)
from maxgate.api.organization.dependencies import Admin, AdminRequest, check_target
from maxgate.api.organization.usage import Spending
from maxgate.api.request_body import BodyRoute
from maxgate.auth.api_key import PREFIX
from maxgate.auth.organization import keys, people
from maxgate.auth.organization.changes import Change, check_name
from maxgate.auth.organization.projects import (
    DEFAULT_PROJECT,
    ensure_default_project,
    get_active_project,
)
from maxgate.errors import InvalidRequest, NotFound
from maxgate.stores.identity import ApiKey, IdentityTransaction, OwnerType, Page

router = APIRouter(
    prefix="/key", tags=["litellm"], route_class=BodyRoute, dependencies=[Depends(check_target)]
)

_ALL_MODELS = {"all-team-models", "all-proxy-models"}
_NEW_NAME = "API key"
_NO_CHANGE = RegenerateKey()


@router.post("/generate", operation_id="litellm_generate_key")
async def generate_key(body: GenerateKey, admin: Admin) -> GeneratedKey:
    """Generate a key; only this response has its text."""

    async def create(change: Change) -> GeneratedKey:
        project = body.team_id or DEFAULT_PROJECT
        if project == DEFAULT_PROJECT:
            await ensure_default_project(change)
        else:
            await get_active_project(change.rows, project)
        name = check_name(body.key_alias or _NEW_NAME, "key_alias")
        owner_type, owner_id = await _choose_owner(change, project, body.user_id, name)
        models = body.models or None
        if models and not _ALL_MODELS.isdisjoint(models):
            models = None
        for index, model in enumerate(models or ()):
            check_name(model, f"models[{index}]")
        options = keys.KeyLimits(
            expires_in=count_seconds(body.duration),
            models=models,
            metadata=body.metadata or {},
        )
        key, text = await keys.create_key(change, project, owner_type, owner_id, name, options)
        if body.blocked:
            key = await keys.set_blocked(change, project, key.id, blocked=True)
        return describe_new_key(key, text, await set_key_limits(change, key, body))

    return await admin.create(GeneratedKey, create)


@router.get("/info", operation_id="litellm_key_info")
async def get_key_info(
    key: Annotated[str, Query(min_length=1, max_length=200)], admin: Admin, spending: Spending
) -> KeyInfo:
    """Describe a key, given by its text or its id."""
    async with admin.read() as rows:
        found = await find_key(rows, admin, key)
        limits = await read_key_limits(rows, found)
    spend = await spending.sum(found)
    described = KeyWithSpend(**describe_key(found, limits).model_dump(), spend=spend)
    return KeyInfo(key=found.id, info=described)


@router.post("/update", operation_id="litellm_update_key")
async def update_key(body: UpdateKey, admin: Admin) -> Key:
    """Change the limits and the budget of a key."""
    async with admin.change() as change:
        found = await find_key(change.rows, admin, body.key)
        limits = await set_key_limits(change, found, body)
    return describe_key(found, limits)


@router.post("/delete", operation_id="litellm_delete_keys")
async def delete_keys(body: DeleteKeys, admin: Admin) -> DeletedKeys:
    """Delete keys: all of them, or none if one does not exist."""
    if not (body.keys or body.key_aliases):
        raise InvalidRequest("Send 'keys' or 'key_aliases'.", param="keys")
    async with admin.change() as change:
        found = [await find_key(change.rows, admin, key) for key in body.keys or ()]
        aliases = body.key_aliases or ()
        found += [await keys.find_key_by_name(change.rows, alias) for alias in aliases]
        for key_id, key in {key.id: key for key in found}.items():
            await keys.delete_key(change, key.project_id, key_id)
    return DeletedKeys(deleted_keys=[*(body.keys or ()), *(body.key_aliases or ())])


@router.post("/block", operation_id="litellm_block_key")
async def block_key(body: OneKey, admin: Admin) -> Key:
    """Refuse a key until it is unblocked."""
    return await _set_blocked(body.key, admin, blocked=True)


@router.post("/unblock", operation_id="litellm_unblock_key")
async def unblock_key(body: OneKey, admin: Admin) -> Key:
    """Accept a blocked key again."""
    return await _set_blocked(body.key, admin, blocked=False)


@router.post("/regenerate", operation_id="litellm_regenerate_key")
async def regenerate_key(admin: Admin, body: RegenerateKey = _NO_CHANGE) -> GeneratedKey:
    """Replace the text of a key; id, owner and limits stay."""
    if body.key is None:
        raise InvalidRequest("Send 'key', the text or the id of the key.", param="key")
    return await _regenerate(body.key, body, admin)


@router.post("/{key}/regenerate", operation_id="litellm_regenerate_key_in_path")
async def regenerate_key_in_path(
    key: str, admin: Admin, body: RegenerateKey = _NO_CHANGE
) -> GeneratedKey:
    """Replace the text of the key in the path; id, owner and limits stay."""
    if body.key not in (None, key):
        raise InvalidRequest("'key' must be the same as in the path.", param="key")
    return await _regenerate(key, body, admin)


async def _set_blocked(key: str, admin: AdminRequest, *, blocked: bool) -> Key:
    async with admin.change() as change:
        found = await find_key(change.rows, admin, key)
        changed = await keys.set_blocked(change, found.project_id, found.id, blocked=blocked)
        limits = await read_key_limits(change.rows, changed)
    return describe_key(changed, limits)


async def _regenerate(key: str, body: RegenerateKey, admin: AdminRequest) -> GeneratedKey:
    async def rotate(change: Change) -> GeneratedKey:
        found = await find_key(change.rows, admin, key)
        grace = count_seconds(body.grace_period) or 0
        rotated, text = await keys.rotate_key(
            change, found.project_id, found.id, grace_seconds=grace
        )
        if (seconds := count_seconds(body.duration)) is not None:
            rotated = await keys.set_expiry(change, found.project_id, found.id, seconds)
        return describe_new_key(rotated, text, await read_key_limits(change.rows, rotated))

    return await admin.create(GeneratedKey, rotate)


async def find_key(rows: IdentityTransaction, admin: AdminRequest, key: str) -> ApiKey:
    """Return a key of any project by its text or id; raises NotFound, without the text."""
    if key.startswith(PREFIX):
        found = await rows.find_key_by_digest(admin.hash_key(key))
        if found is None:
            raise NotFound("No key of a project has this text.", code="not_found")
        return found
    return await keys.find_key(rows, key)


async def _choose_owner(
    change: Change, project_id: str, user_id: str | None, name: str
) -> tuple[OwnerType, str]:
    if user_id is None:
        account = await people.create_service_account(change, project_id, name)
        return "service_account", account.id
    if await change.rows.service_accounts.find(project_id, user_id) is not None:
        return "service_account", user_id
    user = await change.rows.users.find(user_id)
    if user is None:
        users = (await change.rows.users.list(Page(limit=1), email=user_id)).items
        user = users[0] if users else None
    member = user and await change.rows.project_users.find(project_id, user.id)
    if user is None or member is None or member.role == "none":
        raise InvalidRequest(
            "'user_id' must be a member or a service account of the project. Leave it out for a "
            f"new service account, or add a user by POST /v1/organization/projects/{project_id}"
            "/users.",
            param="user_id",
        )
    return "user", user.id
