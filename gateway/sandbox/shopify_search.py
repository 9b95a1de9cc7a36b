"""Which orders a Shopify query means: search terms, the 60-day wall, and pages by keyset."""

from __future__ import annotations

import base64
import binascii
import json
import re
from bisect import bisect_left, bisect_right
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from graphql import GraphQLError

from gateway.sandbox import shopify_facts as facts
from gateway.sandbox import shopify_graphql_shape as shape
from gateway.sandbox.orders import Order

if TYPE_CHECKING:
    from gateway.sandbox.shopify import ShopifyStore

WALL = timedelta(days=60)  # read_orders sees orders created in the last 60 days (sheet section 5)
_TERM = re.compile(r"""(?P<field>\w+):(?P<op>>=|<=|>|<)?(?P<value>'[^']*'|"[^"]*"|\S+)""")
_TIMES = {"created_at": "created", "updated_at": "updated", "processed_at": "created"}
_COLUMNS = {"CREATED_AT": "created", "UPDATED_AT": "updated", "PROCESSED_AT": "created", "ID": "id"}


def visible(store: ShopifyStore, order: Order | None) -> bool:
    """Whether the API shows the order at all: lists, counts and look-ups alike."""
    if order is None or not order.exists:
        return False
    if "read_all_orders" in store.scopes:
        return True
    return order.created >= int((store.now() - WALL).timestamp())


def search(store: ShopifyStore, query: str | None, column: str) -> tuple[list[Order], list[dict[str, Any]]]:
    """The visible orders that match, ascending by column and id; and warnings about filters that were ignored."""
    text = query or ""
    terms = [match.groupdict() for match in _TERM.finditer(text)]
    rest = _TERM.sub(" ", text).replace("AND", " ").strip()
    if rest:
        raise GraphQLError(f"the sandbox understands field:value terms joined by AND, not {rest!r}")
    keys, rows = store.sorted_by(column)
    warnings = []
    others: list[tuple[str, str, str | int]] = []
    for term in terms:
        field, op, value = term["field"], term["op"] or "", term["value"].strip("'\"")
        if field in _TIMES:
            second = _second(value)
            if _TIMES[field] == column:
                low, high = _range(keys, op, second)
                keys, rows = keys[low:high], rows[low:high]
            else:
                others.append((field, op, second))
        elif field in ("status", "financial_status", "fulfillment_status", "test", "name", "id"):
            others.append((field, op, value))
        else:
            # Sheet section 5, Search: a misspelt filter is ignored with a warning, so everything is returned.
            warnings.append(
                {"field": field, "message": "Invalid search field for this query.", "code": "invalid_field"}
            )
    found = [row for row in rows if visible(store, row) and all(_matches(row, *each) for each in others)]
    return found, warnings


def _range(keys: list[tuple[int, int]], op: str, second: int) -> tuple[int, int]:
    at, past = bisect_left(keys, (second, -1)), bisect_left(keys, (second + 1, -1))
    return {
        ">=": (at, len(keys)), ">": (past, len(keys)), "<": (0, at), "<=": (0, past), "": (at, past),
    }[op]  # fmt: skip


def _second(value: str) -> int:
    try:
        moment = datetime.fromisoformat(value.replace("Z", "+00:00"))
    except ValueError as error:
        raise GraphQLError(f"{value!r} is not a time") from error
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _matches(order: Order, field: str, op: str, value: str | int) -> bool:
    if field in _TIMES:
        return _compare(getattr(order, _TIMES[field]), op, int(value))
    text = str(value)
    match field:
        case "status":
            closed, cancelled = order.closed is not None, order.cancelled is not None
            by_word = {
                "open": not closed and not cancelled,
                "closed": closed,
                "cancelled": cancelled,
                "not_closed": not closed,
                "any": True,
            }
            return by_word.get(text, False)
        case "financial_status":
            return facts.financial_status(order) == text.lower()
        case "fulfillment_status":
            return (facts.fulfillment_status(order) or "unfulfilled") == text.lower()
        case "test":
            return order.test is (text.lower() == "true")
        case "name":
            return facts.order_name(order).lstrip("#") == text.lstrip("#")
        case _:
            return _compare(order.id, op, int(text))


def _compare(actual: int, op: str, value: int) -> bool:
    match op:
        case ">=":
            return actual >= value
        case ">":
            return actual > value
        case "<":
            return actual < value
        case "<=":
            return actual <= value
        case _:
            return actual == value


def page(
    store: ShopifyStore, arguments: dict[str, Any], warnings: list[dict[str, Any]], *, whole: bool = False
) -> dict[str, Any]:
    """The orders connection: one page by keyset, so that a moving list neither skips nor repeats; or all at once."""
    first, last = arguments.get("first"), arguments.get("last")
    size = 0 if whole else shape.one_of_both(first, last)
    column = _COLUMNS.get(arguments.get("sortKey") or "PROCESSED_AT")
    if column is None:
        raise GraphQLError(f"the sandbox does not sort by {arguments['sortKey']}")
    rows, ignored = search(store, arguments.get("query"), column)
    warnings += ignored
    if whole:
        return shape.page_of([(store.node_of(row), _cursor(store, row, column)) for row in rows],
                             more=False, earlier=False)  # fmt: skip
    keys = [(getattr(row, column), row.id) for row in rows]
    after, before = _key(arguments.get("after"), column), _key(arguments.get("before"), column)
    if arguments.get("reverse"):
        low = bisect_right(keys, before) if before else 0
        high = bisect_left(keys, after) if after else len(rows)
        chosen, begin, end = rows[low:high][::-1], len(rows) - high, len(rows) - low
    else:
        low = bisect_right(keys, after) if after else 0
        high = bisect_left(keys, before) if before else len(rows)
        chosen, begin, end = rows[low:high], low, high
    part = chosen[:size] if first is not None else chosen[-size:] if size else []
    skipped = 0 if first is not None else len(chosen) - len(part)
    shown = [(store.node_of(row), _cursor(store, row, column)) for row in part]
    more = begin + skipped + len(part) < (len(rows) if first is not None else end)
    return shape.page_of(shown, more=more or end < len(rows), earlier=begin + skipped > 0)


def _cursor(store: ShopifyStore, order: Order, column: str) -> str:
    if column == "id":
        return shape.cursor_of(order.id, str(order.id))
    value = store.utc(getattr(order, column)).strftime("%Y-%m-%d %H:%M:%S.000000")
    return shape.cursor_of(order.id, value)


def _key(cursor: str | None, column: str) -> tuple[int, int] | None:
    if not cursor:
        return None
    try:
        held = json.loads(base64.b64decode(cursor, validate=True))
        last_id, value = int(held["last_id"]), str(held["last_value"])
        if column == "id":
            return last_id, last_id
        return int(datetime.fromisoformat(value).replace(tzinfo=UTC).timestamp()), last_id
    except (binascii.Error, ValueError, KeyError, TypeError) as error:
        raise GraphQLError("Invalid cursor for current pagination sort.") from error


def count(store: ShopifyStore, query: str | None, limit: int | None, warnings: list[dict[str, Any]]) -> dict[str, Any]:
    """ordersCount: exact up to the limit, which is 10,000 unless told and none when null."""
    rows, ignored = search(store, query, "updated" if "updated_at" in (query or "") else "created")
    warnings += ignored
    if limit is not None and len(rows) > limit:
        return {"count": limit, "precision": "AT_LEAST"}
    return {"count": len(rows), "precision": "EXACT"}
