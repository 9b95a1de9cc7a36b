"""sources that go back: when an order's epoch began, and the first sight of one that may follow

Revision ID: 0011
Revises: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.alter_column("orders", "core_epoch", existing_type=sa.SmallInteger(), comment="how often the source went back")
    for name, comment in (
        ("core_epoch_at", "when this epoch began: the first sight of it"),
        ("core_back_at", "first sight that the source went back, not yet believed"),
        ("person_epoch_at", None),
        ("person_back_at", None),
    ):
        op.add_column("orders", sa.Column(name, sa.DateTime(timezone=True), comment=comment))
    op.drop_constraint(op.f("changes_kind_check"), "changes")
    op.create_check_constraint(
        op.f("changes_kind_check"),
        "changes",
        "kind IN ('created', 'updated', 'went_back', 'removed', 'restored', 'erased')",
    )
