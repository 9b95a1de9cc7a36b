"""who read personal data

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.BigInteger(), nullable=False, comment="the order, delivery or request"),
        sa.Column("by_api", sa.Boolean(), server_default="false", nullable=False),
        sa.CheckConstraint("action IN ('order', 'delivery', 'export')", name=op.f("audit_action_check")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("audit_user_id_fkey"), ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id", name=op.f("audit_pkey")),
        comment="Each look at who ordered.",
    )
    op.create_index(op.f("audit_account_id_id_idx"), "audit", ["account_id", "id"])
