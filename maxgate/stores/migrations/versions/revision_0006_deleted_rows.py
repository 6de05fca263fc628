"""Positions of deleted rows, so that a list goes on after one of them."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0006"
down_revision: Final = "0005"
is_expansion: Final = True
"""Whether gateways of the previous revision can go on with this one."""


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "deleted_rows",
        sa.Column("table_name", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("table_name", "project_id", "id", name=op.f("pk_deleted_rows")),
    )
    op.create_index(op.f("ix_deleted_rows_deleted_at"), "deleted_rows", ["deleted_at"])
    op.create_index(
        op.f("ix_deleted_rows_table_name_position"), "deleted_rows", ["table_name", "position"]
    )
