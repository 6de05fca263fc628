"""Bodies of requests to OpenAI's admin API; unknown and unsupported fields are refused by name."""

from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field

from maxgate.api.schemas import RequestBody, Unsupported
from maxgate.generation.context import ServiceClass
from maxgate.limits.limit import UNLIMITED
from maxgate.stores.identity import OrganizationRole, PermissionMode
from maxgate.stores.limits import MAX_AMOUNT

MAX_CENTS: Final = MAX_AMOUNT // 10_000

Seconds = Annotated[int, Field(ge=1, le=2**53)]
Amount = Annotated[int, Field(ge=0, le=UNLIMITED)]
_Texts: TypeAlias = Annotated[
    list[Annotated[str, Field(max_length=200)]], Field(min_length=1, max_length=1000)
]


class KeyLimitFields(RequestBody):
    """The limits of a new key, additions to OpenAI's fields; null sets no limit.

    `models` are the names that it may use, and `networks` those that it may be used from.
    """

    expires_in_seconds: Seconds | None = None
    models: _Texts | None = None
    networks: _Texts | None = None
    service_class: ServiceClass | None = None


class NewProject(RequestBody):
    """A project to create."""

    name: str
    external_key_id: Unsupported = None
    geography: Unsupported = None
    residency: Unsupported = None


class ProjectChange(RequestBody):
    """A change to a project; null keeps the name."""

    name: str | None = None
    external_key_id: Unsupported = None
    geography: Unsupported = None


class NewModelPermissions(RequestBody):
    """The models that a project may use (`allow_list`), or may not use (`deny_list`)."""

    mode: PermissionMode
    model_ids: list[str] = Field(max_length=1000)


class UserChange(RequestBody):
    """A change to a user; null keeps the role."""

    role: OrganizationRole | None = None
    role_id: Unsupported = None
    developer_persona: Unsupported = None
    technical_level: Unsupported = None


class NewProjectUser(RequestBody):
    """A user to add to a project: an existing one by id, or one by e-mail address."""

    role: Literal["owner", "member"]
    user_id: str | None = Field(default=None, max_length=100)
    email: str | None = None


class ProjectUserChange(RequestBody):
    """A change to a user's role in a project; null keeps it."""

    role: Literal["owner", "member"] | None = None


class NewServiceAccountBody(KeyLimitFields):
    """A service account to create, by default with a key, which has the limits.

    With `create_service_account_only` the account has neither a key nor a role.
    """

    name: str
    create_service_account_only: bool | None = None


class ServiceAccountChange(RequestBody):
    """A change to a service account; fields that are left out stay as they are."""

    name: str | None = None
    role: Literal["owner", "member"] | None = None


class NewKey(KeyLimitFields):
    """A key of a service account to create."""

    name: str = "API key"
    scopes: Unsupported = None


class KeyChange(RequestBody):
    """A change to a key; fields that are left out stay as they are.

    `expires_in_seconds` counts from now, and null means never. A `blocked` key is refused until it
    is unblocked.
    """

    expires_in_seconds: Seconds | None = None
    blocked: bool | None = None
    scopes: Unsupported = None


class KeyRotation(RequestBody):
    """The old key is accepted for `grace_seconds` after the rotation."""

    grace_seconds: int = Field(default=0, ge=0, le=2**53)


class NewAdminKey(RequestBody):
    """A key for the admin API to create."""

    name: str
    expires_in_seconds: Seconds | None = None


class RateLimitChange(RequestBody):
    """A change to the limits of a model; fields that are left out stay as they are.

    9007199254740991 removes a limit.
    """

    max_requests_per_1_minute: Amount | None = None
    max_tokens_per_1_minute: Amount | None = None
    max_requests_per_1_day: Amount | None = None
    max_images_per_1_minute: Unsupported = None
    max_audio_megabytes_per_1_minute: Unsupported = None
    batch_1_day_max_input_tokens: Unsupported = None


class NewSpendLimit(RequestBody):
    """The money that may be used in a month, in cents."""

    currency: Literal["USD"]
    interval: Literal["month"]
    threshold_amount: int = Field(ge=0, le=MAX_CENTS)


class NewAlertChannel(RequestBody):
    """E-mail addresses that the alert names for the receiver of the webhook."""

    type: Literal["email"]
    recipients: list[Annotated[str, Field(max_length=250)]] = Field(max_length=100)
    subject_prefix: Annotated[str, Field(max_length=200)] | None = None


class NewSpendAlert(RequestBody):
    """An amount of money in a month, in cents, whose use is to be reported."""

    currency: Literal["USD"]
    interval: Literal["month"]
    threshold_amount: int = Field(ge=1, le=MAX_CENTS)
    notification_channel: NewAlertChannel
