"""since when a connection is in its state, and what owners were told

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "connections",
        sa.Column("state_since", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
    )
    op.add_column(
        "connections",
        sa.Column(
            "told_problem", sa.Text(), server_default="", nullable=False, comment="the problem that owners know of"
        ),
    )
