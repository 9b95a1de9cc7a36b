"""when a connection's tokens were given or renewed last

Revision ID: 0032
Revises: 0031
"""

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "connections",
        sa.Column(
            "tokens_at", sa.DateTime(timezone=True), comment="our clock: when the tokens were given or renewed last"
        ),
    )
