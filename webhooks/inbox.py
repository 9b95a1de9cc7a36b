"""The inbox: deliveries claimed in batches, marked done, set aside, buried, replayed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from gateway.db.engine import cursor as cursor_of
from gateway.domain.problems import DELIVERY_NOT_KEPT, WORKER_KILLER, Problem, Refused
from gateway.domain.scope import AccountScope

MAX_BATCH_BYTES = 8 * 1024 * 1024
MAX_ATTEMPTS = 8
SUSPECT_SIZES = (500, 50, 5, 1)
"""A batch whose worker died is tried again in smaller and smaller ones; alone, and dead again: set aside."""

DRAINER_LOCK = 4_242_200
"""First half of the advisory lock that a drainer holds while it lives; the second is its number."""


class Claimed(NamedTuple):
    """A delivery that this transaction holds."""

    id: int
    account_id: int | None
    connection_id: int | None
    platform: str
    shop: str
    topic: str
    received_at: datetime
    observed_at: datetime | None
    attempts: int
    crashes: int
    body_bytes: int


@dataclass(slots=True)
class Verdict:
    """What became of one delivery; written by `finish`."""

    id: int
    state: str
    attempts: int
    connection_id: int | None = None
    account_id: int | None = None
    outcome: str | None = None
    order_external_id: str | None = None
    parts: list[str] = field(default_factory=list)
    problem: str | None = None
    problem_detail: str | None = None
    next_attempt_at: datetime | None = None
    shop: str | None = None


_CLAIM = """
SELECT id, account_id, connection_id, platform, shop, topic, received_at, observed_at, attempts, crashes, body_bytes
FROM deliveries
WHERE state = 'waiting' AND crashes {crashes} AND next_attempt_at <= clock_timestamp()
ORDER BY id LIMIT :size FOR UPDATE SKIP LOCKED
"""
_CLAIM_USUAL = text(_CLAIM.format(crashes="= 0"))
_CLAIM_SUSPECT = text(_CLAIM.format(crashes="> 0"))
_SUSPECT = text("SELECT crashes FROM deliveries WHERE state = 'waiting' AND crashes > 0 ORDER BY id LIMIT 1")


def claim(tx: Connection, size: int) -> list[Claimed]:
    """Lock the oldest deliveries that are due; other workers skip them until this transaction ends."""
    crashes = tx.execute(_SUSPECT).scalar()
    if crashes is not None:
        size = SUSPECT_SIZES[min(crashes, len(SUSPECT_SIZES) - 1)]
        rows = [Claimed(*row) for row in tx.execute(_CLAIM_SUSPECT, {"size": size})]
        if rows:
            return _light(rows)
    return _light([Claimed(*row) for row in tx.execute(_CLAIM_USUAL, {"size": size})])


def _light(rows: list[Claimed]) -> list[Claimed]:
    """As many as fit into MAX_BATCH_BYTES, at least one; the others stay locked only until this batch is done."""
    total = 0
    for index, row in enumerate(rows):
        total += row.body_bytes
        if total > MAX_BATCH_BYTES and index:
            return rows[:index]
    return rows


_BODIES = """
SELECT b.delivery_id, b.body FROM unnest(%b::int8[], %b::timestamptz[]) AS i (id, received_at)
JOIN delivery_bodies b ON b.delivery_id = i.id AND b.received_at = i.received_at
"""


def bodies(tx: Connection, rows: Sequence[Claimed]) -> dict[int, bytes]:
    """The raw bodies, sealed; fetched in binary, since as text each byte would be two."""
    with cursor_of(tx, binary=True) as cursor:
        cursor.execute(_BODIES, ([row.id for row in rows], [row.received_at for row in rows]))
        return dict(cursor.fetchall())


_FINISH = """
UPDATE deliveries d SET state = s, attempts = a, connection_id = coalesce(c, d.connection_id),
  account_id = coalesce(k, d.account_id), outcome = o, order_external_id = coalesce(e, d.order_external_id),
  parts = string_to_array(p, ','), problem = q, problem_detail = r,
  next_attempt_at = coalesce(n, d.next_attempt_at), shop = coalesce(h, d.shop),
  done_at = CASE WHEN s = 'waiting' THEN NULL ELSE now() END
FROM unnest(%b::int8[], %b::text[], %b::int2[], %b::int8[], %b::int8[], %b::text[], %b::text[], %b::text[],
            %b::text[], %b::text[], %b::timestamptz[], %b::text[]) AS i (i, s, a, c, k, o, e, p, q, r, n, h)
WHERE d.id = i
"""


def finish(tx: Connection, verdicts: Sequence[Verdict]) -> None:
    """Write what became of a batch, in the transaction that applied it."""
    columns: list[list[Any]] = [
        [v.id for v in verdicts], [v.state for v in verdicts], [v.attempts for v in verdicts],
        [v.connection_id for v in verdicts], [v.account_id for v in verdicts], [v.outcome for v in verdicts],
        [v.order_external_id for v in verdicts], [",".join(v.parts) for v in verdicts],
        [v.problem for v in verdicts], [v.problem_detail for v in verdicts], [v.next_attempt_at for v in verdicts],
        [v.shop for v in verdicts],
    ]  # fmt: skip
    with cursor_of(tx) as cursor:
        cursor.execute(_FINISH, columns)


def set_aside(
    row: Claimed, problem: Problem, detail: str, moment: datetime, *, again: bool, order_external_id: str | None = None
) -> Verdict:
    """Try it again later with back-off and jitter, or, after MAX_ATTEMPTS or when the same input gives the same
    answer, bury it: a dead letter that can be replayed."""
    attempts = row.attempts + 1
    if not again or attempts >= MAX_ATTEMPTS:
        return Verdict(
            row.id, "dead", attempts, problem=problem.code, problem_detail=detail[:1000],
            order_external_id=order_external_id,
        )  # fmt: skip
    wait = min(5.0 * 4 ** (attempts - 1), 6 * 3600.0) * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, no secret
    return Verdict(
        row.id, "waiting", attempts, problem=problem.code, problem_detail=detail[:1000],
        next_attempt_at=moment + timedelta(seconds=wait), order_external_id=order_external_id,
    )  # fmt: skip


# --- workers that died -----------------------------------------------------------------------------------------
def note_batch(tx: Connection, drainer: int, ids: Sequence[int]) -> int:
    """Note, in a commit of its own, that this batch is begun: if its process dies, it may have been the reason."""
    number: int = tx.execute(
        text("INSERT INTO batches (drainer, delivery_ids) VALUES (:drainer, :ids) RETURNING id"),
        {"drainer": drainer, "ids": list(ids)},
    ).scalar_one()
    return number


def forget_batch(tx: Connection, batch: int) -> None:
    tx.execute(text("DELETE FROM batches WHERE id = :id"), {"id": batch})


def suspect_orphans(tx: Connection) -> int:
    """Mark the deliveries of batches whose drainer is gone; bury one that was alone for the last time.

    A drainer holds an advisory lock while its connection lives, so whoever can take it knows that it is gone.
    """
    orphans = tx.execute(
        text(
            "SELECT id, delivery_ids FROM batches WHERE pg_try_advisory_xact_lock(:lock, drainer)"
            " FOR UPDATE SKIP LOCKED"
        ),
        {"lock": DRAINER_LOCK},
    ).all()
    for orphan in orphans:
        tx.execute(
            text("UPDATE deliveries SET crashes = crashes + 1 WHERE id = ANY(:ids) AND state = 'waiting'"),
            {"ids": orphan.delivery_ids},
        )
        tx.execute(
            text(
                "UPDATE deliveries SET state = 'dead', problem = :code, done_at = now()"
                " WHERE id = ANY(:ids) AND state = 'waiting' AND crashes >= :limit"
            ),
            {"ids": orphan.delivery_ids, "code": WORKER_KILLER.code, "limit": len(SUSPECT_SIZES)},
        )
        forget_batch(tx, orphan.id)
    return len(orphans)


# --- replay ----------------------------------------------------------------------------------------------------
_REPLAY = """
UPDATE deliveries d SET state = 'waiting', attempts = 0, crashes = 0, next_attempt_at = clock_timestamp(),
  problem = NULL, problem_detail = NULL, outcome = NULL, done_at = NULL
WHERE account_id = :account AND erased_at IS NULL
  AND EXISTS (SELECT FROM delivery_bodies b WHERE b.delivery_id = d.id AND b.received_at = d.received_at)
"""
"""Of a delivery whose body is no longer kept nothing can be applied: whole months of them are dropped."""


def replay(tx: Connection, scope: AccountScope, delivery_id: int) -> bool:
    """Apply a stored delivery once more; it changes nothing that is newer. False: no such delivery of this account.

    Raises Refused when its body is no longer kept.
    """
    done = tx.execute(text(_REPLAY + " AND id = :id"), {"id": delivery_id, "account": scope.account_id})
    if done.rowcount != 1 and _is_not_kept(tx, scope, delivery_id):
        raise Refused(DELIVERY_NOT_KEPT, str(delivery_id))
    return done.rowcount == 1


def _is_not_kept(tx: Connection, scope: AccountScope, delivery_id: int) -> bool:
    there = text("SELECT 1 FROM deliveries WHERE id = :id AND account_id = :account AND erased_at IS NULL")
    return tx.execute(there, {"id": delivery_id, "account": scope.account_id}).first() is not None


def replay_range(tx: Connection, scope: AccountScope, *, since: datetime, until: datetime, state: str = "dead") -> int:
    """Replay every delivery of this state that was received in [since, until); how many."""
    return tx.execute(
        text(_REPLAY + " AND state = :state AND received_at >= :since AND received_at < :until"),
        {"account": scope.account_id, "state": state, "since": since, "until": until},
    ).rowcount


def unpark(tx: Connection) -> int:
    """Hand parked deliveries to their shop where it is known, or connected again, by now; how many."""
    known = tx.execute(
        text(
            "UPDATE deliveries d SET state = 'waiting', account_id = c.account_id, connection_id = c.id,"
            " next_attempt_at = clock_timestamp(), problem = NULL, problem_detail = NULL"
            " FROM connections c WHERE d.state = 'parked' AND d.connection_id IS NULL AND d.shop <> ''"
            " AND c.platform = d.platform AND c.state <> 'disconnected'"
            " AND (c.domain = d.shop OR c.shop_id = d.shop OR d.shop = ANY(c.aliases))"
        )
    ).rowcount
    again = tx.execute(
        text(
            "UPDATE deliveries d SET state = 'waiting', next_attempt_at = clock_timestamp(), problem = NULL,"
            " problem_detail = NULL FROM connections c"
            " WHERE d.state = 'parked' AND c.id = d.connection_id AND c.state <> 'disconnected'"
        )
    ).rowcount
    return known + again
