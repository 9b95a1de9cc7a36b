"""How a run goes about its window: in slices that can each be counted, by heads where most is known already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from sqlalchemy import Connection as Transaction
from sqlalchemy import text

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
    """One stretch of the run's window. `by_heads`: ids and versions first, and whole orders only where they differ."""

    window: Window
    by_heads: bool
    expected: int | None

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        bounds = Window(datetime.fromisoformat(stored["from"]), datetime.fromisoformat(stored["until"]))
        return cls(bounds, stored["by_heads"], stored["expected"])

    def to_store(self) -> dict[str, Any]:
        return {"from": self.window.from_.isoformat(), "until": self.window.until.isoformat(),
                "by_heads": self.by_heads, "expected": self.expected}  # fmt: skip


def cut(
    database: Database, store: StoreAccess, connection: Connection, window: Window, *, deep: bool, preview: bool = False
) -> list[Slice]:
    """The window in slices of at most MOST orders by the platform's own count; one slice where it has none."""
    return list(_cut(database, store, connection, window, deep, preview))


def _cut(
    database: Database, store: StoreAccess, connection: Connection, window: Window, deep: bool, preview: bool
) -> Iterator[Slice]:
    platform = REGISTRY[connection.platform]
    counted = platform.count(store, window)
    if counted is None:
        yield Slice(window, platform.list_heads is not None and not deep, None)
        return
    if (not counted.exact or counted.orders > MOST) and window.until - window.from_ > timedelta(seconds=1):
        middle = floor_second(window.from_ + (window.until - window.from_) / 2)
        yield from _cut(database, store, connection, Window(window.from_, middle), deep, preview)
        yield from _cut(database, store, connection, Window(middle, window.until), deep, preview)
        return
    by_heads = platform.list_heads is not None and not deep
    if by_heads and not preview:
        # Where most is new, heads would only be asked for on top.
        with database.transaction() as tx:
            by_heads = 2 * stored(tx, connection.id, window) >= counted.orders
    yield Slice(window, by_heads, counted.orders if counted.exact else None)


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
