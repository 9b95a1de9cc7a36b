"""an index over the deliveries that nobody could use: each hour those of 14 days ago are forgotten

Revision ID: 0031
Revises: 0012
"""

from alembic import op

revision = "0031"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "CREATE INDEX deliveries_unused_idx ON deliveries (received_at)"
        " WHERE state IN ('parked', 'dead', 'ignored') AND erased_at IS NULL"
    )
