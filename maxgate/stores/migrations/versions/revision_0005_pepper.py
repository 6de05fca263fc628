"""Fingerprints of the peppers that keys are hashed with."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0005"
down_revision: Final = "0004"
is_expansion: Final = True
"""Whether gateways of the previous revision can go on with this one."""


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "peppers",
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_peppers")),
    )
