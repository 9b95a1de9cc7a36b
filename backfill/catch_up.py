"""Catch-up: what happened since the connection was last known to be in step, and how often that is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.connections.model import Connection
from gateway.domain.window import Window, floor_second

OVERLAP = timedelta(minutes=15)
"""Looked at twice: a webhook's order may show up in lists only a while after it was stamped."""

COMMIT_DELAY = timedelta(seconds=5)
"""Platforms stamp an order before they commit it: what is younger is left to the next run."""

POLLED_SHARE = 0.6
"""Of a day's calls, for catch-up: the rest is for webhooks' orders, merchants and reserve (Etsy sheet, section 4)."""

QUIET_CALLS = 2
"""What a catch-up of a quiet Etsy shop asks: what was updated, of the orders that are not canceled and of those that
are. tests/backfill/test_schedule.py counts them."""

SHORTEST, LONGEST = timedelta(seconds=60), timedelta(hours=6)


@dataclass(frozen=True, slots=True)
class Polled:
    """A shop whose platform counts the app's calls by the day."""

    connection_id: int
    last_webhook_at: datetime | None
    last_order_at: datetime | None


def window_since(connection: Connection, now: datetime) -> Window:
    """From 15 minutes before the watermark to the platform's now, less 5 s; a new connection from its install."""
    until = floor_second(now - connection.skew - COMMIT_DELAY)
    if connection.watermark is None:
        in_step = connection.installed_at - connection.skew
    else:
        # Where the store's clock went back since, what it stamped after the watermark's moment is before the watermark.
        in_step = connection.watermark - max(connection.skew - connection.watermark_skew, timedelta(0))
    return Window(min(floor_second(in_step - OVERLAP), until), until)


def intervals(shops: Sequence[Polled], calls_per_day: float, now: datetime) -> dict[int, timedelta]:
    """How long each shop waits between two catch-ups, so that all together stay within their share of a day's calls.

    The formula is the Etsy sheet's (section 4): shops whose webhooks come may wait five times as long, those that sold
    within the hour a third, those that sold nothing for a week four times as long.
    """
    even = len(shops) * QUIET_CALLS * 86_400 / (POLLED_SHARE * calls_per_day)
    waits = {shop.connection_id: _clamped(even * _patience(shop, now)) for shop in shops}
    planned = sum(QUIET_CALLS * 86_400 / wait for wait in waits.values())
    scale = max(1.0, planned / (POLLED_SHARE * calls_per_day))
    return {connection_id: timedelta(seconds=wait * scale) for connection_id, wait in waits.items()}


def _patience(shop: Polled, now: datetime) -> float:
    is_told = shop.last_webhook_at is not None and shop.last_webhook_at > now - timedelta(days=1)
    factor = 5.0 if is_told else 1.0
    if shop.last_order_at is not None and shop.last_order_at > now - timedelta(hours=1):
        return factor / 3
    if shop.last_order_at is None or shop.last_order_at < now - timedelta(days=7):
        return factor * 4
    return factor


def _clamped(seconds: float) -> float:
    return min(max(seconds, SHORTEST.total_seconds()), LONGEST.total_seconds())
