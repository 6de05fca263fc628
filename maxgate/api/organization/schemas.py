"""Objects of OpenAI's admin API, with the same fields; all times are in Unix seconds."""

from typing import Any, Generic, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict

from maxgate.stores.identity import OrganizationRole, OwnerType, PermissionMode, ProjectRole


class HasId(BaseModel):
    """An object of a list."""

    id: str


Item = TypeVar("Item", bound=HasId)


class ObjectList(BaseModel, Generic[Item]):
    """A page of a list; `last_id` is the `after` of the next one."""

    object: Literal["list"] = "list"
    data: list[Item]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Project(HasId):
    """A project; the keys of an archived one are refused."""

    object: Literal["organization.project"] = "organization.project"
    name: str
    created_at: int
    archived_at: int | None
    status: Literal["active", "archived"]


class ModelPermissions(BaseModel):
    """The models that a project may use (`allow_list`), or may not use (`deny_list`)."""

    object: Literal["project.model_permissions"] = "project.model_permissions"
    mode: PermissionMode
    model_ids: list[str]


class DeletedModelPermissions(BaseModel):
    """Whether a project had permissions, which are deleted now."""

    object: Literal["project.model_permissions.deleted"] = "project.model_permissions.deleted"
    deleted: bool


class User(HasId):
    """A user of the organization."""

    object: Literal["organization.user"] = "organization.user"
    name: str
    email: str
    role: OrganizationRole
    added_at: int


class ProjectUser(HasId):
    """A user's membership in a project; the id is that of the user."""

    object: Literal["organization.project.user"] = "organization.project.user"
    name: str
    email: str
    role: ProjectRole
    added_at: int


class ServiceAccount(HasId):
    """An identity of a program in a project."""

    object: Literal["organization.project.service_account"] = "organization.project.service_account"
    name: str
    role: ProjectRole
    created_at: int


_NewKeyObject: TypeAlias = Literal["organization.project.service_account.api_key"]


class NewServiceAccountKey(HasId):
    """A new key of a service account; `value` is the key, which no other response has."""

    object: _NewKeyObject = "organization.project.service_account.api_key"
    name: str
    value: str
    created_at: int
    expires_at: int | None
    models: list[str] | None = None
    networks: list[str] | None = None
    service_class: str | None = None


class NewServiceAccount(ServiceAccount):
    """A new service account and its first key, if it has one."""

    api_key: NewServiceAccountKey | None


class KeyOwnerUser(BaseModel):
    """The user that has a key; `role` is that in the key's project."""

    id: str
    email: str
    name: str
    role: ProjectRole
    created_at: int


class KeyOwnerServiceAccount(BaseModel):
    """The service account that has a key."""

    id: str
    name: str
    role: ProjectRole
    created_at: int


class KeyOwner(BaseModel):
    """The owner of a key; both are null if it was deleted."""

    type: OwnerType
    user: KeyOwnerUser | None = None
    service_account: KeyOwnerServiceAccount | None = None


class ApiKey(HasId):
    """A key of a project, without the key itself.

    A `blocked` key is refused until it is unblocked. After a rotation, the previous key is accepted
    until `previous_expires_at`. `models`, `networks` and `service_class` are null without a limit.
    """

    object: Literal["organization.project.api_key"] = "organization.project.api_key"
    name: str
    redacted_value: str
    created_at: int
    last_used_at: int | None
    expires_at: int | None
    previous_expires_at: int | None
    blocked: bool
    models: list[str] | None = None
    networks: list[str] | None = None
    service_class: str | None = None
    owner: KeyOwner
    owner_project_access: Literal["active", "inactive"]


class RotatedApiKey(ApiKey):
    """A key after its rotation; `value` is the new key, which no other response has."""

    value: str


class AdminKeyOwner(BaseModel):
    """The owner of an admin key: the organization itself."""

    object: Literal["organization.user"] = "organization.user"
    type: Literal["user"] = "user"
    id: str = "organization"
    name: str = "organization"
    role: Literal["owner"] = "owner"
    created_at: int


class AdminApiKey(HasId):
    """A key for the admin API, without the key itself."""

    object: Literal["organization.admin_api_key"] = "organization.admin_api_key"
    name: str
    redacted_value: str
    created_at: int
    last_used_at: int | None
    expires_at: int | None
    owner: AdminKeyOwner


class NewAdminApiKey(AdminApiKey):
    """A new key for the admin API; `value` is the key, which no other response has."""

    value: str


_DeletedObject: TypeAlias = Literal[
    "organization.user.deleted",
    "organization.project.user.deleted",
    "organization.project.service_account.deleted",
    "organization.project.api_key.deleted",
    "organization.admin_api_key.deleted",
    "organization.spend_alert.deleted",
    "project.spend_alert.deleted",
    "project.rate_limit.deleted",
]


class Deleted(BaseModel):
    """A deleted object."""

    object: _DeletedObject
    id: str
    deleted: Literal[True] = True


class RateLimit(HasId):
    """The limits of a project for requests to a model, or to all if `model` is `*`.

    9007199254740991 is no limit. `max_requests_per_1_day` is null without one.
    """

    object: Literal["project.rate_limit"] = "project.rate_limit"
    model: str
    max_requests_per_1_minute: int
    max_tokens_per_1_minute: int
    max_requests_per_1_day: int | None = None


class Enforcement(BaseModel):
    """Whether requests are refused when the limit is reached."""

    status: Literal["inactive", "enforcing"] = "enforcing"


class SpendLimit(BaseModel):
    """The money that a project, or the organization, may use in a month; in cents."""

    object: Literal["organization.spend_limit", "project.spend_limit"]
    currency: Literal["USD"] = "USD"
    interval: Literal["month"] = "month"
    threshold_amount: int
    enforcement: Enforcement = Enforcement()


class DeletedSpendLimit(BaseModel):
    """A deleted spend limit."""

    object: Literal["organization.spend_limit.deleted", "project.spend_limit.deleted"]
    deleted: Literal[True] = True


class AlertChannel(BaseModel):
    """The e-mail addresses that the alert names for the receiver of the webhook."""

    type: Literal["email"] = "email"
    recipients: list[str]
    subject_prefix: str | None


class SpendAlert(HasId):
    """An amount of money in a month, in cents, whose use is reported."""

    object: Literal["organization.spend_alert", "project.spend_alert"]
    currency: Literal["USD"] = "USD"
    interval: Literal["month"] = "month"
    threshold_amount: int
    notification_channel: AlertChannel


class AuditActorKey(BaseModel):
    """The key that a change was made with."""

    id: str


class AuditActorUser(BaseModel):
    """`cli` for the command line."""

    id: str


class AuditActorSession(BaseModel):
    """The address that a change came from; `user` only if it was made without a key."""

    ip_address: str | None = None
    user: AuditActorUser | None = None


class AuditActor(BaseModel):
    """Who has made a change: a key (`api_key`), or the command line (`session`)."""

    type: Literal["api_key", "session"]
    api_key: AuditActorKey | None = None
    session: AuditActorSession | None = None


class AuditProject(BaseModel):
    """The project that a change belongs to, with its name at that time."""

    id: str
    name: str | None


class AuditLog(HasId):
    """A change; the field with the name of its `type` has the details."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, dict[str, Any]]

    type: str
    effective_at: int
    actor: AuditActor
    project: AuditProject | None = None
