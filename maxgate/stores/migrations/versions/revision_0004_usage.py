"""The ledger of requests and its roll-ups.

PostgreSQL partitions entries and minutes by day. Gateways make the partitions of days if their role
may, and the default partition has the rows of all other days.
"""

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0004"
down_revision: Final = "0003"
is_expansion: Final = True
"""Whether gateways of the previous revision can go on with this one."""


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "usage_entries",
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("spool", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.Double(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("api_key_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("engine", sa.Text(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("status", sa.BigInteger(), nullable=False),
        sa.Column("is_stream", sa.Boolean(), nullable=False),
        sa.Column("is_cached", sa.Boolean(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cached_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("queue_seconds", sa.Double(), nullable=False),
        sa.Column("first_token_seconds", sa.Double(), nullable=True),
        sa.Column("total_seconds", sa.Double(), nullable=False),
        sa.Column("engine_seconds", sa.Double(), nullable=False),
        sa.Column("gpu_seconds", sa.Double(), nullable=False),
        sa.Column("service_tier", sa.Text(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("decisions", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint(
            "project_id", "finished_at", "spool", "sequence", name=op.f("pk_usage_entries")
        ),
        postgresql_partition_by="RANGE (finished_at)",
    )
    op.create_index(
        op.f("ix_usage_entries_finished_at_spool_sequence"),
        "usage_entries",
        ["finished_at", "spool", "sequence"],
    )
    _create_buckets("usage_minutes", postgresql_partition_by='RANGE ("start")')
    _create_buckets("usage_hours")
    _create_buckets("usage_days")
    op.create_table(
        "usage_spools",
        sa.Column("spool", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("spool", name=op.f("pk_usage_spools")),
    )
    if op.get_bind().dialect.name == "postgresql":
        for table in ("usage_entries", "usage_minutes"):
            op.execute(f"CREATE TABLE {table}_default PARTITION OF {table} DEFAULT")


def _create_buckets(name: str, **options: Any) -> None:
    op.create_table(
        name,
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("api_key_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cached_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("gpu_seconds", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint(
            "project_id",
            "start",
            "kind",
            "user_id",
            "api_key_id",
            "model",
            name=op.f(f"pk_{name}"),
        ),
        **options,
    )
    op.create_index(op.f(f"ix_{name}_start"), name, ["start"])
