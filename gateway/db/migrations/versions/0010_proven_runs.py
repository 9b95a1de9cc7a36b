"""runs by heads: samples, depth, quiet, retries, previews; and what webhooks missed, by day

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name, comment in (
        ("sampled", "equal heads, read all the same"),
        ("drifted", "those of them that differed"),
    ):
        column = sa.Column(name, sa.BigInteger(), server_default="0", nullable=False, comment=comment)
        op.add_column("sync_runs", column)
    for name, comment in (("deep", "every order read in full"), ("quiet", "not announced downstream")):
        op.add_column(
            "sync_runs", sa.Column(name, sa.Boolean(), server_default="false", nullable=False, comment=comment)
        )
    op.add_column("sync_runs", sa.Column("parent_id", sa.BigInteger(), comment="whose failed orders are tried again"))
    op.create_foreign_key(op.f("sync_runs_parent_id_fkey"), "sync_runs", "sync_runs", ["parent_id"], ["id"])
    op.drop_constraint(op.f("sync_runs_kind_check"), "sync_runs")
    op.create_check_constraint(
        op.f("sync_runs_kind_check"), "sync_runs", "kind IN ('manual', 'preview', 'retry', 'catch_up')"
    )
    op.drop_index("sync_runs_one_queued_idx", "sync_runs")
    op.create_index(
        "sync_runs_one_queued_idx",
        "sync_runs",
        ["connection_id", "kind", sa.text("coalesce(days, 0)"), "deep", sa.text("coalesce(parent_id, 0)")],
        unique=True,
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_table(
        "misses",
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("connection_id", sa.BigInteger(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False, comment="UTC"),
        sa.Column(
            "missed",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="what runs found and no webhook brought",
        ),
        sa.Column(
            "contradicted",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="webhooks that said else than a settled read of their very second",
        ),
        sa.ForeignKeyConstraint(
            ["connection_id"],
            ["connections.id"],
            name=op.f("misses_connection_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("connection_id", "day", name=op.f("misses_pkey")),
        comment="How much of a store's changes its webhooks did not bring, by day.",
    )
    op.create_index(op.f("misses_account_id_day_idx"), "misses", ["account_id", "day"])
