"""What a run asks of its store: pages of a window, single orders, stretches of the list. Nothing is written here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from backfill.items import Item
from backfill.slices import Slice
from gateway.connections.model import Connection
from gateway.db.engine import Database
from gateway.domain import points
from gateway.domain.problems import ORDER_HIDDEN, Retry
from gateway.domain.window import Window, floor_second
from gateway.orders.apply import Removal
from gateway.orders.lookups import judge
from gateway.platforms import REGISTRY
from gateway.platforms.base import Cursor, Found, Gone, Head, Hidden, LookUp, Page, StoreAccess

SECOND = timedelta(seconds=1)

HEADS_AT_ONCE = 1_000
"""Heads of several pages are compared and noted together: most of them need nothing else."""


class Looked(NamedTuple):
    """What was asked for singly: the orders found, what becomes of the others, the last one answered, and what cut the
    asking short."""

    found: Sequence[Found]
    removals: Sequence[Removal]
    items: Sequence[Item]
    last: str = ""
    cut_short: Retry | None = None


def pages(connection: Connection, store: StoreAccess, part: Slice, cursor: Cursor | None) -> Iterator[Page]:
    """The slice's pages in order, from a cursor on; the next ones are asked for while this one is written."""
    platform = REGISTRY[connection.platform]
    ask: Callable[..., Page] = platform.list_page
    if part.by_placed and platform.relist is not None:
        ask = platform.relist
    elif part.by_heads and platform.list_heads is not None:
        ask = platform.list_heads
    with ThreadPoolExecutor(1, thread_name_prefix="next-page") as ahead:
        coming: Future[tuple[Page, Retry | None]] | None = ahead.submit(_gather, ask, store, part.window, cursor)
        while coming is not None:
            page, cut_short = coming.result()
            coming = None
            if page.cursor is not None and cut_short is None:
                coming = ahead.submit(_gather, ask, store, part.window, page.cursor)
            yield page
            if cut_short is not None:
                raise cut_short


def _gather(
    ask: Callable[..., Page], store: StoreAccess, window: Window, cursor: Cursor | None
) -> tuple[Page, Retry | None]:
    """The next page, or as many pages of heads as are worth comparing together; and what cut them short: or a budget
    that never holds what so many pages cost would be spent on the first of them for ever."""
    page = ask(store, window, cursor)
    points.reached("after_page_fetch")
    heads = list(page.heads)
    cut_short: Retry | None = None
    while page.heads and page.cursor is not None and len(heads) < HEADS_AT_ONCE:
        try:
            page = ask(store, window, page.cursor)
        except Retry as error:
            cut_short = error
            break
        points.reached("after_page_fetch")
        heads += page.heads
    return replace(page, heads=_distinct(heads)), cut_short


def _distinct(listed: Sequence[Head]) -> list[Head]:
    """An order that moved on within the window while it was listed is listed twice: its later head counts."""
    return list({head.external_id: head for head in listed}.values())


def stretch_of(heads: Sequence[Head]) -> Window | None:
    """The stretch of updated time in which these stand; None when none of them has one."""
    moments = [head.updated_at for head in heads if head.updated_at is not None]
    return Window(floor_second(min(moments)), floor_second(max(moments)) + SECOND) if moments else None


def by_stretch(
    connection: Connection, store: StoreAccess, stretch: Window, wanted: Sequence[str]
) -> tuple[list[Found], Retry | None]:
    """Those of the wanted orders that a stretch of the list holds, each once; and what cut the listing short."""
    found: dict[str, Found] = {}
    cursor: Cursor | None = None
    named = set(wanted)
    while True:
        try:
            page = REGISTRY[connection.platform].list_page(store, stretch, cursor)
        except Retry as error:
            if not found:
                raise
            return list(found.values()), error
        found |= {order.external_id: order for order in page.orders if order.external_id in named}
        cursor = page.cursor
        if cursor is None:
            return list(found.values()), None


def singly(database: Database, connection: Connection, store: StoreAccess, ids: Sequence[str], run_id: int) -> Looked:
    """Single orders by their ids. What was answered before the store's budget ran out is kept: or a store whose budget
    is smaller than what was asked for would never come to an end."""
    platform = REGISTRY[connection.platform]
    looks: list[LookUp] = []
    cut_short: Retry | None = None
    try:
        looks.extend(platform.fetch_orders(store, ids) if ids else ())
    except Retry as error:
        if not looks:
            raise
        cut_short = error
    points.reached("after_look_up")
    last = looks[-1].external_id if looks else ""
    with database.transaction() as tx:
        looks = judge(tx, platform, connection.id, looks, datetime.now(UTC))
    now_there = floor_second(datetime.now(UTC) - connection.skew)
    gone = [look for look in looks if isinstance(look, Gone)]
    removals = [
        Removal(connection.account_id, connection.id, look.external_id, look.observed_at or now_there, run_id)
        for look in gone
    ]
    items = [Item(look.external_id, "removed", None) for look in gone]
    items += [Item(look.external_id, "hidden", None, ORDER_HIDDEN.code) for look in looks if isinstance(look, Hidden)]
    return Looked([look for look in looks if isinstance(look, Found)], removals, items, last, cut_short)
