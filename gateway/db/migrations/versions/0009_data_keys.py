"""one data key a store, which seals its raw payloads

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "data_keys",
        sa.Column(
            "id",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="random: never used again by another",
        ),
        sa.Column("connection_id", sa.BigInteger(), nullable=True),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False, comment="the key itself, encrypted"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.ForeignKeyConstraint(
            ["connection_id"],
            ["connections.id"],
            name=op.f("data_keys_connection_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("data_keys_pkey")),
        comment="What seals raw payloads, one key a store. connection_id NULL: what belongs to none yet.",
    )
    op.create_index("data_keys_connection_idx", "data_keys", [sa.text("coalesce(connection_id, 0)")], unique=True)
    op.alter_column("delivery_bodies", "body", comment="sealed by gateway/orders/payloads.py")
    # Sealed bytes can't be made smaller: PostgreSQL need not try.
    op.execute("ALTER TABLE delivery_bodies ALTER COLUMN body SET STORAGE EXTERNAL")
    op.execute("ALTER TABLE orders ALTER COLUMN raw SET STORAGE EXTERNAL")
    op.execute("ALTER TABLE orders ALTER COLUMN person_raw SET STORAGE EXTERNAL")
