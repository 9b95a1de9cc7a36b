"""What Shopify derives from an order's facts; both of its shapes (webhook JSON and GraphQL) use it.

It keeps the two shapes about one state; how they spell it differs (sheet section 5.5) and is in the two shape modules.
"""

from __future__ import annotations

import uuid
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING

from gateway.sandbox.orders import Order, decimal_amount, digits, totals

if TYPE_CHECKING:
    from gateway.sandbox.stores import Store


def gid(kind: str, number: int) -> str:
    return f"gid://shopify/{kind}/{number}"


def order_name(order: Order) -> str:
    return f"#{order.number}"


def financial_status(order: Order) -> str:
    """In the webhook's words; GraphQL has them in capitals."""
    owed = totals(order, "ordered").total
    if order.refunds:
        return "refunded" if order.refunded_total >= owed else "partially_refunded"
    if order.paid is not None:
        return "paid"
    return "voided" if order.cancelled is not None else "pending"


def fulfillment_status(order: Order) -> str | None:
    """In the webhook's words: fulfilled, partial, or None."""
    if not order.shipments:
        return None
    return "fulfilled" if all(line.shipped >= line.current for line in order.lines) else "partial"


def received(order: Order) -> int:
    """What was paid and kept."""
    return totals(order, "placed").total - order.refunded_total if order.paid is not None else 0


def outstanding(order: Order) -> int:
    if order.cancelled is not None or order.paid is not None:
        return 0
    return totals(order, "current").total


def in_both_currencies(order: Order, minor: int) -> tuple[Decimal, str, Decimal, str]:
    """The amount in the shop's currency and in the one that the buyer saw."""
    shop = decimal_amount(minor, order.currency)
    seen_in = order.presentment_currency or order.currency
    if seen_in == order.currency:
        return shop, order.currency, shop, seen_in
    step = Decimal(1).scaleb(-digits(seen_in))
    seen = (shop * Decimal(order.presentment_rate)).quantize(step, rounding=ROUND_HALF_UP)
    return shop, order.currency, seen, seen_in


def tags(order: Order) -> list[str]:
    """Shopify keeps tags unique and sorted."""
    return sorted(set(order.tags), key=str.lower)


def random_uuid(store: Store) -> str:
    return str(uuid.UUID(int=store.rng.getrandbits(128), version=4))
