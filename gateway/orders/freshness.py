"""How old what is shown may be: Etsy's terms let content be shown for 24 hours after it was read.

Orders that come near that age are read again in good time, newest first, within what the app's daily budget can bear;
one that grew older all the same is not shown until it has been read again.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

from gateway.domain.scope import AccountScope
from gateway.orders import rereads
from gateway.platforms import REGISTRY

AHEAD = timedelta(hours=4)
"""An order is read again when so much of its time is left."""

LOOKED_AT = timedelta(days=60)
"""Orders placed longer ago are read again when somebody opens them."""

EACH_HOUR = 100
"""Calls an hour and platform: a quarter of Etsy's default of 10,000 a day."""


def is_too_old(platform: str, observed_at: datetime | None, now: datetime) -> bool:
    """Whether content read at that time may not be shown any more."""
    limit = REGISTRY[platform].capabilities.shown_for if platform in REGISTRY else None
    return limit is not None and (observed_at is None or now - observed_at > limit)


def want_again(tx: Connection, scope: AccountScope, order_id: int) -> bool:
    """Read one order again now; False when the account has no such order."""
    row = tx.execute(
        text("SELECT connection_id, external_id FROM orders WHERE account_id = :account AND id = :id"),
        {"account": scope.account_id, "id": order_id},
    ).first()
    if row is None:
        return False
    rereads.want(tx, [_wish(scope.account_id, row._mapping)])
    return True


def freshen(tx: Connection, *, now: datetime) -> int:
    """Ask for what comes near its age to be read again; how many orders."""
    asked = 0
    for platform in REGISTRY.values():
        if platform.capabilities.shown_for is None:
            continue
        rows = tx.execute(
            text(
                "SELECT o.account_id, o.connection_id, o.external_id FROM orders o"
                " JOIN connections c ON c.id = o.connection_id"
                " WHERE c.platform = :platform AND c.state <> 'disconnected' AND o.account_id = c.account_id"
                " AND o.removed_at IS NULL AND o.core_digest IS NOT NULL AND o.placed_at > :since"
                " AND o.core_observed_at < :before AND NOT EXISTS (SELECT 1 FROM rereads r"
                "   WHERE r.connection_id = o.connection_id AND r.external_id = o.external_id)"
                " ORDER BY o.placed_at DESC, o.id DESC LIMIT :limit"
            ),
            {"platform": platform.key, "since": now - LOOKED_AT,
             "before": now - platform.capabilities.shown_for + AHEAD, "limit": EACH_HOUR},
        ).mappings().all()  # fmt: skip
        rereads.want(tx, [_wish(row["account_id"], row) for row in rows])
        asked += len(rows)
    return asked


def _wish(account_id: int, row: Mapping[Any, Any]) -> rereads.Wish:
    return rereads.Wish(account_id, row["connection_id"], row["external_id"], "too old to be shown", None, None)
