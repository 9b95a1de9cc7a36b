"""How an order comes to be and what can happen to it afterwards, alike on all platforms.

Each change returns an Effect: which events a platform may tell, and whether the order's time of change moves.
What a platform really tells (or keeps quiet) is decided in its own module.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.sandbox import catalogue
from gateway.sandbox.orders import Address, Line, Order, Refund, Shipment, digits, totals

if TYPE_CHECKING:
    from gateway.sandbox.stores import Store

_RATES = {"JPY": "191.37", "USD": "1.2719", "EUR": "1.1854"}

KINDS = (
    "pay", "ship", "ship_part", "deliver", "edit", "cancel", "refund", "refund_delete", "delete",
    "trash", "restore", "force_delete", "note", "address", "status", "meta",
)  # fmt: skip


FEATURES = frozenset(
    {"lines", "currency", "paid", "guest", "person", "email", "source", "note", "tags", "coupon", "test"}
)


_GIVES_A_STATUS = frozenset({"pay", "ship", "ship_part", "cancel", "refund", "refund_delete"})


class ChangeRefused(ValueError):
    """That can't happen to this order now, or not on this platform."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What a change means to the outside."""

    events: tuple[str, ...] = ("updated",)
    moves_time: bool = True


def new_order(store: Store, rng: random.Random, *, features: dict[str, Any]) -> Order:
    """Make an order of the store's now; `features` are the keyword arguments of Store.place."""
    unknown = set(features) - FEATURES
    if unknown:
        raise ValueError(
            f"an order has no feature {', '.join(sorted(unknown))}; there are: {', '.join(sorted(FEATURES))}"
        )
    paid_in = features.get("currency") or store.currency
    currency = store.currency if store.two_currencies else paid_in
    second = store.second()
    number = store.next_number()
    guest = bool(features.get("guest"))
    billing, email, customer = catalogue.someone(rng)
    if features.get("person"):
        billing = catalogue.at_place(rng, *features["person"])
    if features.get("email") is not None:
        email = features["email"]
    if guest:
        billing, email, customer = Address(), "", 0
    source = features.get("source", "web")
    order = Order(
        id=store.next_order_id(),
        number=number,
        key="".join(rng.choice("abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789") for _ in range(13)),
        created=second,
        updated=second,
        currency=currency,
        billing=billing,
        shipping=Address() if guest or source == "pos" else billing,
        lines=_lines(store, rng, currency, features),
        email=email,
        phone=billing.phone,
        customer_id=customer or None,
        source=source,
        tax_title=store.tax_title,
        tax_percent=store.tax_percent,
        taxes_included=store.taxes_included,
        note=features.get("note", rng.choice(catalogue.NOTES) if rng.random() < 0.15 else ""),
        tags=list(features.get("tags", ["wholesale", "VIP ✨"] if rng.random() < 0.1 else [])),
        attributes=[["gift wrap", "yes"]] if rng.random() < 0.1 else [],
        test=bool(features.get("test")),
        presentment_currency=paid_in,
        presentment_rate="1" if paid_in == currency else _RATES.get(paid_in, "1.25"),
    )
    order.shipping_line_id, order.tax_line_id = store.next_item_id(), store.next_item_id()
    if source != "pos" and not guest and rng.random() < 0.7:
        order.shipping_title, order.shipping_price = (
            "Tracked 48",
            _money(rng.choice([350, 495, 790]), currency),
        )
    if features.get("coupon", rng.random() < 0.15):
        _apply_coupon(store, order, 10)
    if features.get("paid", True):
        order.paid, order.status = second, "processing"
    return order


def _money(cents: int, currency: str) -> int:
    """A price in hundredths as an amount of that currency: 1850 is 18.50 GBP, 1850 JPY, 18.500 KWD."""
    return cents if digits(currency) <= 2 else cents * 10


def _lines(store: Store, rng: random.Random, currency: str, features: dict[str, Any]) -> list[Line]:
    count = features.get("lines")
    if count is None:
        count = rng.choice([1, 1, 2, 2, 3, 4])
    lines = []
    for _ in range(count):
        product = rng.choice(catalogue.PRODUCTS)
        properties = [["Engraving", "❤ A&B <3"]] if rng.random() < 0.1 else []
        lines.append(
            Line(
                id=store.next_item_id(),
                product_id=store.id_of("product", product.id),
                variant_id=store.id_of("variant", product.variant_id),
                sku=product.sku,
                title=product.title,
                variant_title=product.variant,
                unit=_money(product.cents, currency),
                quantity=rng.choice([1, 1, 1, 2, 3]),
                properties=properties,
            )
        )
    return lines


def _apply_coupon(store: Store, order: Order, percent: int) -> None:
    order.coupon, order.coupon_percent, order.coupon_id = "fern10", percent, store.next_item_id()
    for line in order.lines:
        line.discount = line.unit * line.quantity * percent // 100


def apply(store: Store, order: Order, kind: str, rng: random.Random, details: dict[str, Any]) -> Effect:
    """Change the order in place; raises ChangeRefused and changes nothing when that can't happen now."""
    if kind not in _CHANGES:
        raise ChangeRefused(f"there is no change called {kind!r}; there are: {', '.join(KINDS)}")
    if not order.exists:
        raise ChangeRefused("the order was deleted")
    if kind not in store.kinds:
        raise ChangeRefused(f"{store.platform} knows no change called {kind!r}")
    if order.trashed and kind in _GIVES_A_STATUS:
        raise ChangeRefused("it lies in the trash")  # whether a status takes it out of there was not captured
    return _CHANGES[kind](store, order, rng, details)


def possible(store: Store, order: Order) -> list[str]:
    """What may happen to that order in the life of a quiet store, likelier things more often."""
    if not order.exists or order.trashed:
        return []
    kinds = ["note", "address"]
    if order.paid is None and order.cancelled is None:
        kinds += ["pay", "pay", "pay", "cancel"]
    elif order.completed is None and order.cancelled is None:
        kinds += ["ship", "ship", "ship", "edit", "refund"]
    elif order.cancelled is None and not order.refunds:
        kinds += ["refund"]
    return [kind for kind in kinds if kind in store.kinds]


def _refuse_if(condition: bool, reason: str) -> None:
    if condition:
        raise ChangeRefused(reason)


def _pay(store: Store, order: Order, _rng: random.Random, _details: dict[str, Any]) -> Effect:
    _refuse_if(order.paid is not None, "it is paid already")
    _refuse_if(order.cancelled is not None, "it was cancelled")
    order.paid, order.status = store.second(), "processing"
    return Effect(("paid", "updated"))


def _ship_lines(store: Store, order: Order, rng: random.Random, lines: list[Line]) -> Effect:
    waiting = [line for line in lines if line.current > line.shipped]
    _refuse_if(order.cancelled is not None, "it was cancelled")
    _refuse_if(not waiting, "everything is shipped already")
    carrier, url = rng.choice(catalogue.CARRIERS)
    tracking = f"{rng.randrange(10**11, 10**12)}"
    shipment = Shipment(store.next_item_id(), store.second(), carrier, tracking, url + tracking)
    for line in waiting:
        shipment.pieces.append([line.id, line.current - line.shipped])
        line.shipped = line.current
    order.shipments.append(shipment)
    if all(line.shipped >= line.current for line in order.lines):
        order.completed, order.status = store.second(), "completed"
    return Effect(("shipped", "updated"))


def _ship(store: Store, order: Order, rng: random.Random, _details: dict[str, Any]) -> Effect:
    return _ship_lines(store, order, rng, order.lines)


def _ship_part(store: Store, order: Order, rng: random.Random, _details: dict[str, Any]) -> Effect:
    waiting = [line for line in order.lines if line.current > line.shipped]
    _refuse_if(len(waiting) < 2, "there are not two lines to ship apart")
    return _ship_lines(store, order, rng, waiting[:1])


def _deliver(store: Store, order: Order, _rng: random.Random, _details: dict[str, Any]) -> Effect:
    _refuse_if(order.completed is None, "it is not shipped yet")
    _refuse_if(order.delivered is not None, "it is delivered already")
    order.delivered = store.second()
    return Effect(("delivered", "updated"))


def _edit(store: Store, order: Order, _rng: random.Random, details: dict[str, Any]) -> Effect:
    """The last unshipped line goes away when there are two, else one more piece of the only line.

    With {"shipping": true} the shipping line goes away instead.
    """
    order_lines = [line for line in order.lines if line.current > 0]
    open_lines = [line for line in order_lines if not line.shipped and not line.refunded]
    if details.get("shipping"):
        _refuse_if(not order.shipping_title or order.shipping_removed, "there is no shipping line")
        order.shipping_removed = True
    else:
        _refuse_if(not open_lines, "there is no line left to edit")
        if len(order_lines) > 1:
            open_lines[-1].removed = open_lines[-1].quantity
        else:
            open_lines[-1].quantity += 1
    order.edited = True
    return Effect(("edited", "updated"))


def _cancel(store: Store, order: Order, _rng: random.Random, details: dict[str, Any]) -> Effect:
    _refuse_if(order.cancelled is not None, "it was cancelled already")
    _refuse_if(bool(order.shipments), "it is on its way already")
    order.cancelled, order.status = store.second(), "cancelled"
    order.cancel_reason = details.get("reason", "customer")
    return Effect(("cancelled", "updated"))


def _refund(store: Store, order: Order, _rng: random.Random, details: dict[str, Any]) -> Effect:
    """One piece of the first line; the second time (or with {"full": true}) all the rest."""
    left = totals(order, "ordered").total - order.refunded_total
    _refuse_if(order.paid is None, "nothing was paid")
    _refuse_if(left <= 0, "everything was refunded")
    pieces: list[list[int]] = []
    amount = left
    line = next((line for line in order.lines if line.current > 0), None)
    if not order.refunds and not details.get("full") and line is not None:
        net = line.net(1)
        amount = min(left, net + (0 if order.taxes_included else order.tax_on(net)))
        line.refunded += 1
        pieces.append([line.id, 1, net, store.next_item_id()])
    reason = details.get("reason", "arrived broken" if pieces else "rest returned")
    order.refunds.append(Refund(store.next_refund_id(), store.second(), amount, reason, store.next_item_id(), pieces))
    if amount == left:
        order.status = "refunded"
    return Effect(("refunded", "updated"), moves_time=store.refund_moves_time)


def _refund_delete(_store: Store, order: Order, _rng: random.Random, _details: dict[str, Any]) -> Effect:
    _refuse_if(not order.refunds, "there is no refund")
    refund = order.refunds.pop()
    for line_id, quantity, _amount, _id in refund.pieces:
        order.line(line_id).refunded -= quantity
    # capture pairs 03/4: no webhook, date_modified stays, and the order stays "refunded".
    return Effect((), moves_time=False)


def _delete(store: Store, order: Order, _rng: random.Random, _details: dict[str, Any]) -> Effect:
    order.deleted = store.second()
    return Effect(("deleted",))


def _trash(_store: Store, order: Order, _rng: random.Random, _details: dict[str, Any]) -> Effect:
    _refuse_if(order.trashed, "it lies in the trash already")
    order.status_before_trash, order.status, order.trashed = order.status, "trash", True
    return Effect(("trashed",))


def _restore(_store: Store, order: Order, _rng: random.Random, _details: dict[str, Any]) -> Effect:
    _refuse_if(not order.trashed, "it does not lie in the trash")
    order.status, order.trashed = order.status_before_trash, False
    return Effect(("restored",))


def _force_delete(store: Store, order: Order, _rng: random.Random, _details: dict[str, Any]) -> Effect:
    order.deleted = store.second()
    return Effect(())  # WooCommerce sheet fact 7: force-delete sends nothing.


def _note(store: Store, order: Order, rng: random.Random, details: dict[str, Any]) -> Effect:
    order.note = details.get("note") or f"{rng.choice(catalogue.NOTES)} ({rng.randrange(1000)})"
    return Effect()


def _address(_store: Store, order: Order, rng: random.Random, details: dict[str, Any]) -> Effect:
    first = details.get("first_name") or order.shipping.first_name or "Ada"
    order.shipping = catalogue.at_place(rng, first, order.shipping.last_name or "Okafor")
    order.shipping.address_2 = f"Box {rng.randrange(1000)}"
    return Effect()


def _status(store: Store, order: Order, rng: random.Random, details: dict[str, Any]) -> Effect:
    """WooCommerce: any status, by default one that a plugin adds; elsewhere a tag, the nearest thing there is."""
    status = details.get("status")
    if store.platform == "woocommerce":
        if order.trashed:
            return Effect()  # capture pairs 12/5: a PUT on a trashed order sends order.updated and stays trash.
        order.status = status or ("awaiting-pickup" if order.status != "awaiting-pickup" else "processing")
        if order.status == "completed":
            order.completed = store.second()
    else:
        order.tags.append(status or f"batch-{rng.randrange(1000)}")
    return Effect()


def _meta(_store: Store, order: Order, rng: random.Random, details: dict[str, Any]) -> Effect:
    order.attributes.append([details.get("key", "picked by"), details.get("value", f"robot {rng.randrange(100)}")])
    return Effect()


Change = Callable[["Store", Order, random.Random, dict[str, Any]], Effect]
_CHANGES: dict[str, Change] = {
    "pay": _pay, "ship": _ship, "ship_part": _ship_part, "deliver": _deliver, "edit": _edit, "cancel": _cancel,
    "refund": _refund, "refund_delete": _refund_delete, "delete": _delete, "trash": _trash, "restore": _restore,
    "force_delete": _force_delete, "note": _note, "address": _address, "status": _status, "meta": _meta,
}  # fmt: skip
