"""Bodies of LiteLLM's requests for keys; unsupported fields are refused by name."""

import json
import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field

from maxgate.api.litellm.limits import LimitFields
from maxgate.api.schemas import EmptyObject, RequestBody, Unsupported
from maxgate.auth.api_key import PREFIX
from maxgate.auth.organization.keys import MAX_GRACE, MAX_LIFETIME

_DURATION: Final = re.compile(r"[1-9][0-9]{0,8}(s|m|h|d|w|mo)")
_UNIT: Final = re.compile(r"[a-z]+")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400, "mo": 30 * 86_400}
_MAX_METADATA: Final = 4000
"""Characters of metadata, as JSON."""


def count_seconds(duration: str | None) -> int | None:
    """Return the seconds of a duration such as `30d`."""
    if duration is None:
        return None
    [unit] = _UNIT.findall(duration)
    return int(duration.removesuffix(unit)) * _SECONDS[unit]


def _check_duration(text: str, limit: int = MAX_LIFETIME, limit_name: str = "10 years") -> str:
    if not _DURATION.fullmatch(text):
        raise ValueError("expected a duration such as 30s, 30m, 12h, 30d, 2w or 1mo")
    if (count_seconds(text) or 0) > limit:
        raise ValueError(f"it must be at most {limit_name}")
    return text


def _check_grace_period(text: str) -> str:
    return _check_duration(text, MAX_GRACE, "30 days")


def _check_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(metadata)
    if len(text) > _MAX_METADATA:
        raise ValueError(f"it must have at most {_MAX_METADATA} characters as JSON")
    if "\\u0000" in text or PREFIX in text:
        raise ValueError("it must contain neither NUL characters nor keys")
    return metadata


KeyName = Annotated[str, Field(min_length=1, max_length=200)]
Identifier = Annotated[str, Field(min_length=1, max_length=200)]
Duration = Annotated[str, AfterValidator(_check_duration)]
"""A duration such as 30s, 30m, 12h, 30d, 2w or 1mo, of at most 10 years."""
GracePeriod = Annotated[str, AfterValidator(_check_grace_period)]
"""A duration of at most 30 days."""
Metadata = Annotated[dict[str, Any], AfterValidator(_check_metadata)]


class UnsupportedFields(RequestBody):
    """Fields of LiteLLM that route a key and more; only null, or an empty object, is accepted."""

    aliases: EmptyObject | None = None
    config: EmptyObject | None = None
    permissions: EmptyObject | None = None
    model_max_budget: EmptyObject | None = None
    object_permission: EmptyObject | None = None
    router_settings: EmptyObject | None = None
    spend: Unsupported = None
    budget_id: Unsupported = None
    tpm_limit_type: Unsupported = None
    rpm_limit_type: Unsupported = None
    guardrails: Unsupported = None
    prompts: Unsupported = None
    policies: Unsupported = None
    tags: Unsupported = None
    enforced_params: Unsupported = None
    allowed_routes: Unsupported = None
    allowed_passthrough_routes: Unsupported = None
    allowed_cache_controls: Unsupported = None
    allowed_vector_store_indexes: Unsupported = None
    key_type: Unsupported = None
    organization_id: Unsupported = None
    agent_id: Unsupported = None
    send_invite_email: Unsupported = None
    auto_rotate: Unsupported = None
    rotation_interval: Unsupported = None


class UnsupportedLimits(RequestBody):
    """Limits, where they cannot be changed; only null, or an empty object, is accepted."""

    model_rpm_limit: EmptyObject | None = None
    model_tpm_limit: EmptyObject | None = None
    max_budget: Unsupported = None
    soft_budget: Unsupported = None
    budget_duration: Unsupported = None
    max_parallel_requests: Unsupported = None
    tpm_limit: Unsupported = None
    rpm_limit: Unsupported = None


class GenerateKey(UnsupportedFields, LimitFields):
    """A key to generate, by default in the project `default`.

    `team_id` is a project, and `user_id` the id or e-mail address of one of its members, or the id
    of one of its service accounts; without it, the key gets a service account of its own.
    """

    key_alias: KeyName | None = None
    team_id: Identifier | None = None
    user_id: Identifier | None = None
    models: list[Identifier] | None = Field(default=None, max_length=1000)
    duration: Duration | None = None
    metadata: Metadata | None = None
    blocked: bool | None = None
    key: Unsupported = None


class UpdateKey(UnsupportedFields, LimitFields):
    """Limits of a key to change; those that are left out stay, and null removes one."""

    key: Identifier
    key_alias: Unsupported = None
    team_id: Unsupported = None
    user_id: Unsupported = None
    models: Unsupported = None
    duration: Unsupported = None
    metadata: Unsupported = None
    blocked: Unsupported = None


class RegenerateKey(UnsupportedFields, UnsupportedLimits):
    """A key whose text to replace; the old text is accepted for `grace_period`."""

    key: Identifier | None = None
    grace_period: GracePeriod | None = None
    duration: Duration | None = None
    new_key: Unsupported = None
    new_master_key: Unsupported = None
    key_alias: Unsupported = None
    team_id: Unsupported = None
    user_id: Unsupported = None
    models: Unsupported = None
    metadata: Unsupported = None
    blocked: Unsupported = None


class OneKey(RequestBody):
    """A key, by its text or its id."""

    key: Identifier


class DeleteKeys(RequestBody):
    """Keys to delete: by text or id, or by their aliases."""

    keys: list[Identifier] | None = Field(default=None, max_length=100)
    key_aliases: list[KeyName] | None = Field(default=None, max_length=100)
