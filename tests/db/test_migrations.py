"""The migrations make what tables.py says, and can be run again and at once."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, text

from gateway.db import migrate
from gateway.db.engine import Database, sqlalchemy_url
from gateway.db.tables import metadata

MADE_BY_OTHERS = ("procrastinate_", "delivery_bodies_", "alembic_version")
"""The job engine's own tables, and the partitions that are made as months go by."""


def _ours(thing: Any, name: str | None, kind: str, reflected: bool, _: Any) -> bool:
    return not (kind == "table" and name is not None and name.startswith(MADE_BY_OTHERS))


def test_the_migrations_make_what_the_tables_say(fresh_database_url: str) -> None:
    engine = create_engine(sqlalchemy_url(fresh_database_url))
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"include_object": _ours, "compare_type": True, "compare_server_default": False}
        )
        differences = compare_metadata(context, metadata)
    engine.dispose()

    # Alembic can't read back an index on an expression with an order: the next test compares those.
    assert [entry for entry in differences if not str(entry[0]).endswith("_index")] == []


def test_the_migrations_make_the_indexes_that_the_tables_say(fresh_database_url: str) -> None:
    engine = create_engine(sqlalchemy_url(fresh_database_url))
    with engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA declared"))
        metadata.create_all(connection.execution_options(schema_translate_map={None: "declared"}))
        rows = connection.execute(
            text(
                "SELECT schemaname, replace(indexdef, schemaname || '.', '') FROM pg_indexes"
                " WHERE schemaname IN ('public', 'declared') AND tablename = ANY(:tables)"
            ),
            {"tables": list(metadata.tables)},
        ).all()
    engine.dispose()
    made, declared = ({row[1] for row in rows if row[0] == schema} for schema in ("public", "declared"))

    assert made == declared
    assert len(made) > 40


def test_migrating_again_and_at_once_changes_nothing(fresh_database_url: str) -> None:
    failures: list[BaseException] = []

    def upgrade() -> None:
        try:
            migrate.upgrade(fresh_database_url)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=upgrade) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []


def test_partitions_cover_this_month_and_the_next_two(fresh_database_url: str) -> None:
    database = Database(fresh_database_url, pool_size=1)
    with database.transaction() as tx:
        made = migrate.make_partitions(tx, datetime(2031, 11, 30, tzinfo=UTC))
        again = migrate.make_partitions(tx, datetime(2031, 11, 30, tzinfo=UTC))
        tx.execute(
            text("INSERT INTO delivery_bodies (delivery_id, received_at, headers, body)"
                 " VALUES (1, '2032-01-31T23:59:59Z', '', ''), (2, '2040-01-01T00:00:00Z', '', '')")
        )  # fmt: skip
        rows = tx.execute(text("SELECT delivery_id, tableoid::regclass::text AS partition FROM delivery_bodies"))
        where = {row.delivery_id: row.partition for row in rows}
    database.close()

    assert made == ["delivery_bodies_2031_11", "delivery_bodies_2031_12", "delivery_bodies_2032_01"]
    assert again == []
    assert where == {1: "delivery_bodies_2032_01", 2: "delivery_bodies_default"}


def test_every_tenant_table_names_its_account() -> None:
    without = {
        name
        for name, table in metadata.tables.items()
        if "account_id" not in table.columns
    }  # fmt: skip

    assert without == {
        "accounts", "data_keys", "shopify_installs", "throttles", "signature_failures", "rate_budgets",
        "delivery_bodies", "batches", "feed_state", "sign_ups",
    }  # fmt: skip
    for name, table in metadata.tables.items():
        if name not in without | {"deliveries", "mails"}:
            assert not table.columns["account_id"].nullable, name
