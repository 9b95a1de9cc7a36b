"""One row a bucket, shared by all workers: what may still be asked of a platform."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import text

from gateway.db.engine import Database

_RESERVE = text("""
INSERT INTO rate_budgets AS b (bucket, available, capacity, restore_per_second, refilled_at)
VALUES (:bucket, :capacity - :cost, :capacity, :restore, clock_timestamp())
ON CONFLICT (bucket) DO UPDATE SET
  available = least(b.capacity, b.available + b.restore_per_second
                    * extract(epoch FROM clock_timestamp() - b.refilled_at)) - :cost,
  refilled_at = clock_timestamp()
WHERE (b.blocked_until IS NULL OR b.blocked_until <= clock_timestamp())
  AND least(b.capacity, b.available + b.restore_per_second
            * extract(epoch FROM clock_timestamp() - b.refilled_at)) >= least(:cost, b.capacity)
RETURNING b.available
""")

_WAIT = text("""
SELECT greatest(
  extract(epoch FROM coalesce(blocked_until, '-infinity') - clock_timestamp()),
  (least(:cost, capacity) - available) / restore_per_second
    - extract(epoch FROM clock_timestamp() - refilled_at), 0.05)
FROM rate_budgets WHERE bucket = :bucket
""")


def reserve(database: Database, bucket: str, cost: float, *, capacity: float, restore_per_second: float) -> float:
    """Take `cost` from the bucket before a call: 0.0 when it was taken, else the seconds until it is worth asking."""
    values = {"bucket": bucket, "cost": cost, "capacity": capacity, "restore": restore_per_second}
    with database.transaction() as tx:
        if tx.execute(_RESERVE, values).first() is not None:
            return 0.0
        wait = tx.execute(_WAIT, {"bucket": bucket, "cost": cost}).scalar()
    return float(wait) if wait is not None and wait == wait and wait != float("-inf") else 0.05


def correct(database: Database, bucket: str, *, available: float, capacity: float, restore_per_second: float) -> None:
    """Believe the platform's own figures over ours."""
    with database.transaction() as tx:
        tx.execute(
            text(
                "INSERT INTO rate_budgets AS b (bucket, available, capacity, restore_per_second, refilled_at)"
                " VALUES (:bucket, :available, :capacity, :restore, clock_timestamp())"
                " ON CONFLICT (bucket) DO UPDATE SET available = :available, capacity = :capacity,"
                " restore_per_second = :restore, refilled_at = clock_timestamp()"
            ),
            {"bucket": bucket, "available": available, "capacity": capacity, "restore": restore_per_second},
        )


def block(database: Database, bucket: str, seconds: float) -> None:
    """Let nobody call before the platform's own Retry-After is over."""
    with database.transaction() as tx:
        tx.execute(
            text("UPDATE rate_budgets SET blocked_until = greatest(blocked_until, :until) WHERE bucket = :bucket"),
            {"until": datetime.now(UTC) + timedelta(seconds=seconds), "bucket": bucket},
        )
