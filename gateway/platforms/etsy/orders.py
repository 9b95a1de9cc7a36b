"""Etsy's receipt as ours. There is one shape only: notices are thin, receipts come from the API."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime
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
    Shipment,
)
from gateway.platforms import fields
from gateway.platforms.base import Kind, Normalised, Payload


def normalise(
    payload: Payload, *, kind: Kind = "api", granted: Collection[PartName] = ("core", "person")
) -> Normalised:
    """One receipt. Raises Refused(payload.field) naming the field that can't be read."""
    grand = fields.child(payload, "grandtotal")
    if grand is None:
        raise fields.refuse("grandtotal", "it is missing")
    currency = fields.text(grand, "currency_code")
    decimals = fields.places(currency)
    placed_at = fields.epoch_seconds(payload, "created_timestamp", "create_timestamp")
    updated_at = fields.epoch_seconds(payload, "updated_timestamp", "update_timestamp")
    if placed_at is None or updated_at is None:
        raise fields.refuse("updated_timestamp" if placed_at else "created_timestamp", "a date is missing")
    transactions = list(fields.objects(payload, "transactions"))
    refunds = _refunds(payload, decimals)
    refunded = sum((refund.amount for refund in refunds), Decimal(0))
    total = _amount(payload, "grandtotal", decimals) or Decimal(0)
    status = fields.text(payload, "status").lower()
    core = Core(
        number=fields.identity(payload, "receipt_id"),
        placed_at=placed_at,
        status=status,
        payment_status=_payment(payload, status),
        fulfilment_status=_fulfilment(payload, status),
        currency=currency,
        total=total,
        subtotal=_amount(payload, "subtotal", decimals),
        discount_total=_amount(payload, "discount_amt", decimals),
        shipping_total=_amount(payload, "total_shipping_cost", decimals),
        tax_total=_taxes(payload, decimals),
        refunded_total=fields.quantise(str(refunded), decimals),
        current_total=fields.quantise(str(total - refunded), decimals),
        taxes_included=None,
        paid_at=_moment(transactions, "paid_timestamp", min),
        completed_at=_moment(transactions, "shipped_timestamp", max),
        cancelled_at=None,
        cancel_reason="",
        closed_at=None,
        test=False,
        source="etsy",
        payment_methods=tuple(filter(None, [fields.text(payload, "payment_method")])),
        shipping_methods=(),
        discount_codes=(),
        tags=(),
        lines=tuple(_line(entry, decimals) for entry in transactions),
        refunds=refunds,
        shipments=tuple(
            Shipment(
                id=fields.text(entry, "receipt_shipping_id"),
                status="shipped",
                carrier=fields.text(entry, "carrier_name"),
                tracking_number=fields.text(entry, "tracking_code"),
            )
            for entry in fields.objects(payload, "shipments")
        ),
    )
    return Normalised(
        external_id=fields.identity(payload, "receipt_id"),
        updated_at=updated_at,
        core=core,
        person=_person(payload, transactions) if "person" in granted else None,
    )


def _amount(payload: Payload, name: str, decimals: int) -> Decimal | None:
    """Money is amount / divisor; the description allows a divisor of 0, which is no amount."""
    money = fields.child(payload, name)
    if money is None:
        return None
    amount, divisor = money.get("amount"), money.get("divisor")
    if not isinstance(amount, int) or not isinstance(divisor, int) or isinstance(amount, bool) or divisor <= 0:
        raise fields.refuse(name, "it is not an amount")
    return fields.quantise(str(Decimal(amount) / divisor), decimals)


def _taxes(payload: Payload, decimals: int) -> Decimal | None:
    taxes = [_amount(payload, name, decimals) for name in ("total_tax_cost", "total_vat_cost")]
    known = [tax for tax in taxes if tax is not None]
    return fields.quantise(str(sum(known, Decimal(0))), decimals) if known else None


def _refunds(payload: Payload, decimals: int) -> tuple[Refund, ...]:
    return tuple(
        Refund(f"{fields.text(entry, 'created_timestamp')}-{number}", _amount(entry, "amount", decimals) or Decimal(0),
               fields.text(entry, "reason"))
        for number, entry in enumerate(fields.objects(payload, "refunds"), 1)
    )  # fmt: skip


def _payment(payload: Payload, status: str) -> PaymentStatus:
    """One word holds payment, shipping and refunds; is_paid says the rest."""
    if status == "fully refunded":
        return "refunded"
    if status == "partially refunded":
        return "partly_refunded"
    if status == "canceled":
        return "voided"
    return "paid" if payload.get("is_paid") else "pending"


def _fulfilment(payload: Payload, status: str) -> FulfilmentStatus:
    if payload.get("is_shipped"):
        return "fulfilled"
    return "cancelled" if status in ("canceled", "fully refunded") else "unfulfilled"


def _moment(transactions: list[Payload], name: str, choose: Callable[[list[datetime]], datetime]) -> datetime | None:
    moments = [moment for entry in transactions if (moment := fields.epoch_seconds(entry, name)) is not None]
    return choose(moments) if moments else None


def _line(entry: Payload, decimals: int) -> LineItem:
    quantity = fields.count(entry, "quantity")
    price = _amount(entry, "price", decimals)
    if price is None:
        raise fields.refuse("price", "an amount is missing")
    return LineItem(
        id=fields.identity(entry, "transaction_id"),
        title=fields.text(entry, "title"),
        variant="",
        sku=fields.text(entry, "sku"),
        quantity=quantity,
        current_quantity=quantity,
        unit_price=price,
        total=fields.quantise(str(price * quantity), decimals),
        product_id=fields.text(entry, "listing_id"),
        requires_shipping=None if (digital := fields.flag(entry, "is_digital")) is None else not digital,
    )


def _person(payload: Payload, transactions: list[Payload]) -> Person:
    address = Address(
        name=fields.text(payload, "name"),
        line1=fields.text(payload, "first_line"),
        line2=fields.text(payload, "second_line"),
        city=fields.text(payload, "city"),
        region=fields.text(payload, "state"),
        postcode=fields.text(payload, "zip"),
        country=fields.text(payload, "country_iso"),
    )
    gift = [("", name, fields.text(payload, name)) for name in ("gift_message", "gift_sender")]
    return Person(
        customer_id=fields.text(payload, "buyer_user_id"),
        name=address.name,
        email=fields.text(payload, "buyer_email"),
        phone="",
        billing=None,
        shipping=None if address == Address() else address,
        note=fields.text(payload, "message_from_buyer"),
        personal_fields=(
            *(entry for entry in gift if entry[2]),
            *(
                (
                    fields.identity(line, "transaction_id"),
                    fields.text(variation, "formatted_name"),
                    fields.text(variation, "formatted_value"),
                )
                for line in transactions
                for variation in fields.objects(line, "variations")
            ),
        ),
    )
