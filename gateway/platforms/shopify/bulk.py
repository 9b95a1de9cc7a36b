"""Shopify's bulk operations: one query over a whole window, worked on by Shopify and left as JSON lines at a link.

Sheet section 5.3, the schema's own descriptions and Shopify's changelog of 2025-06-27 (`groupObjects`), read 2026-11.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

import msgspec

from gateway.domain.problems import STORE_REQUEST_REFUSED, Refused
from gateway.domain.window import Window, floor_second
from gateway.platforms import fields
from gateway.platforms.base import BulkLook, Cursor, Found, Page, StoreAccess
from gateway.platforms.shopify import queries
from gateway.platforms.shopify.client import ask, search, updated_at
from gateway.platforms.shopify.orders import gid

POINTS_AN_ORDER = 11.24
"""Of the query budget, in pages of whole orders: what `bench pages` measures by the sheet's model of costs."""

STANDARD_RESTORE = 100.0
"""Points a second that a shop's budget gets (sheet section 5.1), until an answer says what this one's does."""

PORTION = 250
PORTION_BYTES = 8 * 1024 * 1024
"""Orders in a page, or so many bytes of them, whichever comes first."""

MAX_LINE_BYTES = 16 * 1024 * 1024

_ENDED = ("FAILED", "CANCELED", "EXPIRED")


def in_pages(access: StoreAccess, orders: int) -> timedelta:
    """How long so many orders take in pages, where only the query budget limits them."""
    return timedelta(seconds=orders * POINTS_AN_ORDER / access.sizes.get("restore", STANDARD_RESTORE))


def begin(access: StoreAccess, window: Window) -> str:
    """Let Shopify read the window's orders whole. Lines stand directly below their order (`groupObjects`), which takes
    Shopify longer and lets us read a file of any size in pieces."""
    data, _, answer = ask(access, queries.BULK_BEGIN, {"query": queries.everything(search(window))}, cost=10)
    made = data.get("bulkOperationRunQuery") or {}
    operation = (made.get("bulkOperation") or {}).get("id")
    if isinstance(operation, str):
        return operation
    errors = [f"{error.get('code')}: {error.get('message')}"[:200] for error in fields.objects(made, "userErrors")]
    why = "; ".join(errors) or "no operation was made"
    raise Refused(STORE_REQUEST_REFUSED, why, status=answer.status, why=why)


def look(access: StoreAccess, operation: str) -> BulkLook:
    """How far it is; a link that is asked for again is a fresh one."""
    data, _, _ = ask(access, queries.BULK_LOOK, {"id": operation}, cost=1)
    node = data.get("bulkOperation")
    if not isinstance(node, dict):
        return BulkLook("failed", reason="Shopify does not know it")
    created_at = floor_second(fields.instant(node, "createdAt"))
    status = str(node.get("status"))
    if status == "COMPLETED":
        size = node.get("fileSize")
        return BulkLook("done", created_at, node.get("url") or "", None if size is None else int(size))
    if status in _ENDED:
        return BulkLook("failed", created_at, node.get("partialDataUrl") or "",
                        reason=str(node.get("errorCode") or status))  # fmt: skip
    return BulkLook("running", created_at)


def rows(access: StoreAccess, look: BulkLook, window: Window, cursor: Cursor | None) -> Iterator[Page]:
    """The file's orders, each with the lines below it, as they are read. A cursor is the byte at which an order begins.

    An order is certain once the next one begins or the whole file has come: the last one of a file that broke off may
    lack lines. A line that can't be read, or whose order is not the one above it, ends the file.
    """
    offset = at = int(cursor["offset"]) if cursor else 0
    orders: list[Found] = []
    held = 0
    order: dict[str, Any] | None = None
    whole = look.state == "done"
    for line, length in _lines(access.http.stream(look.url, after=offset)) if look.url else ():
        value = _decoded(line)
        parent = value.pop("__parentId", None)
        if parent is not None and order is not None and order["id"] == parent:
            order["lineItems"]["nodes"].append(value)
        elif parent is None and "id" in value:
            if order is not None:
                orders.append(_found(order, look))
            if len(orders) >= PORTION or held >= PORTION_BYTES:
                yield _page(orders, window, {"offset": at}, look)
                orders, held = [], 0
            order, offset = {**value, "lineItems": {"nodes": []}}, at
        else:
            whole = False
            break
        at += length
        held += length
    if whole and look.size in (None, at if look.url else 0):
        yield _page([*orders, *([_found(order, look)] if order else [])], window, None, look)
    elif orders:
        yield _page(orders, window, {"offset": offset}, look)


def _lines(pieces: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
    """Lines, and how many bytes each takes with its end."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line, len(line) + 1
        if len(rest) > MAX_LINE_BYTES:
            raise Refused(STORE_REQUEST_REFUSED, "a line without an end", status=200, why="a line without an end")
    if rest:
        yield rest, len(rest)


def _decoded(line: bytes) -> dict[str, Any]:
    """A line's object; an empty one for what is none."""
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _found(order: dict[str, Any], look: BulkLook) -> Found:
    return Found(gid(order["id"]), updated_at(order), msgspec.json.encode(order), look.created_at)


def _page(orders: list[Found], window: Window, cursor: Cursor | None, look: BulkLook) -> Page:
    """What moved on while the operation ran has left the window, as in a listing."""
    inside = [order for order in orders if order.updated_at is None or order.updated_at in window]
    return Page(inside, cursor, look.created_at)
