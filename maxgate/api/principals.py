"""Identify the caller of a request, and apply the body fields that order requests.

Without authentication, the Authorization header identifies the tenant. Without that header, the
`user` of the body does. Callers without either share the tenant `anonymous`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from hashlib import blake2b
from typing import Final, Literal, get_args

from maxgate.generation.context import ANONYMOUS, Principal, RequestContext, ServiceClass

ServiceTier = Literal["auto", "default", "fast", "flex", "priority"]
"""OpenAI's tiers without `scale`, which is bought in advance. `fast` is a synonym of `priority`."""

_CLASSES: Final[Mapping[ServiceTier, ServiceClass]] = {
    "default": "default",
    "fast": "priority",
    "flex": "flex",
    "priority": "priority",
}

_RANKS: Final[Sequence[ServiceClass]] = get_args(ServiceClass)
"""From the best class to the last."""

# A constant, because all workers, and all gateways that share slots, must derive the same tenant
# from the same header. The id is only a label: it grants nothing and is never shown to clients.
# Hashing keeps the header itself out of logs, metrics and Redis.
_KEY: Final = b"maxgate tenant"
_MAX_CACHED_BYTES: Final = 4096


def identify_by_header(value: bytes) -> Principal:
    """Return the principal of the callers that send this Authorization header."""
    # Clients must not fill the cache with long values.
    if len(value) > _MAX_CACHED_BYTES:
        return _build_principal(value, b"header")
    return _identify(value, b"header")


def apply_fields(
    context: RequestContext,
    user: str | None,
    service_tier: ServiceTier | None = None,
    priority: int | None = None,
) -> None:
    """Fill in the principal and the priority from fields of the body.

    `user` counts only if no header has identified the caller. The tier `auto` leaves the caller's
    own class, and no tier exceeds the highest one of the caller.
    """
    principal = context.principal
    if user and principal is ANONYMOUS:
        principal = _identify(user.encode(errors="replace"), b"user")
    if service_tier is not None and service_tier != "auto":
        principal = _assign_class(principal, _CLASSES[service_tier])
    context.principal = principal
    context.priority = priority or 0


def _build_principal(value: bytes, source: bytes) -> Principal:
    # `person` keeps a user from being named like the header of another tenant.
    tenant = blake2b(value, digest_size=16, key=_KEY, person=source).hexdigest()
    return replace(ANONYMOUS, tenant_id=tenant, project_id=tenant)


_identify: Final = lru_cache(maxsize=1024)(_build_principal)


@lru_cache(maxsize=1024)
def _assign_class(principal: Principal, service_class: ServiceClass) -> Principal:
    lower = max(service_class, principal.highest_class, key=_RANKS.index)
    return replace(principal, service_class=lower)
