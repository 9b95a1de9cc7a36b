"""erasures and requests for one's own data

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("orders", sa.Column("erased_at", sa.DateTime(timezone=True)))
    op.add_column("deliveries", sa.Column("erased_at", sa.DateTime(timezone=True)))
    op.drop_column("deliveries", "subject_keys")  # nothing ever wrote it: see docs/decisions/0011
    for name, allowed in (
        ("kind", "kind IN ('created', 'updated', 'removed', 'restored', 'erased')"),
        ("source", "source IN ('delivery', 'run', 'reread', 'user', 'privacy')"),
    ):
        op.drop_constraint(op.f(f"changes_{name}_check"), "changes")
        op.create_check_constraint(op.f(f"changes_{name}_check"), "changes", allowed)
    op.create_table(
        "privacy_requests",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("connection_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column(
            "delivery_id", sa.BigInteger(), nullable=True, comment="the platform's request; NULL: asked for here"
        ),
        sa.Column("requested_by", sa.BigInteger(), nullable=True),
        sa.Column("ledger_key", sa.Text(), nullable=False, comment="its name in the ledger that outlives a restore"),
        sa.Column("order_ids", sa.ARRAY(sa.Text()), server_default="{}", nullable=False),
        sa.Column("customer_id", sa.Text(), nullable=True),
        sa.Column("email", sa.Text(), nullable=True, comment="of whom it is about; forgotten when it is done"),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), server_default="waiting", nullable=False),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("problem_detail", sa.Text(), nullable=True),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("orders_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("bodies_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("export", sa.LargeBinary(), nullable=True, comment="what a data_request brought together, encrypted"),
        sa.CheckConstraint(
            "kind IN ('data_request', 'redact', 'shop_redact')", name=op.f("privacy_requests_kind_check")
        ),
        sa.CheckConstraint("state IN ('waiting', 'done', 'refused')", name=op.f("privacy_requests_state_check")),
        sa.ForeignKeyConstraint(
            ["connection_id"], ["connections.id"], name=op.f("privacy_requests_connection_id_fkey"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["requested_by"], ["users.id"], name=op.f("privacy_requests_requested_by_fkey"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("privacy_requests_pkey")),
        sa.UniqueConstraint("delivery_id", name=op.f("privacy_requests_delivery_id_key")),
        sa.UniqueConstraint("ledger_key", name=op.f("privacy_requests_ledger_key_key")),
        comment="What privacy law asks of us: by whom, until when, and what was done.",
    )
    op.create_index(op.f("privacy_requests_account_id_id_idx"), "privacy_requests", ["account_id", "id"])
