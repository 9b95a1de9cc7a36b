"""The API's part about orders, stores and changes."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from flask import abort

from gateway.accounts import audit
from gateway.connections import model
from gateway.domain.problems import BAD_CURSOR, FEED_STARTED_OVER, NeedsMerchant, Refused
from gateway.orders import queries
from gateway.orders.queries import BadCursor, Cursor, OrderFilter, OtherGeneration
from gateway.orders.schemas import (
    ChangePageSchema,
    FeedSchema,
    Instant,
    OrderDetailSchema,
    OrderPageSchema,
)
from gateway.web import wording
from gateway.web.api_frame import MAX_ID, MAX_LIMIT, PageArguments, blueprint, number_cursor
from gateway.web.request import scope, transaction

orders_api = blueprint("orders_api", "Orders, stores and what changed.")


class OrderArguments(PageArguments):
    store_id = ma.fields.Integer(validate=ma.validate.Range(1, MAX_ID))
    payment_status = ma.fields.String(validate=ma.validate.OneOf(list(wording.PAYMENT)))
    fulfilment_status = ma.fields.String(validate=ma.validate.OneOf(list(wording.FULFILMENT)))
    placed_from = ma.fields.AwareDateTime(format="iso")
    placed_until = ma.fields.AwareDateTime(format="iso", metadata={"description": "exclusive"})
    updated_from = ma.fields.AwareDateTime(format="iso")
    q = ma.fields.String(
        load_default="",
        validate=ma.validate.Length(max=200),
        metadata={"description": "words: number, name, e-mail, SKU or tracking number, by their beginning"},
    )


class FeedArguments(ma.Schema):
    class Meta:
        unknown = ma.EXCLUDE

    after = ma.fields.String(load_default=None, metadata={"description": "cursor of the answer before; none: begin"})
    limit = ma.fields.Integer(load_default=100, validate=ma.validate.Range(1, MAX_LIMIT))


class StoreSchema(ma.Schema):
    """A store and how its connection is."""

    id = ma.fields.Integer()
    platform = ma.fields.String()
    name = ma.fields.String()
    domain = ma.fields.String()
    currency = ma.fields.String()
    time_zone = ma.fields.String()
    state = ma.fields.String(metadata={"description": "connected, degraded, action_needed or disconnected"})
    problem = ma.fields.String(attribute="state_problem", allow_none=True)
    last_delivery_at = Instant()
    last_sync_at = Instant()
    watermark = Instant(metadata={"description": "by the platform's clock: up to when it is in step"})


class StoreListSchema(ma.Schema):
    stores = ma.fields.List(ma.fields.Nested(StoreSchema))


@orders_api.get("/orders")
@orders_api.arguments(OrderArguments, location="query")
@orders_api.response(200, OrderPageSchema)
def list_orders(arguments: dict[str, Any]) -> dict[str, Any]:
    """Orders, newest first."""
    limit, cursor = arguments.pop("limit"), _cursor(arguments.pop("cursor"))
    with transaction() as tx:
        page = queries.list_orders(tx, scope(), OrderFilter(**arguments), limit=limit, cursor=cursor)
        audit.note(tx, scope(), "orders", sum(bool(row["customer_name"]) for row in page.orders), by_api=True)
    return {"orders": page.orders, "next_cursor": page.older.opaque() if page.older else None}


@orders_api.get("/orders/<id:order_id>")
@orders_api.response(200, OrderDetailSchema)
def get_order(order_id: int) -> Any:
    """One order."""
    with transaction() as tx:
        found = queries.get_order(tx, scope(), order_id)
        if found is not None and found["person"] is not None:
            audit.note(tx, scope(), "order", order_id, by_api=True)
    if found is None:
        abort(404)
    return found


@orders_api.get("/orders/<id:order_id>/changes")
@orders_api.arguments(PageArguments, location="query")
@orders_api.response(200, ChangePageSchema)
def list_changes(arguments: dict[str, Any], order_id: int) -> dict[str, Any]:
    """An order's history, newest first."""
    limit, before = arguments["limit"], number_cursor(arguments["cursor"])
    with transaction() as tx:
        if queries.get_order(tx, scope(), order_id) is None:
            abort(404)
        rows = queries.order_changes(tx, scope(), order_id, limit=limit + 1, before=before)
        if queries.people_in(rows):
            audit.note(tx, scope(), "changes", order_id, by_api=True)
    following = str(rows[limit - 1]["id"]) if len(rows) > limit else None
    return {"changes": rows[:limit], "next_cursor": following}


@orders_api.get("/changes")
@orders_api.arguments(FeedArguments, location="query")
@orders_api.response(200, FeedSchema)
def read_feed(arguments: dict[str, Any]) -> dict[str, Any]:
    """The change feed: every change of the account, in the one order in which all readers see them."""
    try:
        after = queries.read_feed_cursor(arguments["after"]) if arguments["after"] else None
    except BadCursor as error:
        raise Refused(BAD_CURSOR) from error
    try:
        with transaction() as tx:
            page = queries.read_feed(tx, scope(), after=after, limit=arguments["limit"])
            audit.note(tx, scope(), "feed", queries.people_in(page.changes), by_api=True)
    except OtherGeneration as error:
        raise NeedsMerchant(FEED_STARTED_OVER) from error
    return {
        "changes": page.changes,
        "cursor": queries.feed_cursor(page.generation, page.position),
        "has_more": page.more,
    }


@orders_api.get("/stores")
@orders_api.response(200, StoreListSchema)
def list_stores() -> dict[str, Any]:
    """The account's stores."""
    with transaction() as tx:
        return {"stores": model.list_stores(tx, scope())}


def _cursor(opaque: str | None) -> Cursor | None:
    try:
        return Cursor.read(opaque) if opaque else None
    except BadCursor as error:
        raise Refused(BAD_CURSOR) from error
