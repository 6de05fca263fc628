"""LiteLLM's responses about keys, with the fields that have a meaning here."""

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from maxgate.api.litellm.limits import KeyLimits
from maxgate.stores.identity import ApiKey


class Key(BaseModel):
    """A key without its text; `token` is its id, and `team_id` its project.

    A budget without `budget_duration` is never renewed.
    """

    token: str
    key_name: str
    key_alias: str
    team_id: str
    user_id: str
    models: list[str]
    metadata: dict[str, Any]
    blocked: bool
    expires: str | None
    created_at: str
    last_active: str | None
    max_budget: float | None
    soft_budget: float | None
    budget_duration: str | None
    tpm_limit: int | None
    rpm_limit: int | None
    max_parallel_requests: int | None
    model_tpm_limit: dict[str, int] | None
    model_rpm_limit: dict[str, int] | None


class GeneratedKey(Key):
    """A new key with its text, which no other response has."""

    key: str
    token_id: str


class KeyWithSpend(Key):
    """A key with the price of its usage, in the currency; null if usage is not recorded."""

    spend: float | None


class KeyInfo(BaseModel):
    """A key, with its id."""

    key: str
    info: KeyWithSpend


class DeletedKeys(BaseModel):
    """The keys that were deleted, as the request names them."""

    deleted_keys: list[str]


def describe_key(key: ApiKey, limits: KeyLimits) -> Key:
    """Return LiteLLM's description of a key."""
    return Key(
        token=key.id,
        key_name=key.redacted_value,
        key_alias=key.name,
        team_id=key.project_id,
        user_id=key.owner_id,
        models=list(key.models or ()),
        metadata=dict(key.metadata),
        blocked=key.blocked,
        expires=_format_time(key.expires_at),
        created_at=str(_format_time(key.created_at)),
        last_active=_format_time(key.last_used_at),
        **limits.model_dump(),
    )


def describe_new_key(key: ApiKey, text: str, limits: KeyLimits) -> GeneratedKey:
    """Return LiteLLM's description of a key with its new text."""
    return GeneratedKey(**describe_key(key, limits).model_dump(), key=text, token_id=key.id)


def _format_time(seconds: int | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()
