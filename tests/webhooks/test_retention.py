"""Raw bodies are dropped month by month; deliveries stay."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
import time_machine
from sqlalchemy import text

from gateway.db.engine import Database
from gateway.db.migrate import make_partitions
from webhooks import retention


class _Access:
    def __init__(self, database: Database) -> None:
        self.database = database


def _months(database: Database) -> list[str]:
    with database.transaction() as tx:
        names = tx.execute(text("SELECT inhrelid::regclass::text FROM pg_inherits"
                                " WHERE inhparent = 'delivery_bodies'::regclass ORDER BY 1")).scalars()  # fmt: skip
        return [name.removeprefix("delivery_bodies_") for name in names]


def _drop(database: Database, kept: int) -> None:
    context: Any = type("Context", (), {"additional_context": {"access": _Access(database), "body_months": kept}})()
    with time_machine.travel(datetime(2026, 3, 31, 3, 27, tzinfo=UTC), tick=False):
        retention.drop_old(context, 0)


@pytest.fixture
def database(fresh_database_url: str) -> Any:
    """Partitions of November to May, with a body in each, however many others there are."""
    database = Database(fresh_database_url, pool_size=3)
    with database.transaction() as tx:
        for name in tx.execute(
            text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'delivery_bodies'::regclass")
        ).scalars():
            if not name.endswith("default"):
                tx.execute(text(f"DROP TABLE {name}"))
        make_partitions(tx, datetime(2025, 11, 5, tzinfo=UTC), months_ahead=6)
        for month in ("2025-11", "2025-12", "2026-01", "2026-02", "2026-03"):
            tx.execute(
                text("WITH d AS (INSERT INTO deliveries (platform, delivery_key, topic, received_at, body_bytes, state,"
                     " next_attempt_at) VALUES ('shopify', :month, 't', CAST(:at AS timestamptz), 1, 'done', now())"
                     " RETURNING id, received_at) INSERT INTO delivery_bodies SELECT id, received_at, '', '' FROM d"),
                {"month": month, "at": f"{month}-15T00:00:00Z"},
            )  # fmt: skip
    yield database
    database.close()


@pytest.mark.parametrize(
    ("kept", "left"),
    [
        (1, ["2026_02", "2026_03", "2026_04", "2026_05", "default"]),
        (3, ["2025_12", "2026_01", "2026_02", "2026_03", "2026_04", "2026_05", "default"]),
        (120, ["2025_11", "2025_12", "2026_01", "2026_02", "2026_03", "2026_04", "2026_05", "default"]),
    ],
)
def test_months_that_are_over_for_long_enough_are_dropped_whole(database: Database, kept: int, left: list[str]) -> None:
    _drop(database, kept)

    assert _months(database) == left
    with database.transaction() as tx:
        assert tx.execute(text("SELECT count(*) FROM deliveries")).scalar() == 5
        assert tx.execute(text("SELECT count(*) FROM delivery_bodies")).scalar() == sum(m < "2026_04" for m in left)


def test_what_still_waits_keeps_its_month(database: Database) -> None:
    with database.transaction() as tx:
        tx.execute(text("UPDATE deliveries SET state = 'waiting' WHERE delivery_key = '2025-12'"))

    _drop(database, 1)

    assert _months(database)[0] == "2025_12"


def test_a_month_that_is_being_read_waits_for_another_night(database: Database, fresh_database_url: str) -> None:
    """Webhooks that arrive meanwhile would wait behind the drop."""
    with psycopg.connect(fresh_database_url) as reader:
        reader.execute("SELECT count(*) FROM delivery_bodies")

        _drop(database, 1)

        assert _months(database)[0] == "2025_11"
    _drop(database, 1)
    assert _months(database)[0] == "2026_02"
