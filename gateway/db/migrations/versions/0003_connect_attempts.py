"""attempts to connect a store; when webhooks were last audited

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "connect_attempts",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("state_hash", sa.LargeBinary(), nullable=False, comment="sha256 of the one-time state"),
        sa.Column("about", sa.LargeBinary(), nullable=False, comment="encrypted JSON: what the flow was begun with"),
        sa.Column("keys", sa.LargeBinary(), nullable=True, comment="encrypted JSON: what the store handed over"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("connect_attempts_account_id_fkey")),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("connect_attempts_user_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("connect_attempts_pkey")),
        sa.UniqueConstraint("state_hash", name=op.f("connect_attempts_state_hash_key")),
        comment="Flows that left for a store's or platform's consent page, until they come back or expire.",
    )
    op.create_index(
        op.f("connect_attempts_account_id_expires_at_idx"),
        "connect_attempts",
        ["account_id", "expires_at"],
        unique=False,
    )
    op.add_column("connections", sa.Column("audit_wanted_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("connections", sa.Column("audited_at", sa.DateTime(timezone=True), nullable=True))
