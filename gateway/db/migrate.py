"""Bring a database to this release's tables: Alembic's for ours, the engine's own schema for jobs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from procrastinate.schema import SchemaManager
from sqlalchemy import Connection, create_engine, text

from gateway.db.engine import sqlalchemy_url
from gateway.domain.problems import UNEXPECTED, NeedsOperator

_ONE_AT_A_TIME = 4_242_001
"""Advisory lock: two processes that start at once migrate one after the other."""

MINIMUM_SERVER = 180_000

LOCK_SECONDS = 1


def upgrade(url: str) -> None:
    """Migrate to the newest release, make the partitions of this month and the next two; safe to run twice at once."""
    engine = create_engine(sqlalchemy_url(url))
    try:
        with engine.connect() as connection:
            found = connection.execute(text("SHOW server_version_num")).scalar_one()
            if int(found) < MINIMUM_SERVER:
                raise NeedsOperator(UNEXPECTED, f"PostgreSQL 18 or newer is needed; this one is {int(found) // 10000}")
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _ONE_AT_A_TIME})
            connection.commit()
            try:
                config = _config()
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
                _jobs_schema(connection)
                make_partitions(connection, datetime.now(UTC))
                connection.commit()
            finally:
                connection.rollback()
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _ONE_AT_A_TIME})
                connection.commit()
    finally:
        engine.dispose()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def is_newest(tx: Connection) -> bool:
    """Whether the tables are this release's."""
    if tx.execute(text("SELECT to_regclass('alembic_version')")).scalar_one() is None:
        return False
    found = tx.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
    return sorted(found) == sorted(ScriptDirectory.from_config(_config()).get_heads())


def missing_partitions(tx: Connection, today: datetime, months_ahead: int = 1) -> list[str]:
    """Which of the partitions from this month on are not there."""
    names = [name for name, _, _ in _partitions(today, months_ahead)]
    return [name for name in names if not _exists(tx, name)]


def _partitions(today: datetime, months_ahead: int) -> Iterator[tuple[str, str, str]]:
    """Name, first day and the day after the last of each month's partition."""
    year, month = today.year, today.month
    for _ in range(months_ahead + 1):
        following = (year + 1, 1) if month == 12 else (year, month + 1)
        yield (
            f"delivery_bodies_{year}_{month:02}",
            f"{year}-{month:02}-01+00",
            f"{following[0]}-{following[1]:02}-01+00",
        )
        year, month = following


def _exists(tx: Connection, name: str) -> bool:
    return tx.execute(text("SELECT to_regclass(:name)"), {"name": name}).scalar_one() is not None


def make_partitions(tx: Connection, today: datetime, months_ahead: int = 2) -> list[str]:
    """Make delivery_bodies' partitions for this month and the next; what fits none goes to the default one."""
    made = []
    for name, first, following in _partitions(today, months_ahead):
        if not _exists(tx, name):
            tx.execute(
                text(f"CREATE TABLE {name} PARTITION OF delivery_bodies FOR VALUES FROM ('{first}') TO ('{following}')")
            )
            tx.execute(text(f"ALTER TABLE {name} ALTER COLUMN body SET STORAGE EXTERNAL"))
            made.append(name)
    return made


def drop_partition_before(tx: Connection, today: datetime, months_kept: int) -> str | None:
    """Drop delivery_bodies' oldest partition, if it ended more than so many months before this one began; its name.

    One a transaction, and only when it can be had within LOCK_SECONDS: webhooks that arrive meanwhile wait for it, and
    are given up after 4 s. One with bodies that still wait to be applied stays. Raises when there is no lock to be had.
    """
    oldest_kept = today.year * 12 + today.month - 1 - months_kept
    names = tx.execute(
        text(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
            " WHERE i.inhparent = 'delivery_bodies'::regclass AND c.relname ~ '^delivery_bodies_[0-9]{4}_[0-9]{2}$'"
            " ORDER BY 1"
        )
    ).scalars()
    for name in names:
        year, month = int(name[-7:-3]), int(name[-2:])
        if year * 12 + month - 1 >= oldest_kept:
            return None
        following = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
        # deliveries_waiting_idx, deliveries_suspect_idx
        waits = text("SELECT 1 FROM deliveries WHERE state = 'waiting' AND received_at < :end LIMIT 1")
        if tx.execute(waits, {"end": following}).first() is not None:
            return None
        tx.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
        tx.execute(text(f"DROP TABLE {name}"))
        return str(name)
    return None


def _jobs_schema(tx: Connection) -> None:
    """Apply procrastinate's own schema once and note its version on its table.

    Raising the pin needs a migration of ours that runs the scripts which the library ships for that step.
    """
    ours = version("procrastinate")
    there = tx.execute(text("SELECT obj_description(to_regclass('procrastinate_jobs'))")).scalar_one()
    if tx.execute(text("SELECT to_regclass('procrastinate_jobs')")).scalar_one() is None:
        tx.exec_driver_sql(SchemaManager.get_schema().replace("%", "%%"))
        tx.exec_driver_sql(f"COMMENT ON TABLE procrastinate_jobs IS 'procrastinate {ours}'")
    elif there != f"procrastinate {ours}":
        raise NeedsOperator(UNEXPECTED, f"the job tables are of {there}, this release brings procrastinate {ours}")
