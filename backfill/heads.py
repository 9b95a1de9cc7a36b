"""Heads against what is stored: which orders of a page have to be fetched at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from psycopg.types.json import Jsonb
from sqlalchemy import Connection as Transaction

from gateway.connections.model import Connection
from gateway.db.engine import cursor as cursor_of
from gateway.domain.order import SHAPE
from gateway.platforms.base import Head

Standing = Literal["missing", "differs", "unsettled", "equal"]
"""missing: not stored, or stored as removed. differs: another version, or marks that disagree. unsettled: the same
version, but no read has seen all of its second yet. equal: nothing can have changed without a new version."""

_COMPARE = """
SELECT h.n, CASE
  WHEN o.core_digest IS NULL OR o.removed_at IS NOT NULL THEN 'missing'
  WHEN o.core_updated_at IS DISTINCT FROM h.u OR o.core_shape <> %(shape)s OR (
    %(person)s AND o.erased_at IS NULL AND (o.person_updated_at IS DISTINCT FROM h.u OR o.person_shape <> %(shape)s))
    THEN 'differs'
  WHEN o.core_settled AND (NOT %(person)s OR o.erased_at IS NOT NULL OR o.person_settled) THEN 'equal'
  WHEN (SELECT bool_and(coalesce(o.core->>m.key = m.value, false)) FROM jsonb_each_text(h.m) AS m) THEN 'unsettled'
  ELSE 'differs' END
FROM unnest(%(numbers)b::int4[], %(ids)b::text[], %(moments)b::timestamptz[], %(marks)s::jsonb[]) AS h (n, e, u, m)
LEFT JOIN LATERAL (
  SELECT core_digest, core_updated_at, core_shape, core_settled, core, person_updated_at, person_shape, person_settled,
         removed_at, erased_at
  FROM orders WHERE connection_id = %(connection)s AND external_id = h.e LIMIT 1) AS o ON true
"""
"""LATERAL with a LIMIT: one look by the unique index for each head. After a first import PostgreSQL does not know yet
how many orders there are, and would read all of the store's for each thousand heads."""


def compare(tx: Transaction, connection: Connection, heads: Sequence[Head]) -> list[Standing]:
    """How each head stands against what is stored, in their order.

    A part that the connection may not read now is not waited for, nor is that of an erased person.
    """
    with cursor_of(tx) as cursor:
        cursor.execute(
            _COMPARE,
            {
                "shape": SHAPE,
                "person": "person" in connection.granted_parts,
                "connection": connection.id,
                "numbers": list(range(len(heads))),
                "ids": [head.external_id for head in heads],
                "moments": [head.updated_at for head in heads],
                "marks": [Jsonb(head.marks) for head in heads],
            },
        )
        found: dict[int, Standing] = dict(cursor.fetchall())
    return [found[number] for number in range(len(heads))]
