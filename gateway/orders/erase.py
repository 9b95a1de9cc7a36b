"""Erasure: the person part of an order goes for good, with every payload and history entry that holds it.

The core goes on. A mask stays on the row (erased_at), which the writer's guard honours, so that no webhook, sync,
replay or re-read brings the person back; an order that is not stored yet gets a row that is nothing but the mask.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, text

from gateway.db.engine import cursor as cursor_of
from gateway.domain.order import Person

_PERSON_FIELDS = [field.name for field in dataclasses.fields(Person)]


@dataclass(frozen=True, slots=True)
class Erased:
    """How many orders lost their person just now, and how many raw bodies went."""

    orders: int
    bodies: int


_MASK = """
INSERT INTO orders AS o (account_id, connection_id, external_id, erased_at)
SELECT %s::int8, %s::int8, e, now() FROM unnest(%b::text[]) AS i (e)
ON CONFLICT (connection_id, external_id) DO UPDATE SET
  erased_at = now(), changed_at = now(), raw = NULL, raw_kind = NULL, person_raw = NULL, person_raw_kind = NULL,
  person = NULL, person_words = NULL, customer_name = NULL, person_epoch = NULL, person_updated_at = NULL,
  person_settled = NULL, person_observed_at = NULL, person_digest = NULL, person_shape = NULL
WHERE o.erased_at IS NULL
RETURNING new.id, new.core_digest IS NOT NULL AS is_known
"""

_HISTORY = text(
    "UPDATE changes SET fields = (SELECT coalesce(jsonb_agg(f), '[]') FROM jsonb_array_elements(fields) AS f"
    " WHERE split_part(split_part(f->>0, '.', 1), '[', 1) <> ALL(:names))"
    " WHERE account_id = :account AND order_id = ANY(:orders) AND 'person' = ANY(parts) AND fields <> '[]'"
)

_TOLD = text(
    "WITH made AS (INSERT INTO changes (account_id, connection_id, order_id, kind, parts, quiet, source, source_id)"
    " SELECT :account, :connection, o, 'erased', '{person}', false, 'privacy', :request"
    " FROM unnest(CAST(:orders AS int8[])) AS o RETURNING id, account_id)"
    " INSERT INTO feed_pending (change_id, account_id) SELECT id, account_id FROM made"
)


def erase_orders(
    tx: Connection, account_id: int, connection_id: int, external_ids: Collection[str], *, request_id: int | None
) -> Erased:
    """Erase the person of these orders of one store, wherever it is kept; erasing again finds nothing more to do."""
    ids = sorted(set(external_ids))  # in the writer's order: neither waits for the other in a circle
    if not ids:
        return Erased(0, 0)
    with cursor_of(tx) as cursor:
        cursor.execute(_MASK, (account_id, connection_id, ids))
        rows = cursor.fetchall()
    known = sorted(row[0] for row in rows if row[1])
    if known:
        tx.execute(_HISTORY, {"names": _PERSON_FIELDS, "account": account_id, "orders": known})
        tx.execute(_TOLD, {"account": account_id, "connection": connection_id, "orders": known, "request": request_id})
    deliveries = tx.execute(
        text("SELECT id FROM deliveries WHERE connection_id = :connection AND order_external_id = ANY(:ids)"),
        {"connection": connection_id, "ids": ids},
    ).scalars()
    return Erased(len(known), erase_bodies(tx, list(deliveries)))


def erase_bodies(tx: Connection, delivery_ids: Collection[int]) -> int:
    """Forget what these deliveries carried: their bytes, and what was said about them; how many bodies went.

    One that still waits is not applied any more: what it would have brought is read from the store again, masked.
    """
    if not delivery_ids:
        return 0
    ids = sorted(delivery_ids)
    gone = tx.execute(
        text(
            "DELETE FROM delivery_bodies b USING deliveries d WHERE d.id = ANY(:ids) AND d.erased_at IS NULL"
            " AND b.delivery_id = d.id AND b.received_at = d.received_at"
        ),
        {"ids": ids},
    ).rowcount
    tx.execute(
        text(
            "UPDATE deliveries SET erased_at = now(), problem_detail = NULL,"
            " state = CASE WHEN state IN ('waiting', 'parked', 'dead') THEN 'ignored' ELSE state END,"
            " outcome = CASE WHEN state IN ('waiting', 'parked', 'dead') THEN 'erased' ELSE outcome END,"
            " done_at = coalesce(done_at, now()) WHERE id = ANY(:ids) AND erased_at IS NULL"
        ),
        {"ids": ids},
    )
    return gone
