"""Orders and their history as the API sends them: amounts as texts, times as ISO 8601 in UTC with a Z."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, fields, post_dump

from gateway.orders.queries import instant_text


class Instant(fields.Field[Any]):
    """A time, always UTC with a Z."""

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> str | None:  # noqa: ARG002
        return None if value is None else instant_text(value)


class Amount(fields.Field[Any]):
    """An amount as text, with every digit that it has; never a float."""

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> str | None:  # noqa: ARG002
        return None if value is None else str(value)


class OrderSchema(Schema):
    """An order as lists show it."""

    id = fields.Integer(metadata={"description": "ours"})
    store_id = fields.Integer(attribute="connection_id")
    external_id = fields.String(metadata={"description": "the platform's own"})
    number = fields.String()
    placed_at = Instant()
    updated_at = Instant(attribute="core_updated_at", metadata={"description": "by the platform's clock"})
    as_of = Instant(
        attribute="core_observed_at",
        metadata={"description": "when this was true by the platform's clock; show nothing of Etsy's older than a day"},
    )
    changed_at = Instant(metadata={"description": "when it last changed here"})
    payment_status = fields.String()
    fulfilment_status = fields.String()
    currency = fields.String()
    total = Amount()
    item_count = fields.Integer()
    customer_name = fields.String(allow_none=True)


class OrderDetailSchema(OrderSchema):
    """One order whole. `core` and `person` are the stored parts; `person` is null where it may not be read."""

    removed_at = Instant(metadata={"description": "when the store was found not to have it any more"})
    core = fields.Dict()
    person = fields.Dict(allow_none=True)


class OrderPageSchema(Schema):
    orders = fields.List(fields.Nested(OrderSchema))
    next_cursor = fields.String(allow_none=True, metadata={"description": "older orders; null at the end"})


class ChangeSchema(Schema):
    """One entry of an order's history."""

    id = fields.Integer()
    order_id = fields.Integer()
    store_id = fields.Integer(attribute="connection_id")
    at = Instant()
    kind = fields.String(metadata={"description": "created, updated, went_back, removed, restored or erased"})
    quiet = fields.Boolean()
    source = fields.String(metadata={"description": "delivery, run, reread or user"})
    source_id = fields.Integer(allow_none=True)
    fields_ = fields.Raw(
        attribute="fields", data_key="fields", metadata={"description": "list of {field, from, to}", "type": "array"}
    )

    @post_dump
    def name_sides(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        """[field, from, to] becomes an object."""
        data["fields"] = [{"field": name, "from": old, "to": new} for name, old, new in data["fields"]]
        return data


class ChangePageSchema(Schema):
    changes = fields.List(fields.Nested(ChangeSchema))
    next_cursor = fields.String(allow_none=True)


class FeedEntrySchema(ChangeSchema):
    """A change in the feed, with whose it is."""

    external_id = fields.String()
    number = fields.String(allow_none=True)


class FeedSchema(Schema):
    """`cursor` is where to go on, also when nothing more is there yet."""

    changes = fields.List(fields.Nested(FeedEntrySchema))
    cursor = fields.String()
    has_more = fields.Boolean()
