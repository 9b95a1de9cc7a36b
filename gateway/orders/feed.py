"""The sequencer: puts committed changes into the one order in which readers page through them.

Ordering by id, or "below the oldest running transaction", skips rows or stalls: both were tried (DESIGN section 8).
"""

from __future__ import annotations

from sqlalchemy import Connection, text

BATCH = 5_000
_ONE = 4_242_002
"""Advisory lock: one sequencer at a time, whichever worker it lives in."""

_APPEND = text("""
WITH taken AS (
  DELETE FROM feed_pending WHERE change_id IN (SELECT change_id FROM feed_pending ORDER BY change_id LIMIT :batch)
  RETURNING change_id, account_id),
moved AS (
  UPDATE feed_state SET position = position + (SELECT count(*) FROM taken)
  WHERE EXISTS (SELECT 1 FROM taken) RETURNING old.position AS base)
INSERT INTO feed (position, change_id, account_id)
SELECT moved.base + row_number() OVER (ORDER BY taken.change_id), taken.change_id, taken.account_id
FROM taken, moved
""")


def sequence(tx: Connection) -> int:
    """Append what was committed since; how many, or 0 when another sequencer is at it."""
    if not tx.execute(text("SELECT pg_try_advisory_xact_lock(:one)"), {"one": _ONE}).scalar_one():
        return 0
    if tx.execute(text("SELECT 1 FROM feed_pending LIMIT 1")).first() is None:
        return 0
    return tx.execute(_APPEND, {"batch": BATCH}).rowcount
