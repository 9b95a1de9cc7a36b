"""installations from Shopify's side that no account has claimed yet

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "shopify_installs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("state_hash", sa.LargeBinary(), nullable=False),
        sa.Column("shop", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("tokens", sa.LargeBinary(), nullable=True, comment="encrypted"),
        sa.Column("scopes", sa.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("claim_hash", sa.LargeBinary(), nullable=True),
        sa.Column("shop_id", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("domain", sa.Text(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column("time_zone", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("shopify_installs_pkey")),
        sa.UniqueConstraint("state_hash", name=op.f("shopify_installs_state_hash_key")),
        sa.UniqueConstraint("claim_hash", name=op.f("shopify_installs_claim_hash_key")),
        comment="From the App URL to the claim: a one-time state, then tokens that wait for an account.",
    )
