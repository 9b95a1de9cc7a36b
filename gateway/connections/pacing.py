"""One row a bucket, shared by all workers: what may still be asked of a platform, and who goes first.

Hooks go before users, users before catch-up, catch-up before what has time: whoever comes later leaves a share of the
bucket, and of the day where the platform counts one, to those before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from sqlalchemy import text

from gateway.db.engine import Database
from gateway.platforms.base import Budget

Purpose = Literal["hooks", "user", "catch_up", "background"]

LEFT_OF_BUCKET: Mapping[Purpose, float] = {"hooks": 0.0, "user": 0.1, "catch_up": 0.3, "background": 0.5}

LEFT_OF_DAY: Mapping[Purpose, float] = {"hooks": 0.03, "user": 0.1, "catch_up": 0.2, "background": 0.4}
"""Etsy sheet, section 4: below a tenth of the day's calls only webhook fetches go on, below 3 % nothing."""

_NOW_THERE = """least(b.capacity, b.available + b.restore_per_second
                    * extract(epoch FROM clock_timestamp() - b.refilled_at))"""
_DAY_THERE = "(b.day_left + b.day_limit / 86400 * extract(epoch FROM clock_timestamp() - b.day_seen_at))"
_WANTED = "least(:cost + :left * b.capacity, b.capacity)"

_RESERVE = text(f"""
INSERT INTO rate_budgets AS b (bucket, available, capacity, restore_per_second, refilled_at)
VALUES (:bucket, :capacity - :cost, :capacity, :restore, clock_timestamp())
ON CONFLICT (bucket) DO UPDATE SET available = {_NOW_THERE} - :cost, refilled_at = clock_timestamp()
WHERE (b.blocked_until IS NULL OR b.blocked_until <= clock_timestamp())
  AND {_NOW_THERE} >= {_WANTED}
  AND (b.day_limit IS NULL OR {_DAY_THERE} >= :day_left * b.day_limit)
RETURNING b.available
""")  # noqa: S608 - constants only

_WAIT = text(f"""
SELECT greatest(
  extract(epoch FROM coalesce(b.blocked_until, '-infinity') - clock_timestamp()),
  ({_WANTED} - b.available) / nullif(b.restore_per_second, 0)
    - extract(epoch FROM clock_timestamp() - b.refilled_at),
  (:day_left * b.day_limit - {_DAY_THERE}) / (b.day_limit / 86400), 0.05)
FROM rate_budgets b WHERE b.bucket = :bucket
""")  # noqa: S608 - constants only


def reserve(
    database: Database, bucket: str, cost: float, *, capacity: float, restore_per_second: float, purpose: Purpose
) -> float:
    """Take `cost` from the bucket before a call: 0.0 when it was taken, else the seconds until it is worth asking."""
    values = {
        "bucket": bucket, "cost": cost, "capacity": capacity, "restore": restore_per_second,
        "left": LEFT_OF_BUCKET[purpose], "day_left": LEFT_OF_DAY[purpose],
    }  # fmt: skip
    with database.transaction() as tx:
        if tx.execute(_RESERVE, values).first() is not None:
            return 0.0
        return float(tx.execute(_WAIT, values).scalar() or 0.05)


def blocked_for(database: Database, bucket: str) -> float:
    """Seconds until the platform's own Retry-After is over; 0.0 when it asked for none."""
    with database.transaction() as tx:
        seconds = tx.execute(
            text(
                "SELECT extract(epoch FROM blocked_until - clock_timestamp()) FROM rate_budgets"
                " WHERE bucket = :bucket AND blocked_until > clock_timestamp()"
            ),
            {"bucket": bucket},
        ).scalar()
    return float(seconds or 0.0)


def correct(database: Database, bucket: str, budget: Budget) -> None:
    """Believe the platform's own figures over ours."""
    with database.transaction() as tx:
        tx.execute(
            text(
                "INSERT INTO rate_budgets AS b (bucket, available, capacity, restore_per_second, refilled_at,"
                " day_left, day_limit, day_seen_at) VALUES (:bucket, :available, :capacity, :restore,"
                " clock_timestamp(), :day_left, :day_limit, clock_timestamp())"
                " ON CONFLICT (bucket) DO UPDATE SET available = excluded.available, capacity = excluded.capacity,"
                " restore_per_second = excluded.restore_per_second, refilled_at = excluded.refilled_at,"
                " day_left = coalesce(excluded.day_left, b.day_left),"
                " day_limit = coalesce(excluded.day_limit, b.day_limit),"
                " day_seen_at = CASE WHEN excluded.day_left IS NULL THEN b.day_seen_at ELSE excluded.day_seen_at END"
            ),
            {"bucket": bucket, "available": budget.available, "capacity": budget.capacity,
             "restore": budget.restore_per_second, "day_left": budget.day_left, "day_limit": budget.day_limit},
        )  # fmt: skip


def block(database: Database, bucket: str, seconds: float, *, capacity: float, restore_per_second: float) -> None:
    """Let nobody call before the platform's own Retry-After is over."""
    with database.transaction() as tx:
        tx.execute(
            text(
                "INSERT INTO rate_budgets AS b (bucket, available, capacity, restore_per_second, refilled_at,"
                " blocked_until) VALUES (:bucket, :capacity, :capacity, :restore, clock_timestamp(),"
                " clock_timestamp() + :seconds * interval '1 second')"
                " ON CONFLICT (bucket) DO UPDATE SET blocked_until = greatest(b.blocked_until, excluded.blocked_until)"
            ),
            {"seconds": seconds, "bucket": bucket, "capacity": capacity, "restore": restore_per_second},
        )  # fmt: skip


def day_limit(database: Database, bucket: str) -> float | None:
    """How many calls a day the platform allows, as it last said; None: it never did."""
    with database.transaction() as tx:
        limit = tx.execute(text("SELECT day_limit FROM rate_budgets WHERE bucket = :bucket"), {"bucket": bucket})
        found = limit.scalar()
    return None if found is None else float(found)
