"""The API's part about deliveries."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from flask import abort

from gateway.accounts import audit
from gateway.orders.schemas import Instant
from gateway.web import wording
from gateway.web.api_frame import MAX_ID, PageArguments, blueprint, number_cursor
from gateway.web.request import payloads, requires, scope, transaction
from webhooks import inbox, listing

deliveries_api = blueprint("deliveries_api", "Deliveries: what came in, and once more.")


class DeliveryArguments(PageArguments):
    state = ma.fields.String(load_default=None, validate=ma.validate.OneOf(list(wording.DELIVERY)))
    store_id = ma.fields.Integer(load_default=None, validate=ma.validate.Range(1, MAX_ID))
    topic = ma.fields.String(load_default=None, validate=ma.validate.Length(max=100))


class DeliverySchema(ma.Schema):
    id = ma.fields.Integer()
    store_id = ma.fields.Integer(attribute="connection_id", allow_none=True)
    platform = ma.fields.String()
    topic = ma.fields.String()
    received_at = Instant()
    observed_at = Instant()
    body_bytes = ma.fields.Integer()
    state = ma.fields.String(metadata={"description": "waiting, parked, done, ignored or dead"})
    outcome = ma.fields.String(allow_none=True)
    problem = ma.fields.String(allow_none=True)
    problem_detail = ma.fields.String(allow_none=True)
    attempts = ma.fields.Integer()
    next_attempt_at = Instant()
    done_at = Instant()
    order_id = ma.fields.Integer(allow_none=True)
    order_external_id = ma.fields.String(allow_none=True)


class DeliveryDetailSchema(DeliverySchema):
    headers = ma.fields.Raw(allow_none=True, metadata={"description": "list of [name, value], secrets masked"})
    body = ma.fields.String(allow_none=True, metadata={"description": "its beginning, if it is longer than 256 KB"})
    body_is_whole = ma.fields.Boolean(allow_none=True)


class DeliveryPageSchema(ma.Schema):
    deliveries = ma.fields.List(ma.fields.Nested(DeliverySchema))
    next_cursor = ma.fields.String(allow_none=True)


@deliveries_api.get("/deliveries")
@deliveries_api.arguments(DeliveryArguments, location="query")
@deliveries_api.response(200, DeliveryPageSchema)
def list_deliveries(arguments: dict[str, Any]) -> dict[str, Any]:
    """Deliveries, newest first."""
    limit, before = arguments["limit"], number_cursor(arguments["cursor"])
    with transaction() as tx:
        rows = listing.list_deliveries(
            tx,
            scope(),
            state=arguments["state"],
            store_id=arguments["store_id"],
            topic=arguments["topic"],
            before=before,
            limit=limit + 1,
        )
    following = str(rows[limit - 1]["id"]) if len(rows) > limit else None
    return {"deliveries": rows[:limit], "next_cursor": following}


@deliveries_api.get("/deliveries/<id:delivery_id>")
@deliveries_api.response(200, DeliveryDetailSchema)
def get_delivery(delivery_id: int) -> dict[str, Any]:
    """One delivery with its headers and its body."""
    with transaction() as tx:
        found = listing.get_delivery(tx, scope(), delivery_id)
        if found is None:
            abort(404)
        content = listing.get_content(tx, payloads(), scope(), delivery_id)
        if content is not None:
            audit.note(tx, scope(), "delivery", delivery_id, by_api=True)
    if content is None:
        return {**found, "headers": None, "body": None, "body_is_whole": None}
    body = content.body.decode("utf-8", "replace")
    return {**found, "headers": content.headers, "body": body, "body_is_whole": content.is_whole}


@deliveries_api.post("/deliveries/<id:delivery_id>/replay")
@deliveries_api.response(202, DeliverySchema)
@requires("sync")
def replay(delivery_id: int) -> Any:
    """Apply a stored delivery once more; it changes nothing that is newer."""
    with transaction() as tx:
        if not inbox.replay(tx, scope(), delivery_id):
            abort(404)
        return listing.get_delivery(tx, scope(), delivery_id)
