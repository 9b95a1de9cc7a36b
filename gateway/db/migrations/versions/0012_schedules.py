"""what begins by itself: nightly reads of what is unsettled, days of calls, and what stopped and may go on

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "rate_budgets",
        sa.Column("day_left", sa.Numeric(), comment="calls left of the last 24 hours, where the platform counts them"),
    )
    op.add_column("rate_budgets", sa.Column("day_limit", sa.Numeric()))
    op.add_column("rate_budgets", sa.Column("day_seen_at", sa.DateTime(timezone=True)))
    op.drop_constraint(op.f("sync_runs_kind_check"), "sync_runs")
    op.create_check_constraint(
        op.f("sync_runs_kind_check"), "sync_runs", "kind IN ('manual', 'preview', 'retry', 'catch_up', 'settle')"
    )
    op.create_index("sync_runs_store_idx", "sync_runs", ["connection_id", "kind", "id"])
    op.create_index(
        "sync_runs_stopped_idx", "sync_runs", ["connection_id", "id"], postgresql_where=sa.text("state = 'stopped'")
    )
    op.create_index(
        "orders_unsettled_idx",
        "orders",
        ["connection_id", "external_id"],
        postgresql_where=sa.text(
            "removed_at IS NULL AND core_digest IS NOT NULL AND (core_settled IS FALSE OR person_settled IS FALSE)"
        ),
    )
