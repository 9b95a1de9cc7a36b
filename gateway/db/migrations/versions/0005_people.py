"""links that are sent by mail, and the outbox

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "links",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("made_by", sa.BigInteger(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("purpose IN ('invitation', 'reset')", name=op.f("links_purpose_check")),
        sa.CheckConstraint("role IN ('owner', 'manager', 'viewer')", name=op.f("links_role_check")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("links_account_id_fkey")),
        sa.ForeignKeyConstraint(["made_by"], ["users.id"], name=op.f("links_made_by_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("links_pkey")),
        sa.UniqueConstraint("token_hash", name=op.f("links_token_hash_key")),
        comment="Invitations and new passwords: each works once. Only the token's sha256 is here.",
    )
    op.create_index(op.f("links_account_id_idx"), "links", ["account_id"])
    op.create_table(
        "mails",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("to_address", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=True, comment="encrypted; NULL once it was sent"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("mails_account_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("mails_pkey")),
        comment="The outbox.",
    )
    op.create_index(op.f("mails_account_id_id_idx"), "mails", ["account_id", "id"])
