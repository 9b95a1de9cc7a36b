"""How a run goes about its window: in slices that can each be counted, by heads where most is known already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from sqlalchemy import Connection as Transaction
from sqlalchemy import text

from backfill import bulk
from backfill.runs import Taken
from gateway.connections.model import Connection
from gateway.db.engine import Database
from gateway.domain.window import Window, floor_second
from gateway.platforms import REGISTRY
from gateway.platforms.base import StoreAccess

MOST = 20_000
"""Orders in one slice: Shopify counts up to 25,000 exactly and pages 25,000 deep (sheet section 5), and what a listing
missed is listed again by the slice."""


@dataclass(frozen=True, slots=True)
class Slice:
    """One stretch of the run's window. `by_heads`: ids and versions first, and whole orders only where they differ.
    `by_placed`: the window is on when orders were placed, not on when they were updated. `by_bulk`: whole orders by one
    operation of the platform, as many as `expected`."""

    window: Window
    by_heads: bool
    expected: int | None
    by_placed: bool = False
    by_bulk: bool = False

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        bounds = Window(datetime.fromisoformat(stored["from"]), datetime.fromisoformat(stored["until"]))
        # A run that an older release began knows no bulk operations.
        by_bulk = stored.get("by_bulk", False)
        return cls(bounds, stored["by_heads"], stored["expected"], stored["by_placed"], by_bulk)

    def to_store(self) -> dict[str, Any]:
        return {"from": self.window.from_.isoformat(), "until": self.window.until.isoformat(),
                "by_heads": self.by_heads, "expected": self.expected, "by_placed": self.by_placed,
                "by_bulk": self.by_bulk}  # fmt: skip


def cut(database: Database, store: StoreAccess, connection: Connection, window: Window, taken: Taken) -> list[Slice]:
    """The window in slices of at most MOST orders by the platform's own count; one slice where it has none.

    A deep run lists orders also by when they were placed where changes don't always move the updated time; one that
    began by itself only so, since catch-up does the rest.
    """
    relists = taken.deep and REGISTRY[connection.platform].relist is not None
    parts = [] if relists and taken.kind == "catch_up" else list(_cut(database, store, connection, window, taken))
    return [*parts, Slice(window, by_heads=False, expected=None, by_placed=True)] if relists else parts


def _cut(
    database: Database, store: StoreAccess, connection: Connection, window: Window, taken: Taken
) -> Iterator[Slice]:
    platform = REGISTRY[connection.platform]
    by_heads = platform.list_heads is not None and not taken.deep
    counted = platform.count(store, window)
    if counted is None:
        yield Slice(window, by_heads, None)
        return
    if (not counted.exact or counted.orders > MOST) and window.until - window.from_ > timedelta(seconds=1):
        middle = floor_second(window.from_ + (window.until - window.from_) / 2)
        yield from _cut(database, store, connection, Window(window.from_, middle), taken)
        yield from _cut(database, store, connection, Window(middle, window.until), taken)
        return
    if by_heads and taken.kind != "preview":
        # Where most is new, heads would only be asked for on top.
        with database.transaction() as tx:
            by_heads = 2 * stored(tx, connection.id, window) >= counted.orders
    by_bulk = counted.exact and not by_heads and bulk.suits(platform.bulk, store, counted.orders, taken)
    yield Slice(window, by_heads, counted.orders if counted.exact else None, by_bulk=by_bulk)


def stored(tx: Transaction, connection_id: int, window: Window) -> int:
    """How many live orders of this window are stored."""
    return int(
        tx.execute(
            text(
                "SELECT count(*) FROM orders WHERE connection_id = :id AND removed_at IS NULL"
                " AND core_digest IS NOT NULL AND core_updated_at >= :from AND core_updated_at < :until"
            ),
            {"id": connection_id, "from": window.from_, "until": window.until},
        ).scalar_one()
    )
