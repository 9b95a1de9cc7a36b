"""looks at several people at once are noted too: lists and the change feed by API, and searches for whom to erase

Revision ID: 0033
Revises: 0032
"""

from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_constraint(op.f("audit_action_check"), "audit")
    op.create_check_constraint(
        op.f("audit_action_check"),
        "audit",
        "action IN ('order', 'orders', 'changes', 'feed', 'delivery', 'search', 'export')",
    )
    op.alter_column("audit", "subject_id", comment="the order, delivery or request; of lists, how many were shown")
