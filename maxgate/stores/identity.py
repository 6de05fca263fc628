"""Records of an organization's projects, users and keys, and the interface to them.

Everything that belongs to a project has the project's id in its primary key, and every method that
reads or changes such a row takes it: a row of another project does not exist for the caller. All
times are in whole Unix seconds.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from maxgate.errors import MaxgateError
from maxgate.stores.limits import LimitStore, SpendAlert, StoredLimit

OrganizationRole: TypeAlias = Literal["owner", "reader"]
ProjectRole: TypeAlias = Literal["owner", "member", "none"]
OwnerType: TypeAlias = Literal["user", "service_account"]
PermissionMode: TypeAlias = Literal["allow_list", "deny_list"]
Order: TypeAlias = Literal["asc", "desc"]
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Project:
    """A project; an archived one cannot be used and stays listed.

    `version` counts the changes of a row, from 1; see Rows.
    """

    id: str
    name: str
    created_at: int
    archived_at: int | None = None
    version: int = 1


@dataclass(frozen=True, slots=True)
class User:
    """A person of the organization; e-mail addresses are unique, whatever their case."""

    id: str
    email: str
    name: str
    role: OrganizationRole
    added_at: int
    version: int = 1


@dataclass(frozen=True, slots=True)
class ProjectUser:
    """A user's membership in a project."""

    project_id: str
    user_id: str
    role: ProjectRole
    added_at: int
    version: int = 1


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """An identity of a program, which belongs to one project."""

    project_id: str
    id: str
    name: str
    role: ProjectRole
    created_at: int
    version: int = 1


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key of a project; of the key itself only HMACs are kept.

    After a rotation the key with `previous_digest` is accepted until `previous_expires_at`. Empty
    `networks` allow all addresses, and `models` None all models of the project. A `blocked` key is
    refused and can be unblocked.
    """

    project_id: str
    id: str
    name: str
    owner_type: OwnerType
    owner_id: str
    digest: bytes = field(repr=False)
    redacted_value: str
    created_at: int
    expires_at: int | None = None
    last_used_at: int | None = None
    previous_digest: bytes | None = field(default=None, repr=False)
    previous_expires_at: int | None = None
    service_class: str | None = None
    models: tuple[str, ...] | None = None
    networks: tuple[str, ...] = ()
    blocked: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)
    version: int = 1


@dataclass(frozen=True, slots=True)
class AdminKey:
    """A key for the admin API, which belongs to the organization."""

    id: str
    name: str
    digest: bytes = field(repr=False)
    redacted_value: str
    created_at: int
    expires_at: int | None = None
    last_used_at: int | None = None
    version: int = 1


@dataclass(frozen=True, slots=True)
class ModelPermissions:
    """The models that a project may use, or may not use."""

    project_id: str
    mode: PermissionMode
    model_ids: tuple[str, ...]
    version: int = 1


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """A change: its type as in OpenAI's audit log, who made it, and the fields it set.

    `actor_id` is the id of a key, or `cli`. `details` contain no secret.
    """

    id: str
    type: str
    effective_at: int
    actor_id: str
    actor_address: str | None = None
    project_id: str | None = None
    project_name: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IdempotentRequest:
    """A request with an Idempotency-Key that was carried out.

    `key_digest` is the hash of that key, and `fingerprint` that of the request. `salt` is random.
    `response` is the body that was sent, without secrets.
    """

    actor_id: str
    key_digest: bytes
    fingerprint: bytes
    salt: bytes
    response: Mapping[str, Any]
    created_at: int


@dataclass(frozen=True, slots=True)
class KeyGrant:
    """The rows that decide about a key at authentication, read at once.

    `owner_role` is the owner's role in the project; None if it has none, or the owner is gone.
    `project` and `owner_role` are None for an AdminKey.
    """

    key: ApiKey | AdminKey
    project: Project | None = None
    owner_role: ProjectRole | None = None
    permissions: ModelPermissions | None = None


@dataclass(frozen=True, slots=True)
class ProjectGrant:
    """The facts about a project that the authentication of tokens needs."""

    project: Project
    permissions: ModelPermissions | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list: up to `limit` items after, or before, the item with this id.

    Items are in the order of their creation, oldest first if `order` is `asc`.
    """

    limit: int = 20
    after: str | None = None
    before: str | None = None
    order: Order = "asc"


class Listing(NamedTuple, Generic[Item]):
    """Items of a list, and whether more follow."""

    items: list[Item]
    has_more: bool


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which events to list; None lists all. Times are inclusive for `gte` and `lte`.

    `resource_ids` are the `id` in the details.
    """

    types: Sequence[str] | None = None
    actor_ids: Sequence[str] | None = None
    project_ids: Sequence[str] | None = None
    resource_ids: Sequence[str] | None = None
    gt: int | None = None
    gte: int | None = None
    lt: int | None = None
    lte: int | None = None


class StoreUnavailable(MaxgateError):
    """The database cannot be reached, or did not respond in time; nothing was changed."""


class AlreadyExists(MaxgateError):
    """A row with this id, e-mail address or digest exists."""


class VersionConflict(MaxgateError):
    """The row was changed or deleted since it was read."""


class UnknownCursor(MaxgateError):
    """No row has the id in `after` or `before`; of a project's rows, none of this project."""


class Rows(Protocol[Item]):
    """The rows of one kind; all methods raise StoreUnavailable.

    `key` are the fields that name a row: its id, after that of the project if it belongs to one.
    """

    async def add(self, row: Item) -> None:
        """Add a row; raises AlreadyExists."""
        ...

    async def find(self, *key: str) -> Item | None:
        """Return the row, None if there is none."""
        ...

    async def list(self, page: Page, **where: str | Sequence[str] | None) -> Listing[Item]:
        """Return the rows whose fields have these values, or one of several.

        `project_id` is required where rows belong to a project. Raises UnknownCursor.
        """
        ...

    async def update(self, row: Item) -> Item:
        """Replace the row that was read as this one, and return it with its new version.

        Raises VersionConflict if the stored row has another version, or was deleted.
        """
        ...

    async def delete(self, *key: str) -> bool:
        """Delete the row; returns whether there was one."""
        ...


class IdentityTransaction(Protocol):
    """Reads and changes that take effect together, or not at all.

    The rows of a user's or project's parts are deleted with it; keys stay, without an owner.
    """

    projects: Rows[Project]
    users: Rows[User]
    project_users: Rows[ProjectUser]
    service_accounts: Rows[ServiceAccount]
    keys: Rows[ApiKey]
    admin_keys: Rows[AdminKey]
    model_permissions: Rows[ModelPermissions]
    limits: Rows[StoredLimit]
    spend_alerts: Rows[SpendAlert]

    async def find_key_by_digest(self, digests: Sequence[bytes]) -> ApiKey | None:
        """Return the project's key that has one of these digests as its current one."""
        ...

    async def add_audit_event(self, event: AuditEvent) -> None:
        """Add an event; there is no way to change or delete one."""
        ...

    async def list_audit_events(self, page: Page, where: AuditFilter) -> Listing[AuditEvent]:
        """Return events; raises UnknownCursor."""
        ...

    async def find_idempotent_request(
        self, actor_id: str, key_digest: bytes
    ) -> IdempotentRequest | None:
        """Return the request of the last day with this Idempotency-Key."""
        ...

    async def add_idempotent_request(self, request: IdempotentRequest) -> None:
        """Add a request, and forget those that are older than a day; raises AlreadyExists."""
        ...

    async def add_pepper(self, fingerprint: bytes) -> None:
        """Remember that keys are hashed with the pepper of this fingerprint."""
        ...


class IdentityStore(Protocol):
    """The organization's identities in a database, and their limits."""

    limits: LimitStore

    def transaction(self) -> AbstractAsyncContextManager[IdentityTransaction]:
        """Begin a transaction: it is committed at the end, and rolled back by an exception.

        Raises StoreUnavailable, also at the end.
        """
        ...

    async def find_grant(self, digests: Sequence[bytes]) -> KeyGrant | None:
        """Return the key that has one of these digests, as its current or previous one.

        Expiry, blocking and rights are for the caller to check. Raises StoreUnavailable.
        """
        ...

    async def find_project(self, project_id: str) -> ProjectGrant | None:
        """Return a project, archived ones included; raises StoreUnavailable."""
        ...

    async def touch_keys(self, used_at: Mapping[str, int]) -> None:
        """Set `last_used_at` of keys by their ids, where it is later; raises StoreUnavailable."""
        ...

    async def aclose(self) -> None:
        """Close all connections; never raises."""
        ...
