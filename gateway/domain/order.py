"""An order as every platform's order looks to us, cut into the parts that are guarded one by one.

Both shapes of a platform's order (webhook and API) must give equal values here, so a field stands here only if
both carry it. The platform's own payload is kept beside, byte for byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

SHAPE = 1
"""Raised by each release that changes what the parts below hold: a digest of another shape is never compared."""

PartName = Literal["core", "person"]
PARTS: tuple[PartName, ...] = ("core", "person")

PaymentStatus = Literal[
    "pending",
    "authorized",
    "partly_paid",
    "paid",
    "partly_refunded",
    "refunded",
    "voided",
    "failed",
    "expired",
    "unknown",
]
FulfilmentStatus = Literal["unfulfilled", "partly_fulfilled", "fulfilled", "restocked", "cancelled", "unknown"]


@dataclass(frozen=True, slots=True)
class LineItem:
    """One line of an order. Amounts are in the order's currency; `unit_price` is before discounts."""

    id: str
    title: str
    variant: str
    sku: str
    quantity: int | Decimal
    current_quantity: int | Decimal
    unit_price: Decimal
    total: Decimal
    tax: Decimal | None = None
    product_id: str = ""
    requires_shipping: bool | None = None


@dataclass(frozen=True, slots=True)
class Refund:
    """Money given back. `amount` is positive, in the order's currency."""

    id: str
    amount: Decimal
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Shipment:
    """A parcel on its way."""

    id: str
    status: str
    carrier: str
    tracking_number: str


@dataclass(frozen=True, slots=True)
class Core:
    """What was bought, for how much, and how far it is: everything of an order that is not about a person."""

    number: str
    placed_at: datetime
    status: str
    payment_status: PaymentStatus
    fulfilment_status: FulfilmentStatus
    currency: str
    total: Decimal
    subtotal: Decimal | None
    discount_total: Decimal | None
    shipping_total: Decimal | None
    tax_total: Decimal | None
    refunded_total: Decimal | None
    current_total: Decimal | None
    taxes_included: bool | None
    paid_at: datetime | None
    completed_at: datetime | None
    cancelled_at: datetime | None
    cancel_reason: str
    closed_at: datetime | None
    test: bool
    source: str
    payment_methods: tuple[str, ...]
    shipping_methods: tuple[str, ...]
    discount_codes: tuple[str, ...]
    tags: tuple[str, ...]
    lines: tuple[LineItem, ...]
    refunds: tuple[Refund, ...]
    shipments: tuple[Shipment, ...]


@dataclass(frozen=True, slots=True)
class Address:
    name: str = ""
    company: str = ""
    line1: str = ""
    line2: str = ""
    city: str = ""
    region: str = ""
    postcode: str = ""
    country: str = ""
    phone: str = ""


@dataclass(frozen=True, slots=True)
class Person:
    """What an order says of people: the part that an erasure masks."""

    customer_id: str
    name: str
    email: str
    phone: str
    billing: Address | None
    shipping: Address | None
    note: str
    personal_fields: tuple[tuple[str, str, str], ...]
    """Free fields in which buyers write names and wishes: (line id or "", field, value)."""
