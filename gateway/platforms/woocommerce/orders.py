"""WooCommerce's order JSON as ours. The webhook's and the API's shapes are identical (64 of 68 captured pairs)."""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal

from gateway.domain.order import (
    Address,
    Core,
    FulfilmentStatus,
    LineItem,
    PartName,
    PaymentStatus,
    Person,
    Refund,
)
from gateway.domain.problems import Refused
from gateway.platforms import fields
from gateway.platforms.base import Kind, Normalised, Payload

_FULFILMENT: dict[str, FulfilmentStatus] = {
    "completed": "fulfilled",
    "cancelled": "cancelled",
    "failed": "cancelled",
    "refunded": "cancelled",
}


def marks(head: Payload) -> dict[str, str]:
    """What a head shows of the core, as the core's JSON writes it."""
    try:
        total = fields.money(head, "total", fields.places(fields.text(head, "currency")))
        return {"status": fields.text(head, "status"), "total": str(total)}
    except Refused:
        return {"status": "?"}  # equal to nothing: the whole order will say what is wrong with it


def normalise(
    payload: Payload, *, kind: Kind = "api", granted: Collection[PartName] = ("core", "person")
) -> Normalised:
    """One order. Raises Refused(payload.field) naming the field that can't be read."""
    currency = fields.text(payload, "currency")
    if not currency:
        raise fields.refuse("currency", "it is missing")
    decimals = fields.places(currency)
    status = fields.text(payload, "status")
    if not status:
        raise fields.refuse("status", "it is missing")
    paid_at = fields.optional_instant(payload, "date_paid_gmt", naive_is_utc=True)
    refunds = tuple(
        Refund(fields.identity(entry), abs(fields.money(entry, "total", decimals)), fields.text(entry, "reason"))
        for entry in fields.objects(payload, "refunds")
    )
    total = fields.money(payload, "total", decimals)
    refunded = sum((refund.amount for refund in refunds), Decimal(0))
    items = list(fields.objects(payload, "line_items"))
    lines = tuple(_line(entry, decimals) for entry in items)
    subtotals = [fields.optional_money(entry, "subtotal", decimals) for entry in items]
    subtotal = sum((amount for amount in subtotals if amount is not None), Decimal(0))
    core = Core(
        number=fields.text(payload, "number") or fields.identity(payload),
        placed_at=fields.instant(payload, "date_created_gmt", naive_is_utc=True),
        status=status,
        payment_status=_payment(status, paid=paid_at is not None, refunded=refunded, total=total),
        fulfilment_status=_FULFILMENT.get(status, "unfulfilled"),
        currency=currency,
        total=total,
        subtotal=fields.quantise(str(subtotal), decimals),
        discount_total=fields.optional_money(payload, "discount_total", decimals),
        shipping_total=fields.optional_money(payload, "shipping_total", decimals),
        tax_total=fields.optional_money(payload, "total_tax", decimals),
        refunded_total=fields.quantise(str(refunded), decimals),
        current_total=fields.quantise(str(total - refunded), decimals),
        taxes_included=fields.flag(payload, "prices_include_tax"),
        paid_at=paid_at,
        completed_at=fields.optional_instant(payload, "date_completed_gmt", naive_is_utc=True),
        cancelled_at=None,
        cancel_reason="",
        closed_at=None,
        test=False,
        source=fields.text(payload, "created_via"),
        payment_methods=_words(fields.text(payload, "payment_method_title") or fields.text(payload, "payment_method")),
        shipping_methods=tuple(
            fields.text(entry, "method_title") for entry in fields.objects(payload, "shipping_lines")
        ),
        discount_codes=tuple(fields.text(entry, "code") for entry in fields.objects(payload, "coupon_lines")),
        tags=(),
        lines=lines,
        refunds=refunds,
        shipments=(),
    )
    return Normalised(
        external_id=fields.identity(payload),
        updated_at=fields.instant(payload, "date_modified_gmt", naive_is_utc=True),
        core=core,
        person=_person(payload, items) if "person" in granted else None,
    )


def _words(value: str) -> tuple[str, ...]:
    return (value,) if value else ()


def _payment(status: str, *, paid: bool, refunded: Decimal, total: Decimal) -> PaymentStatus:
    """WooCommerce has one status for everything: a plugin's own is read by date_paid and refunds."""
    if status == "refunded" or (refunded and refunded >= total):
        return "refunded"
    if refunded:
        return "partly_refunded"
    if status == "failed":
        return "failed"
    if paid or status in ("processing", "completed"):
        return "paid"
    return "voided" if status == "cancelled" else "pending"


def _line(entry: Payload, decimals: int) -> LineItem:
    quantity = fields.count(entry, "quantity")
    subtotal = fields.optional_money(entry, "subtotal", decimals)
    total = fields.money(entry, "total", decimals)
    # `price` is a float such as 3.3333333333333335 (capture woocommerce-pairs/08) and is not read at all.
    before_discounts = total if subtotal is None else subtotal
    unit = before_discounts / quantity if quantity else before_discounts
    if abs(unit) >= Decimal("1e15"):
        raise fields.refuse("quantity", "the price of one is not an amount")
    return LineItem(
        id=fields.identity(entry),
        title=fields.text(entry, "name"),
        variant="",
        sku=fields.text(entry, "sku"),
        quantity=quantity,
        current_quantity=quantity,
        unit_price=unit.quantize(Decimal(1).scaleb(-decimals)),
        total=total,
        tax=fields.optional_money(entry, "total_tax", decimals),
        product_id=fields.text(entry, "product_id"),
    )


def _person(payload: Payload, items: list[Payload]) -> Person:
    billing = fields.child(payload, "billing") or {}
    shipping = fields.child(payload, "shipping") or {}
    customer = payload.get("customer_id")
    return Person(
        customer_id=str(customer) if customer else "",
        name=_name(billing) or _name(shipping),
        email=fields.text(billing, "email"),
        phone=fields.text(billing, "phone") or fields.text(shipping, "phone"),
        billing=_address(billing),
        shipping=_address(shipping),
        note=fields.text(payload, "customer_note"),
        personal_fields=tuple(
            (fields.identity(item), fields.text(meta, "display_key"), _plain(meta.get("display_value")))
            for item in items
            for meta in fields.objects(item, "meta_data")
            if not fields.text(meta, "key").startswith("_")
        ),
    )


def _plain(value: object) -> str:
    """Plugins put anything into meta values; what is not a text is kept in the raw payload alone."""
    return value if isinstance(value, str) else ""


def _name(part: Payload) -> str:
    return f"{fields.text(part, 'first_name')} {fields.text(part, 'last_name')}".strip()


def _address(part: Payload) -> Address | None:
    address = Address(
        name=_name(part),
        company=fields.text(part, "company"),
        line1=fields.text(part, "address_1"),
        line2=fields.text(part, "address_2"),
        city=fields.text(part, "city"),
        region=fields.text(part, "state"),
        postcode=fields.text(part, "postcode"),
        country=fields.text(part, "country"),
        phone=fields.text(part, "phone"),
    )
    return None if address == Address() else address
