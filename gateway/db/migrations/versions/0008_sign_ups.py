"""sign-ups that wait for the proof of their address

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sign_ups",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False, comment="the name that it shall have"),
        sa.Column("next_path", sa.Text(), nullable=False, server_default=""),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("sign_ups_pkey")),
        sa.UniqueConstraint("email", name=op.f("sign_ups_email_key")),
        sa.UniqueConstraint("token_hash", name=op.f("sign_ups_token_hash_key")),
        comment="Accounts that are made once their owner's address is proven.",
    )
    op.alter_column("mails", "account_id", nullable=True)
