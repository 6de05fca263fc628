"""Limits and budgets, and their alerts."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0003"
down_revision: Final = "0002"
is_expansion: Final = True
"""Whether gateways of the previous revision can go on with this one."""


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "limits",
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("scope_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("window", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("is_budget", sa.Boolean(), nullable=False),
        sa.Column("alert_percents", sa.JSON(), nullable=False),
        sa.Column("alert_amount", sa.BigInteger(), nullable=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "id", name=op.f("pk_limits")),
        sa.UniqueConstraint(
            "scope",
            "scope_id",
            "model",
            "unit",
            "window",
            name=op.f("uq_limits_scope_scope_id_model_unit_window"),
        ),
    )
    op.create_index(
        op.f("ix_limits_project_id_position_id"), "limits", ["project_id", "position", "id"]
    )
    op.create_table(
        "spend_alerts",
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("recipients", sa.JSON(), nullable=False),
        sa.Column("subject_prefix", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "id", name=op.f("pk_spend_alerts")),
    )
    op.create_index(
        op.f("ix_spend_alerts_project_id_position_id"),
        "spend_alerts",
        ["project_id", "position", "id"],
    )
    op.create_table(
        "limit_changes",
        sa.Column("revision", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("scope_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("revision", name=op.f("pk_limit_changes")),
    )
    op.create_table(
        "sent_alerts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("claimed_at", sa.BigInteger(), nullable=False),
        sa.Column("sent_at", sa.BigInteger(), nullable=True),
        sa.Column("is_lasting", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sent_alerts")),
    )
    op.create_index(op.f("ix_sent_alerts_claimed_at"), "sent_alerts", ["claimed_at"])
