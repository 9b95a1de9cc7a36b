"""by whose idea of the store's clock a watermark was fixed, and runs whose report is no longer kept

Revision ID: 0061
Revises: 0033
"""

import sqlalchemy as sa
from alembic import op

revision = "0061"
down_revision = "0033"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "connections",
        sa.Column(
            "watermark_skew_ms",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="skew_ms as it was when the watermark was fixed",
        ),
    )
    op.execute("UPDATE connections SET watermark_skew_ms = skew_ms WHERE watermark IS NOT NULL")
    op.add_column(
        "sync_runs",
        sa.Column("items_dropped_at", sa.DateTime(timezone=True), comment="since when its report is no longer kept"),
    )
    op.create_index(
        "sync_runs_kept_idx",
        "sync_runs",
        ["finished_at"],
        postgresql_where=sa.text("finished_at IS NOT NULL AND items_dropped_at IS NULL"),
    )
