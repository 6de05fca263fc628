"""The rights of keys in a database, by the rows that decide about them."""

import hmac
import math
from dataclasses import dataclass
from typing import Final, get_args

from maxgate.auth.identity import Identity
from maxgate.auth.key_verifier import StoredKey
from maxgate.generation.context import Principal, ProjectModels, ServiceClass
from maxgate.stores.identity import AdminKey, ApiKey, KeyGrant, ModelPermissions

_ADMIN_PROJECT: Final = "organization"
_CLASSES: Final = frozenset(get_args(ServiceClass))


@dataclass(frozen=True, slots=True)
class GrantedKey:
    """A key with its row's id, and `ids`: that one and those of its project and owner."""

    key: StoredKey
    key_id: str
    ids: frozenset[str]


def read_grant(grant: KeyGrant, digest: bytes) -> GrantedKey | None:
    """Return the key that has this digest; None if it has it no longer, and never will again.

    A key is disabled if it is blocked, its project is archived, or its owner has no role there.
    """
    row = grant.key
    if isinstance(row, AdminKey):
        if not hmac.compare_digest(row.digest, digest):
            return None
        return GrantedKey(_build_admin(row), row.id, frozenset({row.id}))
    expires_at = _find_expiry(row, digest)
    if expires_at is None:
        return None
    is_disabled = (
        row.blocked
        or grant.project is None
        or grant.project.archived_at is not None
        or grant.owner_role not in {"owner", "member"}
    )
    identity = _build_identity(grant, row, expires_at)
    ids = frozenset({row.id, row.project_id, row.owner_id})
    return GrantedKey(StoredKey(digest, identity, is_disabled), row.id, ids)


def _find_expiry(row: ApiKey, digest: bytes) -> float | None:
    """Return when this digest of the key expires, infinity for never; None if it has another."""
    expires_at = math.inf if row.expires_at is None else float(row.expires_at)
    if hmac.compare_digest(row.digest, digest):
        return expires_at
    previous, ends_at = row.previous_digest, row.previous_expires_at
    if previous is None or ends_at is None or not hmac.compare_digest(previous, digest):
        return None
    return min(expires_at, float(ends_at))


def _build_identity(grant: KeyGrant, row: ApiKey, expires_at: float) -> Identity:
    service_class: ServiceClass | None = None
    if row.service_class is not None:  # a class of a later version is the lowest one
        known = row.service_class in _CLASSES
        service_class = row.service_class if known else "flex"  # type: ignore[assignment]
    return Identity(
        Principal(
            tenant_id=row.project_id,
            project_id=row.project_id,
            owner_id=row.owner_id,
            key_id=row.id,
            service_class=service_class or "default",
            highest_class=service_class or "priority",
        ),
        models=None if row.models is None else frozenset(row.models),
        networks=row.networks,
        expires_at=None if math.isinf(expires_at) else expires_at,
        project_models=read_permissions(grant.permissions),
    )


def read_permissions(permissions: ModelPermissions | None) -> ProjectModels | None:
    """Return the models of a project; None if it may use all."""
    if permissions is None:
        return None
    return ProjectModels(
        frozenset(permissions.model_ids), is_denied=permissions.mode == "deny_list"
    )


def _build_admin(row: AdminKey) -> StoredKey:
    identity = Identity(
        Principal(_ADMIN_PROJECT, _ADMIN_PROJECT, row.id, row.id, "default"),
        models=frozenset(),
        expires_at=row.expires_at,
        is_admin=True,
        can_use_models=False,
    )
    return StoredKey(row.digest, identity)
