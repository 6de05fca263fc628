"""The tables of the database. Migrations make them; a test compares the two.

Rows of a project have its id in their primary key. `position` orders the rows of a list by their
creation; two rows that are added at once may have the same one, so the id is the second key.
"""

from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

METADATA: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _text(name: str, *, is_optional: bool = False) -> Column[Any]:
    return Column(name, Text, nullable=is_optional)


def _time(name: str, *, is_optional: bool = False) -> Column[Any]:
    return Column(name, BigInteger, nullable=is_optional)


def _json(name: str, *, is_optional: bool = False) -> Column[Any]:
    return Column(name, JSON(none_as_null=True), nullable=is_optional)


def _counters() -> tuple[Column[Any], Column[Any]]:
    return Column("version", BigInteger, nullable=False), _position()


def _position() -> Column[Any]:
    return Column("position", BigInteger, nullable=False)


def _belongs_to_project() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["project_id"], ["projects.id"], ondelete="CASCADE")


PROJECTS: Final = Table(
    "projects",
    METADATA,
    _text("id"),
    _text("name"),
    _time("created_at"),
    _time("archived_at", is_optional=True),
    *_counters(),
    PrimaryKeyConstraint("id"),
    Index(None, "position", "id"),
)

USERS: Final = Table(
    "users",
    METADATA,
    _text("id"),
    _text("email"),
    _text("email_folded"),  # without case, for look-up and uniqueness
    _text("name"),
    _text("role"),
    _time("added_at"),
    *_counters(),
    PrimaryKeyConstraint("id"),
    UniqueConstraint("email_folded"),
    Index(None, "position", "id"),
)

PROJECT_USERS: Final = Table(
    "project_users",
    METADATA,
    _text("project_id"),
    _text("user_id"),
    _text("role"),
    _time("added_at"),
    *_counters(),
    PrimaryKeyConstraint("project_id", "user_id"),
    _belongs_to_project(),
    ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
    Index(None, "project_id", "position", "user_id"),
    Index(None, "user_id"),
)

SERVICE_ACCOUNTS: Final = Table(
    "service_accounts",
    METADATA,
    _text("project_id"),
    _text("id"),
    _text("name"),
    _text("role"),
    _time("created_at"),
    *_counters(),
    PrimaryKeyConstraint("project_id", "id"),
    _belongs_to_project(),
    Index(None, "project_id", "position", "id"),
)

API_KEYS: Final = Table(
    "api_keys",
    METADATA,
    _text("project_id"),
    _text("id"),
    _text("name"),
    _text("owner_type"),
    _text("owner_id"),  # stays when the owner is deleted
    Column("digest", LargeBinary, nullable=False),
    _text("redacted_value"),
    _time("created_at"),
    _time("expires_at", is_optional=True),
    _time("last_used_at", is_optional=True),
    Column("previous_digest", LargeBinary, nullable=True),
    _time("previous_expires_at", is_optional=True),
    _text("service_class", is_optional=True),
    _json("models", is_optional=True),
    _json("networks"),
    Column("blocked", Boolean, nullable=False),
    _json("metadata"),
    *_counters(),
    PrimaryKeyConstraint("project_id", "id"),
    UniqueConstraint("id"),
    _belongs_to_project(),
    Index(None, "project_id", "position", "id"),
    Index(None, "project_id", "owner_id"),
)

ADMIN_KEYS: Final = Table(
    "admin_keys",
    METADATA,
    _text("id"),
    _text("name"),
    Column("digest", LargeBinary, nullable=False),
    _text("redacted_value"),
    _time("created_at"),
    _time("expires_at", is_optional=True),
    _time("last_used_at", is_optional=True),
    *_counters(),
    PrimaryKeyConstraint("id"),
    Index(None, "position", "id"),
)

KEY_DIGESTS: Final = Table(
    "key_digests",
    METADATA,
    # Current and previous digests of all keys, so that no two keys share one.
    Column("digest", LargeBinary, nullable=False),
    _text("project_id", is_optional=True),
    _text("key_id", is_optional=True),
    _text("admin_key_id", is_optional=True),
    Column("is_current", Boolean, nullable=False),
    PrimaryKeyConstraint("digest"),
    ForeignKeyConstraint(
        ["project_id", "key_id"], ["api_keys.project_id", "api_keys.id"], ondelete="CASCADE"
    ),
    ForeignKeyConstraint(["admin_key_id"], ["admin_keys.id"], ondelete="CASCADE"),
    CheckConstraint("(key_id IS NULL) <> (admin_key_id IS NULL)", name="owner"),
    Index(None, "project_id", "key_id"),
    Index(None, "admin_key_id"),
)

MODEL_PERMISSIONS: Final = Table(
    "model_permissions",
    METADATA,
    _text("project_id"),
    _text("mode"),
    _json("model_ids"),
    *_counters(),
    PrimaryKeyConstraint("project_id"),
    _belongs_to_project(),
)

AUDIT_EVENTS: Final = Table(
    "audit_events",
    METADATA,
    _text("project_id"),  # empty for the organization; the event outlives the project
    _text("id"),
    _text("type"),
    _time("effective_at"),
    _text("actor_id"),
    _text("actor_address", is_optional=True),
    _text("project_name", is_optional=True),
    _json("details"),
    _position(),
    PrimaryKeyConstraint("project_id", "id"),
    UniqueConstraint("id"),
    Index(None, "position", "id"),
    Index(None, "effective_at"),
)

IDEMPOTENT_REQUESTS: Final = Table(
    "idempotent_requests",
    METADATA,
    _text("actor_id"),
    Column("key_digest", LargeBinary, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("salt", LargeBinary, nullable=False),
    _json("response"),
    _time("created_at"),
    PrimaryKeyConstraint("actor_id", "key_digest"),
    Index(None, "created_at"),
)

PEPPERS: Final = Table(
    "peppers",
    METADATA,
    # HMACs of a constant, which tell a gateway that its pepper is not that of the keys.
    Column("fingerprint", LargeBinary, nullable=False),
    _time("created_at"),
    PrimaryKeyConstraint("fingerprint"),
)

DELETED_ROWS: Final = Table(
    "deleted_rows",
    METADATA,
    # Positions of rows that were deleted a short time ago, so that a list goes on after them.
    _text("table_name"),
    _text("project_id"),  # empty for the organization
    _text("id"),
    _position(),
    _time("deleted_at"),
    PrimaryKeyConstraint("table_name", "project_id", "id"),
    Index(None, "table_name", "position"),
    Index(None, "deleted_at"),
)


def _count(name: str) -> Column[Any]:
    return Column(name, BigInteger, nullable=False)


def _seconds(name: str, *, is_optional: bool = False) -> Column[Any]:
    return Column(name, Double, nullable=is_optional)


USAGE_ENTRIES: Final = Table(
    "usage_entries",
    METADATA,
    _text("project_id"),  # rows of usage outlive projects, users and keys
    _text("spool"),
    _count("sequence"),
    _seconds("finished_at"),
    _text("request_id"),
    _text("kind"),
    _text("route"),
    _text("user_id"),
    _text("api_key_id"),
    _text("model"),
    _text("engine", is_optional=True),
    _text("outcome"),
    _count("status"),
    Column("is_stream", Boolean, nullable=False),
    Column("is_cached", Boolean, nullable=False),
    _count("attempts"),
    _count("input_tokens"),
    _count("cached_tokens"),
    _count("output_tokens"),
    _seconds("queue_seconds"),
    _seconds("first_token_seconds", is_optional=True),
    _seconds("total_seconds"),
    _seconds("engine_seconds"),
    _seconds("gpu_seconds"),
    _text("service_tier"),
    _json("tags"),
    _json("decisions"),
    PrimaryKeyConstraint("project_id", "finished_at", "spool", "sequence"),
    Index(None, "finished_at", "spool", "sequence"),
    postgresql_partition_by="RANGE (finished_at)",
)


def _buckets(name: str, **options: Any) -> Table:
    return Table(
        name,
        METADATA,
        _text("project_id"),
        _time("start"),
        _text("kind"),
        _text("user_id"),
        _text("api_key_id"),
        _text("model"),
        _count("requests"),
        _count("input_tokens"),
        _count("cached_tokens"),
        _count("output_tokens"),
        _seconds("gpu_seconds"),
        PrimaryKeyConstraint("project_id", "start", "kind", "user_id", "api_key_id", "model"),
        Index(None, "start"),
        **options,
    )


USAGE_MINUTES: Final = _buckets("usage_minutes", postgresql_partition_by='RANGE ("start")')
USAGE_HOURS: Final = _buckets("usage_hours")
USAGE_DAYS: Final = _buckets("usage_days")

USAGE_SPOOLS: Final = Table(
    "usage_spools",
    METADATA,
    _text("spool"),
    _position(),
    _time("updated_at"),
    PrimaryKeyConstraint("spool"),
)

LIMITS: Final = Table(
    "limits",
    METADATA,
    _text("project_id"),  # empty for the organization and its users
    _text("id"),
    _text("scope"),
    _text("scope_id"),
    _text("model"),  # empty for all
    _text("unit"),
    _text("window"),
    Column("amount", BigInteger, nullable=True),
    _time("created_at"),
    _text("time_zone"),
    Column("is_budget", Boolean, nullable=False),
    _json("alert_percents"),
    Column("alert_amount", BigInteger, nullable=True),
    *_counters(),
    PrimaryKeyConstraint("project_id", "id"),
    UniqueConstraint("scope", "scope_id", "model", "unit", "window"),
    Index(None, "project_id", "position", "id"),
)

SPEND_ALERTS: Final = Table(
    "spend_alerts",
    METADATA,
    _text("project_id"),  # empty for the organization
    _text("id"),
    Column("amount", BigInteger, nullable=False),
    _json("recipients"),
    _text("subject_prefix", is_optional=True),
    _time("created_at"),
    *_counters(),
    PrimaryKeyConstraint("project_id", "id"),
    Index(None, "project_id", "position", "id"),
)

LIMIT_CHANGES: Final = Table(
    "limit_changes",
    METADATA,
    Column("revision", BigInteger, nullable=False, autoincrement=False),
    _text("scope"),
    _text("scope_id"),
    PrimaryKeyConstraint("revision"),
)

SENT_ALERTS: Final = Table(
    "sent_alerts",
    METADATA,
    _text("id"),
    _time("claimed_at"),
    _time("sent_at", is_optional=True),
    Column("is_lasting", Boolean, nullable=False),  # its window never begins anew
    PrimaryKeyConstraint("id"),
    Index(None, "claimed_at"),
)
