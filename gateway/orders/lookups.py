"""What a single look-up really says, with what we know of the order."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

from gateway.platforms.base import Gone, Hidden, LookUp, Platform

NEAR_THE_WALL = timedelta(days=1)


def judge(
    tx: Connection, platform: Platform, connection_id: int, looks: Sequence[LookUp], now: datetime
) -> list[LookUp]:
    """Gone is Hidden where the platform says the same of an order behind its wall (Shopify: created more than 60 days
    ago), or where we don't know when the order was placed."""
    wall = platform.capabilities.look_back
    gone = [look.external_id for look in looks if isinstance(look, Gone)]
    if wall is None or not gone:
        return list(looks)
    placed = {
        row.external_id: row.placed_at
        for row in tx.execute(
            text("SELECT external_id, placed_at FROM orders WHERE connection_id = :id AND external_id = ANY(:ids)"),
            {"id": connection_id, "ids": gone},
        )
    }
    edge = now - wall + NEAR_THE_WALL
    return [
        Hidden(look.external_id)
        if isinstance(look, Gone) and ((at := placed.get(look.external_id)) is None or at < edge)
        else look
        for look in looks
    ]
