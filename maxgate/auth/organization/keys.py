"""API keys of projects, and keys for the admin API."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from typing import Any, Final, get_args

from maxgate.auth.organization.changes import (
    Change,
    check_name,
    check_version,
    create_id,
    remove,
    require,
)
from maxgate.auth.organization.limits import Holder, remove_limits
from maxgate.auth.organization.people import get_project_user, get_service_account
from maxgate.auth.organization.projects import get_active_project, get_project
from maxgate.errors import Conflict, InvalidRequest, NotFound
from maxgate.generation.context import ServiceClass
from maxgate.stores.identity import AdminKey, ApiKey, IdentityTransaction, OwnerType, Page
from maxgate.stores.limits import ScopeKey

MAX_LIFETIME: Final = 10 * 366 * 86_400
"""Seconds until a key with an expiry expires, at most."""
MAX_GRACE: Final = 30 * 86_400
"""Seconds for which the old key is accepted after a rotation, at most."""
MAX_ITEMS: Final = 1000
"""Models and networks of a key, at most."""
MAX_METADATA_LENGTH: Final = 8192

_BATCH: Final = 500
_CLASSES: Final = frozenset(get_args(ServiceClass))
# NUL as JSON writes it, and lone surrogates.
_UNSTORABLE: Final = re.compile(r"\\u0000|[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """The optional limits of a new key; see ApiKey."""

    expires_in: int | None = None
    service_class: str | None = None
    models: Sequence[str] | None = None
    networks: Sequence[str] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


async def create_key(
    change: Change,
    project_id: str,
    owner_type: OwnerType,
    owner_id: str,
    name: str,
    limits: KeyLimits | None = None,
) -> tuple[ApiKey, str]:
    """Create a key of an existing owner; returns it and its text, which is kept nowhere."""
    project = await get_active_project(change.rows, project_id)
    if owner_type == "user":
        await get_project_user(change.rows, project_id, owner_id)
    else:
        await get_service_account(change.rows, project_id, owner_id)
    limits = limits or KeyLimits()
    check_limits(limits)
    new = change.generate_key()
    key = ApiKey(
        project_id=project_id,
        id=create_id("key_"),
        name=check_name(name),
        owner_type=owner_type,
        owner_id=owner_id,
        digest=new.digest,
        redacted_value=new.redacted,
        created_at=change.now,
        expires_at=find_expiry(change.now, limits.expires_in),
        service_class=limits.service_class,
        models=None if limits.models is None else tuple(limits.models),
        networks=tuple(limits.networks),
        metadata=limits.metadata,
    )
    await change.rows.keys.add(key)
    await change.record("api_key.created", key.id, project, data={"scopes": []})
    return key, new.text


async def get_key(rows: IdentityTransaction, project_id: str, key_id: str) -> ApiKey:
    """Return a key; raises NotFound."""
    await get_project(rows, project_id)
    return require(await rows.keys.find(project_id, key_id), "API key", key_id)


async def find_key(rows: IdentityTransaction, key_id: str) -> ApiKey:
    """Return a key with this id in any project; raises NotFound."""
    return require(next(iter(await _find_keys(rows, id=key_id)), None), "API key", key_id)


async def find_key_by_name(rows: IdentityTransaction, name: str) -> ApiKey:
    """Return the key with this name in any project; raises NotFound, and Conflict for several."""
    found = await _find_keys(rows, name=name)
    if len(found) > 1:
        raise Conflict(
            f"Several keys have the name {name[:100]!r}. Send the id of one of them.",
            code="ambiguous_name",
        )
    if not found:
        raise NotFound(f"No API key with the name {name[:100]!r} exists.", code="not_found")
    return found[0]


async def _find_keys(rows: IdentityTransaction, **where: str) -> list[ApiKey]:
    """Return up to two keys of each batch of projects."""
    found: list[ApiKey] = []
    page = Page(limit=_BATCH)
    while True:
        projects = await rows.projects.list(page)
        ids = [project.id for project in projects.items]
        found += (await rows.keys.list(Page(limit=2), project_id=ids, **where)).items
        if not projects.has_more:
            return found
        page = Page(limit=_BATCH, after=ids[-1])


async def set_expiry(
    change: Change,
    project_id: str,
    key_id: str,
    expires_in: int | None,
    *,
    version: int | None = None,
) -> ApiKey:
    """Let a key expire this many seconds from now, or never; raises Conflict if it has expired."""
    key = await _get_unexpired(change, project_id, key_id)
    wanted = replace(key, expires_at=find_expiry(change.now, expires_in))
    return await _update(change, key, wanted, version, expires_at=wanted.expires_at)


async def set_blocked(
    change: Change, project_id: str, key_id: str, *, blocked: bool, version: int | None = None
) -> ApiKey:
    """Refuse a key from now on, or accept it again."""
    key = await get_key(change.rows, project_id, key_id)
    return await _update(change, key, replace(key, blocked=blocked), version, blocked=blocked)


async def rotate_key(
    change: Change,
    project_id: str,
    key_id: str,
    *,
    grace_seconds: int = 0,
    version: int | None = None,
) -> tuple[ApiKey, str]:
    """Replace the text of a key: id, owner and limits stay.

    The old text is accepted for the grace period; that of an earlier rotation no longer.
    """
    if not 0 <= grace_seconds <= MAX_GRACE:
        raise InvalidRequest(
            f"'grace_seconds' must be 0 to {MAX_GRACE}, not {grace_seconds}.",
            param="grace_seconds",
        )
    key = await _get_unexpired(change, project_id, key_id)
    new = change.generate_key()
    wanted = replace(
        key,
        digest=new.digest,
        redacted_value=new.redacted,
        previous_digest=key.digest if grace_seconds else None,
        previous_expires_at=change.now + grace_seconds if grace_seconds else None,
    )
    return await _update(change, key, wanted, version, grace_seconds=grace_seconds), new.text


async def delete_key(
    change: Change, project_id: str, key_id: str, *, version: int | None = None
) -> None:
    """Delete a key."""
    key = await get_key(change.rows, project_id, key_id)
    check_version(key.version, version)
    await remove(change.rows.keys, key, project_id, key_id)
    project = await get_project(change.rows, project_id)
    await remove_limits(change, Holder(ScopeKey("key", key_id), project))
    await change.record("api_key.deleted", key_id, project)


async def _get_unexpired(change: Change, project_id: str, key_id: str) -> ApiKey:
    key = await get_key(change.rows, project_id, key_id)
    if key.expires_at is not None and key.expires_at <= change.now:
        raise Conflict(f"The key {key.id!r} has expired; create a new one.", code="key_expired")
    return key


async def _update(
    change: Change, key: ApiKey, wanted: ApiKey, version: int | None, **requested: Any
) -> ApiKey:
    check_version(key.version, version)
    project = await get_project(change.rows, key.project_id)
    if not wanted.blocked:  # an archived project can only lose access
        await get_active_project(change.rows, key.project_id)
    key = await change.rows.keys.update(wanted)
    await change.record("api_key.updated", key.id, project, changes_requested=requested)
    return key


async def create_admin_key(
    change: Change, name: str, expires_in: int | None = None
) -> tuple[AdminKey, str]:
    """Create a key for the admin API; returns it and its text, which is kept nowhere."""
    new = change.generate_key()
    key = AdminKey(
        id=create_id("key_"),
        name=check_name(name),
        digest=new.digest,
        redacted_value=new.redacted,
        created_at=change.now,
        expires_at=find_expiry(change.now, expires_in),
    )
    await change.rows.admin_keys.add(key)
    await change.record("api_key.created", key.id, data={"scopes": ["admin"]})
    return key, new.text


async def get_admin_key(rows: IdentityTransaction, key_id: str) -> AdminKey:
    """Return a key for the admin API; raises NotFound."""
    return require(await rows.admin_keys.find(key_id), "admin key", key_id)


async def delete_admin_key(change: Change, key_id: str, *, version: int | None = None) -> None:
    """Delete a key for the admin API; raises Conflict for the last one."""
    key = await get_admin_key(change.rows, key_id)
    check_version(key.version, version)
    other = await _find_other_admin_key(change, key_id)
    if other is None:
        raise Conflict(
            "This is the last valid admin key. Create another one before you delete it.",
            code="last_admin_key",
        )
    # A new version, so that nobody can delete that one at the same time.
    await change.rows.admin_keys.update(other)
    await remove(change.rows.admin_keys, key, key_id)
    await change.record("api_key.deleted", key_id)


async def _find_other_admin_key(change: Change, key_id: str) -> AdminKey | None:
    page: Page | None = Page(limit=_BATCH)
    while page is not None:
        found = await change.rows.admin_keys.list(page)
        for key in found.items:
            if key.id != key_id and (key.expires_at is None or key.expires_at > change.now):
                return key
        page = Page(limit=_BATCH, after=found.items[-1].id) if found.has_more else None
    return None


def check_limits(limits: KeyLimits) -> None:
    """Raise InvalidRequest for a limit that cannot be meant, or cannot be stored."""
    if limits.service_class is not None and limits.service_class not in _CLASSES:
        raise InvalidRequest(
            f"'service_class' must be one of {', '.join(sorted(_CLASSES))}.", param="service_class"
        )
    for name, values in (("models", limits.models or ()), ("networks", limits.networks)):
        if len(values) > MAX_ITEMS:
            raise InvalidRequest(f"'{name}' must have at most {MAX_ITEMS} items.", param=name)
        for index, value in enumerate(values):
            check_name(value, f"{name}[{index}]")
    for index, network in enumerate(limits.networks):
        try:
            ip_network(network)
        except ValueError as error:
            raise InvalidRequest(
                f"'networks[{index}]': {error}; write 10.0.0.0/8 or 2001:db8::1.",
                param=f"networks[{index}]",
            ) from None
    text = json.dumps(dict(limits.metadata), ensure_ascii=False)
    if len(text) > MAX_METADATA_LENGTH or _UNSTORABLE.search(text):
        raise InvalidRequest(
            f"'metadata' must be at most {MAX_METADATA_LENGTH} characters of JSON, without NUL "
            "characters and lone surrogates.",
            param="metadata",
        )


def find_expiry(now: int, expires_in: int | None) -> int | None:
    """Return the time of expiry; raises InvalidRequest."""
    if expires_in is None:
        return None
    if not 1 <= expires_in <= MAX_LIFETIME:
        raise InvalidRequest(
            f"'expires_in_seconds' must be 1 to {MAX_LIFETIME}, not {expires_in}.",
            param="expires_in_seconds",
        )
    return now + expires_in
