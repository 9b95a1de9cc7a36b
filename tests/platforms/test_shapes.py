"""One state, one digest: the webhook's shape and the API's, and every field that we read tells on both."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.orders.reading import canonical, digest
from gateway.platforms import REGISTRY
from gateway.platforms.base import Kind, Normalised
from gateway.sandbox.stores import Store
from tests.simulation import Simulation

Digests = tuple[bytes, bytes]


@pytest.fixture
def simulation(clean_database: str) -> Iterator[Simulation]:
    with Simulation(clean_database) as simulation:
        simulation.open_account()
        yield simulation


def _digests(order: Normalised) -> Digests:
    assert order.person is not None
    return digest(canonical(order.core)), digest(canonical(order.person))


def _refund(store: Store) -> int:
    order = store.place(lines=3)
    store.change(order.id, "refund")
    return order.id


def _full_refund(store: Store) -> int:
    order = store.place(lines=2)
    store.change(order.id, "refund", full=True)
    return order.id


def _edited(store: Store) -> int:
    order = store.place(lines=4)
    store.change(order.id, "edit")
    return order.id


def _shipped(store: Store) -> int:
    order = store.place(lines=3)
    store.change(order.id, "ship_part" if "ship_part" in store.kinds else "ship")
    return order.id


def _cancelled(store: Store) -> int:
    order = store.place()
    store.change(order.id, "cancel")
    return order.id


STATES: dict[str, Callable[[Store], int]] = {
    "plain": lambda store: store.place().id,
    "unpaid": lambda store: store.place(paid=False).id,
    "guest": lambda store: store.place(guest=True).id,
    "260 lines": lambda store: store.place(lines=260).id,
    "no decimals": lambda store: store.place(currency="JPY").id,
    "three decimals": lambda store: store.place(currency="KWD").id,
    "point of sale": lambda store: store.place(source="pos").id,
    "coupon and tags": lambda store: store.place(coupon=True, tags=["b", "a, c", "ü"]).id,
    "letters": lambda store: store.place(person=("נועה 🌿", "مريم"), note="<b>'\"&\u2028").id,
    "refund": _refund,
    "full refund": _full_refund,
    "edited to quantity 0": _edited,
    "shipped": _shipped,
    "cancelled": _cancelled,
}


@pytest.mark.parametrize("state", sorted(STATES))
@pytest.mark.parametrize("platform", ["shopify", "woocommerce"])
def test_webhook_and_api_of_one_state_give_one_digest(simulation: Simulation, platform: str, state: str) -> None:
    store = simulation.world.add_store(platform, currency="GBP")
    connection = simulation.connect(store)
    order_id = str(STATES[state](store))
    simulation.pass_time(60)
    webhook = [request for request in simulation.collect() if str(request.order_id) == order_id][-1]
    access = simulation.access.store(simulation.connection(connection))
    adapter = REGISTRY[platform]

    (found,) = adapter.fetch_orders(access, [order_id])

    by_hook = adapter.normalise(json.loads(webhook.body), kind="webhook")
    by_api = adapter.normalise(json.loads(found.raw), kind="api")  # type: ignore[union-attr]
    assert by_hook == by_api
    assert _digests(by_hook) == _digests(by_api)


@pytest.mark.parametrize("platform", ["shopify", "woocommerce", "etsy"])
def test_a_page_and_a_single_look_up_give_one_digest(simulation: Simulation, platform: str) -> None:
    store = simulation.world.add_store(platform)
    connection = simulation.connect(store)
    order_id = str(_refund(store))
    simulation.pass_time(60)
    access = simulation.access.store(simulation.connection(connection))
    adapter = REGISTRY[platform]
    from backfill.runs import window_of_days

    page = adapter.list_page(access, window_of_days(7, simulation.now(), store.skew * -1), None)
    listed = next(order for order in page.orders if order.external_id == order_id)
    (single,) = adapter.fetch_orders(access, [order_id])

    one = adapter.normalise(json.loads(listed.raw), kind="api")
    two = adapter.normalise(json.loads(single.raw), kind="api")  # type: ignore[union-attr]
    assert one == two


# --- mutation --------------------------------------------------------------------------------------------------
FIXTURES = Path(__file__).parent / "fixtures"


def _payloads(simulation: Simulation) -> dict[tuple[str, Kind], dict[str, Any]]:
    """A rich order in each shape."""
    payloads: dict[tuple[str, Kind], dict[str, Any]] = {}
    for platform in ("shopify", "woocommerce", "etsy"):
        store = simulation.world.add_store(platform)
        connection = simulation.connect(store)
        order = store.place(lines=2, coupon=True, tags=["a"], note="ring twice")
        store.change(order.id, "ship")
        store.change(order.id, "refund")
        simulation.pass_time(60)
        hooks = [request for request in simulation.collect() if request.order_id == order.id]
        access = simulation.access.store(simulation.connection(connection))
        (found,) = REGISTRY[platform].fetch_orders(access, [str(order.id)])
        payloads[platform, "api"] = json.loads(found.raw)  # type: ignore[union-attr]
        if platform != "etsy":
            payloads[platform, "webhook"] = json.loads(hooks[-1].body)
    return payloads


READ: dict[tuple[str, Kind], list[tuple[str, Any]]] = {
    ("woocommerce", "webhook"): [
        ("status", "on-hold"), ("currency", "CHF"), ("total", "1.23"), ("discount_total", "1.23"),
        ("shipping_total", "1.23"), ("total_tax", "1.23"), ("prices_include_tax", True), ("number", "x1"),
        ("date_created_gmt", "2020-01-01T00:00:00"), ("date_paid_gmt", "2020-01-01T00:00:00"),
        ("date_completed_gmt", "2020-01-01T00:00:00"), ("created_via", "other"), ("payment_method_title", "Barter"),
        ("customer_note", "other"), ("customer_id", 99_999), ("billing.first_name", "Other"),
        ("billing.email", "other@example.test"), ("billing.phone", "1"), ("billing.city", "Other"),
        ("billing.company", "Other"), ("shipping.address_1", "Other"), ("shipping.postcode", "1"),
        ("line_items.0.name", "Other"), ("line_items.0.sku", "OTHER"), ("line_items.0.quantity", 77),
        ("line_items.0.total", "1.23"), ("line_items.0.subtotal", "77.77"), ("line_items.0.total_tax", "1.23"),
        ("line_items.0.product_id", 77), ("refunds.0.total", "-1.23"), ("refunds.0.reason", "other"),
        ("shipping_lines.0.method_title", "Other"), ("coupon_lines.0.code", "other"),
    ],
    ("shopify", "webhook"): [
        ("name", "#x1"), ("created_at", "2020-01-01T00:00:00Z"), ("cancelled_at", "2020-01-01T00:00:00Z"),
        ("closed_at", "2020-01-01T00:00:00Z"), ("cancel_reason", "fraud"), ("test", True),
        ("financial_status", "voided"), ("fulfillment_status", "restocked"), ("currency", "CHF"),
        ("taxes_included", True), ("source_name", "other"), ("tags", "other"), ("note", "other"),
        ("email", "other@example.test"), ("phone", "1"), ("payment_gateway_names", ["barter"]),
        ("discount_codes.0.code", "other"), ("subtotal_price", "1.23"), ("total_price", "1.23"),
        ("total_tax", "1.23"), ("total_discounts", "1.23"), ("current_total_price", "1.23"),
        ("total_shipping_price_set.shop_money.amount", "1.23"), ("billing_address.city", "Other"),
        ("shipping_address.zip", "1"), ("shipping_address.name", "Other"), ("line_items.0.title", "Other"),
        ("line_items.0.sku", "OTHER"), ("line_items.0.quantity", 77), ("line_items.0.current_quantity", 77),
        ("line_items.0.price", "77.77"), ("line_items.0.total_discount", "1.23"),
        ("line_items.0.requires_shipping", False), ("line_items.0.variant_title", "Other"),
        ("fulfillments.0.status", "error"), ("fulfillments.0.tracking_number", "OTHER"),
        ("fulfillments.0.tracking_company", "Other"), ("refunds.0.transactions.0.amount", "1.23"),
    ],
    ("shopify", "api"): [
        ("name", "#x1"), ("createdAt", "2020-01-01T00:00:00Z"), ("cancelledAt", "2020-01-01T00:00:00Z"),
        ("closedAt", "2020-01-01T00:00:00Z"), ("cancelReason", "FRAUD"), ("test", True),
        ("displayFinancialStatus", "VOIDED"), ("displayFulfillmentStatus", "RESTOCKED"), ("currencyCode", "CHF"),
        ("taxesIncluded", True), ("sourceName", "other"), ("tags", ["other"]), ("note", "other"),
        ("email", "other@example.test"), ("phone", "1"), ("paymentGatewayNames", ["barter"]),
        ("discountCodes", ["other"]), ("subtotalPriceSet.shopMoney.amount", "1.23"),
        ("totalPriceSet.shopMoney.amount", "1.23"), ("totalTaxSet.shopMoney.amount", "1.23"),
        ("totalDiscountsSet.shopMoney.amount", "1.23"), ("totalShippingPriceSet.shopMoney.amount", "1.23"),
        ("totalRefundedSet.shopMoney.amount", "1.23"), ("currentTotalPriceSet.shopMoney.amount", "1.23"),
        ("billingAddress.city", "Other"), ("shippingAddress.zip", "1"), ("shippingAddress.name", "Other"),
        ("lineItems.nodes.0.title", "Other"), ("lineItems.nodes.0.sku", "OTHER"), ("lineItems.nodes.0.quantity", 77),
        ("lineItems.nodes.0.currentQuantity", 77), ("lineItems.nodes.0.originalUnitPriceSet.shopMoney.amount", "77.77"),
        ("lineItems.nodes.0.totalDiscountSet.shopMoney.amount", "1.23"),
        ("lineItems.nodes.0.requiresShipping", False), ("lineItems.nodes.0.variantTitle", "Other"),
        ("fulfillments.0.status", "ERROR"), ("fulfillments.0.trackingInfo.0.number", "OTHER"),
        ("fulfillments.0.trackingInfo.0.company", "Other"),
    ],
    ("etsy", "api"): [
        ("status", "Canceled"), ("is_shipped", False), ("created_timestamp", 1_600_000_000),
        ("grandtotal.amount", 123), ("subtotal.amount", 123), ("discount_amt.amount", 123),
        ("total_shipping_cost.amount", 123), ("total_tax_cost.amount", 123), ("payment_method", "barter"),
        ("name", "Other"), ("first_line", "Other"), ("city", "Other"), ("zip", "1"), ("country_iso", "XX"),
        ("message_from_buyer", "other"), ("gift_message", "other"), ("transactions.0.title", "Other"),
        ("transactions.0.quantity", 77), ("transactions.0.price.amount", 7777), ("transactions.0.sku", "OTHER"),
        ("transactions.0.listing_id", 77), ("refunds.0.amount.amount", 123),
        ("shipments.0.tracking_code", "OTHER"), ("shipments.0.carrier_name", "Other"),
    ],
}  # fmt: skip
READ["woocommerce", "api"] = READ["woocommerce", "webhook"]


def _set(payload: Any, path: str, value: Any) -> None:
    *way, last = path.split(".")
    for step in way:
        payload = payload[int(step)] if step.isdigit() else payload[step]
    before = payload[int(last)] if last.isdigit() else payload.get(last)
    if isinstance(before, bool):
        value = not before
    assert before != value, f"{path} is {value!r} already: choose another value"
    payload[last] = value


def test_each_field_that_is_read_changes_the_digest_in_each_shape(simulation: Simulation) -> None:
    unread = []
    for (platform, kind), payload in _payloads(simulation).items():
        normalise = REGISTRY[platform].normalise
        before = _digests(normalise(payload, kind=kind))
        assert _digests(normalise(copy.deepcopy(payload), kind=kind)) == before
        for path, value in READ[platform, kind]:
            changed = copy.deepcopy(payload)
            _set(changed, path, value)
            if _digests(normalise(changed, kind=kind)) == before:
                unread.append(f"{platform} {kind}: {path}")

    assert unread == []


def test_etsys_payment_is_told_by_is_paid_until_a_refund_says_more(simulation: Simulation) -> None:
    payload = {**_payloads(simulation)["etsy", "api"], "status": "Paid"}
    normalise = REGISTRY["etsy"].normalise

    paid = [normalise({**payload, "is_paid": value}).core.payment_status for value in (True, False)]

    assert paid == ["paid", "pending"]


def test_what_is_unknown_to_us_changes_nothing(simulation: Simulation) -> None:
    for (platform, kind), payload in _payloads(simulation).items():
        more = {**payload, "a_field_of_next_year": {"x": [1]}}

        assert REGISTRY[platform].normalise(more, kind=kind) == REGISTRY[platform].normalise(payload, kind=kind)


def test_a_part_that_was_not_granted_is_not_there(simulation: Simulation) -> None:
    for (platform, kind), payload in _payloads(simulation).items():
        order = REGISTRY[platform].normalise(payload, kind=kind, granted=("core",))

        assert order.person is None
        assert order.core == REGISTRY[platform].normalise(payload, kind=kind).core
