"""Shopify's order JSON as ours: the webhook's REST form, and the API's GraphQL form turned into it.

What stands in only one of the two forms is not read: shipping methods, taxes of a line, product and variant ids
(which the API shows with further scopes only), the customer object (likewise).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any

from gateway.domain.order import (
    Address,
    Core,
    FulfilmentStatus,
    LineItem,
    PartName,
    PaymentStatus,
    Person,
    Shipment,
)
from gateway.platforms import fields
from gateway.platforms.base import Kind, Normalised, Payload

MAX_SHIPMENTS = 10
"""`fulfillments` is a list that the API cuts off silently: both forms keep the first ten."""

_PAYMENT: dict[str, PaymentStatus] = {
    "pending": "pending",
    "authorized": "authorized",
    "partially_paid": "partly_paid",
    "paid": "paid",
    "partially_refunded": "partly_refunded",
    "refunded": "refunded",
    "voided": "voided",
    "expired": "expired",
}
_FULFILMENT: dict[str, FulfilmentStatus] = {
    "": "unfulfilled",
    "fulfilled": "fulfilled",
    "partial": "partly_fulfilled",
    "restocked": "restocked",
}
_DISPLAY_FULFILMENT = {"FULFILLED": "fulfilled", "PARTIALLY_FULFILLED": "partial", "RESTOCKED": "restocked"}
"""The API has more words (open, in progress, on hold …); the webhook knows them all as null."""


def marks(head: Mapping[str, Any]) -> dict[str, str]:
    """What a head shows of the core, in the core's own words."""
    paid = _PAYMENT.get(fields.text(head, "displayFinancialStatus").lower(), "unknown")
    shown = _DISPLAY_FULFILMENT.get(fields.text(head, "displayFulfillmentStatus"), "")
    status = "cancelled" if head.get("cancelledAt") else "closed" if head.get("closedAt") else "open"
    return {"status": status, "payment_status": paid, "fulfilment_status": _FULFILMENT[shown]}


def normalise(payload: Payload, *, kind: Kind, granted: Collection[PartName] = ("core", "person")) -> Normalised:
    """One order in either form. Raises Refused(payload.field) naming the field that can't be read."""
    order = payload if kind == "webhook" else _as_webhook(payload)
    currency = fields.text(order, "currency")
    if not currency:
        raise fields.refuse("currency", "it is missing")
    decimals = fields.places(currency)
    cancelled_at = fields.optional_instant(order, "cancelled_at")
    closed_at = fields.optional_instant(order, "closed_at")
    core = Core(
        number=fields.text(order, "name") or fields.identity(order),
        placed_at=fields.instant(order, "created_at"),
        status="cancelled" if cancelled_at else "closed" if closed_at else "open",
        payment_status=_PAYMENT.get(fields.text(order, "financial_status"), "unknown"),
        fulfilment_status=_FULFILMENT.get(fields.text(order, "fulfillment_status"), "unknown"),
        currency=currency,
        total=fields.money(order, "total_price", decimals),
        subtotal=fields.optional_money(order, "subtotal_price", decimals),
        discount_total=fields.optional_money(order, "total_discounts", decimals),
        shipping_total=_shop_money(order, "total_shipping_price_set", decimals),
        tax_total=fields.optional_money(order, "total_tax", decimals),
        refunded_total=_refunded(order, kind, currency, decimals),
        current_total=fields.optional_money(order, "current_total_price", decimals),
        taxes_included=fields.flag(order, "taxes_included"),
        paid_at=None,
        completed_at=None,
        cancelled_at=cancelled_at,
        cancel_reason=fields.text(order, "cancel_reason"),
        closed_at=closed_at,
        test=bool(fields.flag(order, "test")),
        source=fields.text(order, "source_name"),
        payment_methods=_texts(order, "payment_gateway_names"),
        shipping_methods=(),
        discount_codes=tuple(fields.text(entry, "code") for entry in fields.objects(order, "discount_codes")),
        tags=tuple(sorted(tag for tag in fields.text(order, "tags").split(", ") if tag)),
        lines=tuple(_line(entry, decimals) for entry in fields.objects(order, "line_items")),
        refunds=(),
        shipments=_shipments(order),
    )
    return Normalised(
        external_id=fields.identity(order),
        updated_at=fields.instant(order, "updated_at"),
        core=core,
        person=_person(order) if "person" in granted else None,
    )


def _texts(order: Payload, name: str) -> tuple[str, ...]:
    value = order.get(name)
    return tuple(entry for entry in value if isinstance(entry, str)) if isinstance(value, list) else ()


def _shop_money(order: Payload, name: str, decimals: int) -> Decimal | None:
    money = fields.child(fields.child(order, name) or {}, "shop_money")
    return None if money is None else fields.optional_money(money, "amount", decimals)


def _refunded(order: Payload, kind: Kind, currency: str, decimals: int) -> Decimal | None:
    """What was given back; None for an order paid in another currency than the shop's.

    A webhook's refund transactions are in the currency that the buyer paid with: no sum in shop money there.
    """
    presentment = fields.text(order, "presentment_currency")
    if presentment and presentment != currency:
        return None
    if kind == "api":
        return fields.optional_money(order, "total_refunded", decimals)
    amounts = [
        fields.money(transaction, "amount", decimals)
        for refund in fields.objects(order, "refunds")
        for transaction in fields.objects(refund, "transactions")
        if transaction.get("kind") == "refund" and transaction.get("status") == "success"
    ]
    return fields.quantise(str(sum(amounts, Decimal(0))), decimals)


def _line(entry: Payload, decimals: int) -> LineItem:
    quantity = fields.count(entry, "quantity")
    unit_price = fields.money(entry, "price", decimals)
    discount = fields.optional_money(entry, "total_discount", decimals) or Decimal(0)
    return LineItem(
        id=fields.identity(entry),
        title=fields.text(entry, "title"),
        variant=fields.text(entry, "variant_title"),
        sku=fields.text(entry, "sku"),
        quantity=quantity,
        current_quantity=quantity if entry.get("current_quantity") is None else fields.count(entry, "current_quantity"),
        unit_price=unit_price,
        total=fields.quantise(str(unit_price * quantity - discount), decimals),
        requires_shipping=fields.flag(entry, "requires_shipping"),
    )


def _shipments(order: Payload) -> tuple[Shipment, ...]:
    parcels = [
        Shipment(
            id=fields.identity(entry),
            status=fields.text(entry, "status"),
            carrier=fields.text(entry, "tracking_company"),
            tracking_number=fields.text(entry, "tracking_number"),
        )
        for entry in fields.objects(order, "fulfillments")
    ]
    return tuple(sorted(parcels, key=lambda parcel: (len(parcel.id), parcel.id))[:MAX_SHIPMENTS])


def _person(order: Payload) -> Person:
    billing, shipping = _address(order, "billing_address"), _address(order, "shipping_address")
    named = [address.name for address in (billing, shipping) if address and address.name]
    return Person(
        customer_id="",
        name=named[0] if named else "",
        email=fields.text(order, "email"),
        phone=fields.text(order, "phone"),
        billing=billing,
        shipping=shipping,
        note=fields.text(order, "note"),
        personal_fields=(
            *(("", *pair) for pair in _pairs(order, "note_attributes")),
            *(
                (fields.identity(line), *pair)
                for line in fields.objects(order, "line_items")
                for pair in _pairs(line, "properties")
            ),
        ),
    )


def _pairs(owner: Payload, name: str) -> list[tuple[str, str]]:
    return [(fields.text(entry, "name"), fields.text(entry, "value")) for entry in fields.objects(owner, name)]


def _address(order: Payload, name: str) -> Address | None:
    part = fields.child(order, name)
    if part is None:
        return None
    address = Address(
        name=fields.text(part, "name"),
        company=fields.text(part, "company"),
        line1=fields.text(part, "address1"),
        line2=fields.text(part, "address2"),
        city=fields.text(part, "city"),
        region=fields.text(part, "province_code") or fields.text(part, "province"),
        postcode=fields.text(part, "zip"),
        country=fields.text(part, "country_code") or fields.text(part, "country"),
        phone=fields.text(part, "phone"),
    )
    return None if address == Address() else address


# --- the API's form ---------------------------------------------------------------------------------------------
def gid(value: object) -> str:
    """The number at the end of gid://shopify/LineItem/123?… ."""
    if not isinstance(value, str) or not value.startswith("gid://"):
        raise fields.refuse("id", "it is not a gid")
    return value.rsplit("/", 1)[-1].split("?", 1)[0]


def _amount(node: Mapping[str, Any], name: str) -> Any:
    return ((node.get(name) or {}).get("shopMoney") or {}).get("amount")


def _lower(node: Mapping[str, Any], name: str) -> str:
    value = node.get(name)
    return value.lower() if isinstance(value, str) else ""


def _as_webhook(node: Payload) -> dict[str, Any]:
    """The fields that we read of a GraphQL order, under the webhook's names and in its form."""
    display = node.get("displayFulfillmentStatus")
    return {
        "id": gid(node.get("id")),
        "name": node.get("name"),
        "created_at": node.get("createdAt"),
        "updated_at": node.get("updatedAt"),
        "cancelled_at": node.get("cancelledAt"),
        "closed_at": node.get("closedAt"),
        "cancel_reason": _lower(node, "cancelReason"),
        "test": node.get("test"),
        "financial_status": _lower(node, "displayFinancialStatus"),
        "fulfillment_status": _DISPLAY_FULFILMENT.get(display, "") if isinstance(display, str) else "",
        "currency": node.get("currencyCode"),
        "presentment_currency": node.get("presentmentCurrencyCode"),
        "taxes_included": node.get("taxesIncluded"),
        "source_name": node.get("sourceName"),
        "tags": ", ".join(node.get("tags") or ()),
        "note": node.get("note"),
        "email": node.get("email"),
        "phone": node.get("phone"),
        "payment_gateway_names": node.get("paymentGatewayNames"),
        "discount_codes": [{"code": code} for code in node.get("discountCodes") or ()],
        "note_attributes": _attributes(node),
        "subtotal_price": _amount(node, "subtotalPriceSet"),
        "total_price": _amount(node, "totalPriceSet"),
        "total_tax": _amount(node, "totalTaxSet"),
        "total_discounts": _amount(node, "totalDiscountsSet"),
        "total_shipping_price_set": {"shop_money": {"amount": _amount(node, "totalShippingPriceSet")}},
        "total_refunded": _amount(node, "totalRefundedSet"),
        "current_total_price": _amount(node, "currentTotalPriceSet"),
        "billing_address": _as_webhook_address(node.get("billingAddress")),
        "shipping_address": _as_webhook_address(node.get("shippingAddress")),
        "fulfillments": [
            {
                "id": entry.get("legacyResourceId"),
                "status": _lower(entry, "status"),
                **_tracking(entry),
            }
            for entry in fields.objects(node, "fulfillments")
        ],
        "line_items": [
            {
                "id": gid(line.get("id")),
                "title": line.get("title"),
                "variant_title": line.get("variantTitle"),
                "sku": line.get("sku"),
                "quantity": line.get("quantity"),
                "current_quantity": line.get("currentQuantity"),
                "requires_shipping": line.get("requiresShipping"),
                "price": _amount(line, "originalUnitPriceSet"),
                "total_discount": _amount(line, "totalDiscountSet"),
                "properties": _attributes(line),
            }
            for line in fields.objects(node.get("lineItems") or {}, "nodes")
        ],
    }


def _attributes(node: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"name": entry.get("key"), "value": entry.get("value")} for entry in fields.objects(node, "customAttributes")
    ]


def _tracking(entry: Mapping[str, Any]) -> dict[str, Any]:
    first = next(iter(fields.objects(entry, "trackingInfo")), {})
    return {"tracking_company": first.get("company"), "tracking_number": first.get("number")}


def _as_webhook_address(part: Any) -> dict[str, Any] | None:
    if not isinstance(part, dict):
        return None
    return {**part, "province_code": part.get("provinceCode"), "country_code": part.get("countryCodeV2")}
