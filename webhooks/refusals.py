"""Requests that were refused or could not be answered 2xx: counted, and followed by a catch-up."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import psycopg


class Refusal(NamedTuple):
    """`connection_id` 0: the app as a whole. `reason`: the Problem's code."""

    platform: str
    connection_id: int
    reason: str


def write(connection: psycopg.Connection[Any], counted: Counter[Refusal], unanswered: set[int]) -> None:
    """Add the counts of today, and wish a catch-up and an audit for each connection that was given a non-2xx."""
    rows = [(*refusal, count) for refusal, count in sorted(counted.items())]
    if rows:
        platforms, connections, reasons, counts = zip(*rows, strict=True)
        connection.execute(
            "INSERT INTO signature_failures AS f (platform, connection_id, day, reason, count)"
            " SELECT p, c, date_trunc('day', now()), r, n"
            " FROM unnest(%b::text[], %b::int8[], %b::text[], %b::int8[]) AS i (p, c, r, n)"
            " ON CONFLICT (platform, connection_id, day, reason) DO UPDATE SET count = f.count + excluded.count",
            (list(platforms), list(connections), list(reasons), list(counts)),
        )
    wanted = sorted(unanswered | {refusal.connection_id for refusal in counted if refusal.connection_id})
    if wanted:
        connection.execute(
            # A store that was told no may have switched its webhooks off (WooCommerce: at the 7th time).
            "UPDATE connections SET catch_up_wanted_at = coalesce(catch_up_wanted_at, now()),"
            " audit_wanted_at = coalesce(audit_wanted_at, now())"
            " WHERE id = ANY(%s) AND (catch_up_wanted_at IS NULL OR audit_wanted_at IS NULL)",
            (wanted,),
        )
