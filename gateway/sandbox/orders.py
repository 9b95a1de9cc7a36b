"""What an order really is, whatever platform shows it: the ground truth that the platforms' shapes are made from.

Times are whole epoch seconds (UTC) by the store's clock, amounts are integers in the currency's smallest unit.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

CURRENCY_DIGITS = {"JPY": 0, "KRW": 0, "KWD": 3, "BHD": 3}


def digits(currency: str) -> int:
    """How many decimals the currency has (2 unless listed)."""
    return CURRENCY_DIGITS.get(currency, 2)


def decimal_amount(minor: int, currency: str) -> Decimal:
    """The amount as people write it: 1250 GBP is 12.50, 1250 JPY is 1250."""
    return Decimal(minor).scaleb(-digits(currency))


def portion(amount: int, rate: Decimal, base: Decimal) -> int:
    """amount x rate / base, rounded half up to the smallest unit."""
    return int((Decimal(amount) * rate / base).quantize(Decimal(1), rounding=ROUND_HALF_UP))


@dataclass(slots=True)
class Address:
    """A person at a place; every field may be empty, as with guests and sales at a counter."""

    first_name: str = ""
    last_name: str = ""
    company: str = ""
    address_1: str = ""
    address_2: str = ""
    city: str = ""
    province: str = ""
    province_code: str = ""
    postcode: str = ""
    country: str = ""
    country_code: str = ""
    phone: str = ""

    @property
    def full_name(self) -> str:
        return f"{self.first_name} {self.last_name}".strip()


@dataclass(slots=True)
class Line:
    """One product of an order; nothing is ever taken out of `quantity`, it is counted in removed and refunded."""

    id: int
    product_id: int
    variant_id: int
    sku: str
    title: str
    variant_title: str
    unit: int
    quantity: int
    discount: int = 0
    removed: int = 0
    refunded: int = 0
    shipped: int = 0
    properties: list[list[str]] = field(default_factory=list)

    @property
    def ordered(self) -> int:
        """Pieces after edits, before refunds."""
        return self.quantity - self.removed

    @property
    def current(self) -> int:
        """Pieces after edits and refunds."""
        return self.quantity - self.removed - self.refunded

    def net(self, quantity: int) -> int:
        """What that many pieces cost after the discount, which is spread over the pieces first ordered."""
        if quantity == self.quantity:
            return self.unit * quantity - self.discount
        return self.unit * quantity - portion(self.discount, Decimal(quantity), Decimal(max(self.quantity, 1)))


@dataclass(slots=True)
class Refund:
    """Money given back, for pieces or without; `amount` is positive."""

    id: int
    created: int
    amount: int
    reason: str
    transaction_id: int
    pieces: list[list[int]] = field(default_factory=list)  # [line id, quantity, amount, id of the refund line]


@dataclass(slots=True)
class Shipment:
    """One parcel."""

    id: int
    created: int
    carrier: str
    tracking: str
    url: str
    pieces: list[list[int]] = field(default_factory=list)  # [line id, quantity]


@dataclass(slots=True)
class Order:
    """One order with everything that any of the three platforms tells about it."""

    id: int
    number: int
    key: str
    created: int
    updated: int
    currency: str
    billing: Address
    shipping: Address
    lines: list[Line]
    email: str = ""
    phone: str = ""
    customer_id: int | None = None
    source: str = "web"
    status: str = "pending"  # WooCommerce's one word; the others derive theirs from the facts below
    status_before_trash: str = ""
    paid: int | None = None
    completed: int | None = None
    delivered: int | None = None
    cancelled: int | None = None
    cancel_reason: str = ""
    closed: int | None = None
    trashed: bool = False
    deleted: int | None = None
    note: str = ""
    tags: list[str] = field(default_factory=list)
    attributes: list[list[str]] = field(default_factory=list)
    gift_message: str = ""
    shipping_line_id: int = 0
    shipping_title: str = ""
    shipping_price: int = 0
    shipping_removed: bool = False
    fee_id: int = 0
    fee_title: str = ""
    fee: int = 0
    coupon_id: int = 0
    coupon: str = ""
    coupon_percent: int = 0
    tax_line_id: int = 0
    tax_title: str = ""
    tax_percent: str = "0"
    taxes_included: bool = False
    gateway: str = "card"
    gateway_title: str = "Card"
    locale: str = "en"
    test: bool = False
    edited: bool = False
    presentment_currency: str = ""  # what the buyer paid in, where a platform keeps two currencies
    presentment_rate: str = "1"
    refunds: list[Refund] = field(default_factory=list)
    shipments: list[Shipment] = field(default_factory=list)
    version: int = 0  # rises with each change of content, so that rendered shapes can be kept

    @property
    def exists(self) -> bool:
        return self.deleted is None

    def tax_on(self, amount: int) -> int:
        """The tax contained in, or added to, an amount."""
        rate = Decimal(self.tax_percent)
        base = Decimal(100) + rate if self.taxes_included else Decimal(100)
        return portion(amount, rate, base)

    def line(self, line_id: int) -> Line:
        return next(line for line in self.lines if line.id == line_id)

    @property
    def refunded_total(self) -> int:
        return sum(refund.amount for refund in self.refunds)


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over an order; `total` is what the buyer owes, taxes included."""

    subtotal: int
    discounts: int
    shipping: int
    fees: int
    item_tax: int
    shipping_tax: int
    total: int

    @property
    def tax(self) -> int:
        return self.item_tax + self.shipping_tax


def totals(order: Order, which: str) -> Totals:
    """Sum the order as first placed ("placed"), after edits ("ordered"), or after refunds as well ("current")."""
    quantities = {
        "placed": [(line, line.quantity) for line in order.lines],
        "ordered": [(line, line.ordered) for line in order.lines],
        "current": [(line, line.current) for line in order.lines],
    }[which]
    gross = sum(line.unit * quantity for line, quantity in quantities)
    nets = [line.net(quantity) for line, quantity in quantities]
    shipping = 0 if order.shipping_removed and which != "placed" else order.shipping_price
    item_tax = sum(order.tax_on(net) for net in nets) + order.tax_on(order.fee)
    shipping_tax = order.tax_on(shipping)
    net = sum(nets)
    added = 0 if order.taxes_included else item_tax + shipping_tax
    return Totals(net, gross - net, shipping, order.fee, item_tax, shipping_tax, net + shipping + order.fee + added)


def to_json(order: Order) -> dict[str, Any]:
    """The order as plain JSON values, for the state file."""
    return dataclasses.asdict(order)


def from_json(saved: dict[str, Any]) -> Order:
    """The order that `to_json` wrote."""
    saved = dict(saved)
    saved["billing"] = Address(**saved["billing"])
    saved["shipping"] = Address(**saved["shipping"])
    saved["lines"] = [Line(**line) for line in saved["lines"]]
    saved["refunds"] = [Refund(**refund) for refund in saved["refunds"]]
    saved["shipments"] = [Shipment(**shipment) for shipment in saved["shipments"]]
    return Order(**saved)
