"""What a run did with each order, and by how much its counters move."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection as Transaction

from backfill.runs import Taken
from gateway.db.engine import cursor as cursor_of
from gateway.orders import misses


class Item(NamedTuple):
    """What the run did with one order."""

    external_id: str
    outcome: str
    updated_at: datetime | None
    problem: str | None = None
    problem_detail: str | None = None


_RECORD = """
INSERT INTO run_items AS i (run_id, account_id, external_id, outcome, pass, updated_at, problem, problem_detail)
SELECT %s::int8, %s::int8, e, o, %s::int2, u, p, d
FROM unnest(%b::text[], %b::text[], %b::timestamptz[], %b::text[], %b::text[]) AS n (e, o, u, p, d)
ON CONFLICT (run_id, external_id) DO UPDATE SET
  pass = CASE WHEN excluded.pass = 0 THEN i.pass ELSE excluded.pass END,
  updated_at = coalesce(greatest(i.updated_at, excluded.updated_at), i.updated_at),
  outcome = CASE WHEN i.outcome IN ('created', 'updated') AND excluded.outcome <> 'removed' THEN i.outcome
                 WHEN i.outcome IN ('unchanged', 'newer_here') AND excluded.outcome IN ('unchanged', 'newer_here')
                 THEN i.outcome ELSE excluded.outcome END,
  problem = excluded.problem, problem_detail = excluded.problem_detail
RETURNING old.outcome AS before, new.outcome AS after, new.updated_at
"""


def record(tx: Transaction, taken: Taken, items: Sequence[Item], *, number: int, since: datetime) -> Counter[str]:
    """Write what became of each order; by how much the counters move. An order counts once, however often listed.

    `number`: the listing that named them; 0: read again because they changed meanwhile; negative: looked up singly
    after that listing. "missed" counts what this run brought of changes after `since`, when webhooks were on.
    """
    counted: Counter[str] = Counter()
    if not items:
        return counted
    rows = sorted(items)
    with cursor_of(tx) as cursor:
        cursor.execute(
            _RECORD,
            (taken.id, taken.account_id, number, [row.external_id for row in rows], [row.outcome for row in rows],
             [row.updated_at for row in rows], [row.problem for row in rows], [row.problem_detail for row in rows]),
        )  # fmt: skip
        for before, after, updated_at in cursor.fetchall():
            if before is not None:
                counted[before] -= 1
            counted[after] += 1
            brought = after in ("created", "updated") and before not in ("created", "updated")
            if brought and updated_at is not None and updated_at >= since:
                counted["missed"] += 1
    if counted["missed"] and taken.kind != "preview":
        misses.note(tx, taken.account_id, taken.connection_id, missed=counted["missed"])
    return counted
