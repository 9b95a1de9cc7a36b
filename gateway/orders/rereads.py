"""Orders to be read again from their platform: one row an order, however many ask (debounced)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection

from gateway.db.engine import cursor as cursor_of


class Wish(NamedTuple):
    """`due_at` by the clock of whoever wishes; None: at once. When it was wished, PostgreSQL's clock says."""

    account_id: int
    connection_id: int
    external_id: str
    reason: str
    due_at: datetime | None
    delivery_id: int | None


_WANT = """
INSERT INTO rereads AS r (connection_id, external_id, account_id, reason, delivery_id, due_at, again_at)
SELECT c, e, a, why, d, t, greatest(t, clock_timestamp()) FROM (
  SELECT DISTINCT ON (c, e) c, e, a, why, d, coalesce(t, clock_timestamp()) AS t
  FROM unnest(%b::int8[], %b::text[], %b::int8[], %b::text[], %b::int8[], %b::timestamptz[]) AS i (c, e, a, why, d, t)
  ORDER BY c, e, t DESC NULLS FIRST) AS i
ON CONFLICT (connection_id, external_id) DO UPDATE SET
  due_at = least(r.due_at, excluded.due_at), again_at = greatest(r.again_at, excluded.again_at),
  delivery_id = coalesce(excluded.delivery_id, r.delivery_id),
  attempts = 0, problem = NULL, problem_detail = NULL
"""


def want(tx: Connection, wishes: Sequence[Wish]) -> None:
    """Note that these orders must be read again; it commits with whatever asked for it."""
    if not wishes:
        return
    with cursor_of(tx) as cursor:
        cursor.execute(
            _WANT,
            (
                [wish.connection_id for wish in wishes],
                [wish.external_id for wish in wishes],
                [wish.account_id for wish in wishes],
                [wish.reason for wish in wishes],
                [wish.delivery_id for wish in wishes],
                [wish.due_at for wish in wishes],
            ),
        )
