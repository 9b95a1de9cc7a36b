"""The simulated Shopify's webhooks: headers, signature, retries, and one state in two spellings."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from typing import Any

from gateway.sandbox.shopify import RETRY_SECONDS, sign
from gateway.sandbox.world import World
from tests.sandbox.conftest import FIXTURES, Clock, Shopify

LEAN = (FIXTURES / "shopify" / "lean.graphql").read_text()
SAMPLE = json.loads((FIXTURES / "shopify" / "webhook_orders_sample_820982911946154508.json").read_text())
REST = json.loads((FIXTURES / "shopify" / "rest_order_450789469_2026-07.json").read_text())


def test_signatures_are_the_official_libraries_own() -> None:
    vectors = json.loads((FIXTURES / "shopify" / "hmac_vectors.json").read_text())

    for each in vectors:
        if each["kind"] == "webhook":
            assert sign(each["secret"], each["body"].encode()) == each["hmac_b64"]


def test_an_order_is_told_by_two_topics_of_one_event(shopify: Shopify, world: World) -> None:
    order = shopify.store.place()

    created, updated = world.collect()

    assert (created.topic, updated.topic) == ("orders/create", "orders/updated")
    assert created.url == "http://gateway.test/webhooks/shopify"
    assert created.header("X-Shopify-Hmac-Sha256") == sign(world.shopify_app.client_secret, created.body)
    assert created.header("X-Shopify-Topic") == "orders/create"
    assert created.header("X-Shopify-Shop-Domain") == "fern-and-clay.myshopify.com"
    assert created.header("X-Shopify-API-Version") == "2026-10"
    assert created.header("X-Shopify-Triggered-At") == "2026-11-24T09:30:00.000000000Z"
    assert created.header("X-Shopify-Event-Id") == updated.header("X-Shopify-Event-Id")
    assert created.header("X-Shopify-Webhook-Id") != updated.header("X-Shopify-Webhook-Id")
    assert created.header("X-Shopify-Order-Id") == str(order.id)


def test_the_body_has_the_samples_keys(shopify: Shopify) -> None:
    order = shopify.store.place(lines=2, coupon=True)
    shopify.store.change(order.id, "ship_part")
    shopify.store.change(order.id, "refund")

    ours = shopify.store.render(order)

    # The sample is of an older version: checkout_id left order webhooks with 2026-04 (sheet section 3).
    assert set(ours) == set(SAMPLE) - {"checkout_id"}
    assert set(ours["line_items"][0]) == set(SAMPLE["line_items"][0]) | {"selling_plan_id"}
    assert set(ours["shipping_address"]) == set(SAMPLE["shipping_address"])
    rest = REST.get("order", REST)
    assert set(ours["refunds"][0]) == set(rest["refunds"][0])
    assert set(ours["refunds"][0]["refund_line_items"][0]) == set(rest["refunds"][0]["refund_line_items"][0])
    assert set(ours["fulfillments"][0]) == set(rest["fulfillments"][0])


def test_times_have_the_shops_offset(shopify: Shopify, clock: Clock) -> None:
    clock.at = datetime.fromisoformat("2026-07-01T12:00:00+00:00")

    order = shopify.store.place()

    assert shopify.store.render(order)["created_at"] == "2026-07-01T13:00:00+01:00"


def test_a_retry_has_the_first_body_and_headers_after_growing_pauses(
    shopify: Shopify, world: World, clock: Clock
) -> None:
    order = shopify.store.place()
    first = world.collect()[0]
    world.record(first, 503)
    shopify.store.change(order.id, "note", quiet=True)
    attempts = []
    for pause in RETRY_SECONDS:
        assert world.collect() == []
        clock.move(pause)
        (again,) = world.collect()
        attempts.append(again)
        world.record(again, None)
    clock.move(10**6)

    assert {(each.body, tuple(each.headers)) for each in attempts} == {(first.body, tuple(first.headers))}
    assert [each.attempt for each in attempts] == [2, 3, 4, 5, 6, 7, 8, 9]
    assert sum(RETRY_SECONDS) == 4 * 3600
    assert world.collect() == []


def test_an_api_made_subscription_is_removed_after_eight_failures(shopify: Shopify, world: World, clock: Clock) -> None:
    mutation = """mutation{webhookSubscriptionCreate(topic:ORDERS_UPDATED,
      webhookSubscription:{uri:"https://other.test/h",name:"n1"}){webhookSubscription{id}}}"""
    shopify.data(mutation)
    order = shopify.store.place(quiet=True)
    for _ in range(8):
        assert shopify.store.subscriptions
        shopify.store.change(order.id, "note")
        for request in world.collect():
            mine = request.url == "https://other.test/h"
            assert (request.header("X-Shopify-Name") == "n1") is mine
            world.record(request, 500 if mine else 200)

    assert shopify.store.subscriptions == {}


def test_a_deletion_tells_the_id_only(shopify: Shopify, world: World) -> None:
    order = shopify.store.place(quiet=True)
    shopify.store.change(order.id, "delete")

    (request,) = world.collect()

    assert (request.topic, json.loads(request.body)) == ("orders/delete", {"id": order.id})


def test_an_uninstalled_app_has_no_token_when_it_hears_of_it(shopify: Shopify, world: World) -> None:
    token = shopify.store.access_tokens[-1].value
    shopify.store.uninstall()

    (request,) = world.collect()

    assert request.topic == "app/uninstalled"
    assert json.loads(request.body)["myshopify_domain"] == "fern-and-clay.myshopify.com"
    assert shopify.call("{shop{id}}", token=token).status_code == 401


def test_without_protected_data_the_person_is_null(shopify: Shopify) -> None:
    order = shopify.store.place()
    shopify.store.protected_data = 0

    body = shopify.store.render(order)

    assert (body["email"], body["customer"], body["shipping_address"]) == (None, None, None)


def _money(node: dict[str, Any]) -> Decimal:
    return Decimal(node["shopMoney"]["amount"])


def test_both_spellings_are_about_one_state(shopify: Shopify, clock: Clock) -> None:
    """The sheet's field map (section 5.5), after edits, refunds, shipping and cancelling."""
    store = shopify.store
    plans = (
        ["edit", "ship"], ["ship_part", "refund"], ["refund", "refund"], ["cancel"], ["note", "address", "status"], [],
    )  # fmt: skip
    for plan in plans:
        order = store.place(lines=3, currency="JPY" if "note" in plan else None, paid="cancel" not in plan)
        for kind in plan:
            clock.move(7)
            store.change(order.id, kind)
    store.place(guest=True)
    removed = store.place(lines=1)
    removed.shipping_title, removed.shipping_price, removed.shipping_removed = "Tracked", 350, True
    removed.version += 1

    nodes = shopify.data(LEAN, first=50, query="", lines=10)["orders"]["nodes"]

    assert len(nodes) == 8
    for node in nodes:
        body = store.render(store.orders[int(node["legacyResourceId"])])
        assert datetime.fromisoformat(node["updatedAt"]) == datetime.fromisoformat(body["updated_at"])
        assert (node["name"], node["number"]) == (body["name"], body["order_number"])
        assert node["displayFinancialStatus"].lower() == body["financial_status"]
        fulfillment = {"FULFILLED": "fulfilled", "PARTIALLY_FULFILLED": "partial"}.get(node["displayFulfillmentStatus"])
        assert fulfillment == body["fulfillment_status"]
        assert (node["cancelReason"] or "").lower() == (body["cancel_reason"] or "")
        assert ", ".join(node["tags"]) == body["tags"]
        assert (node["note"], node["email"]) == (body["note"], body["email"] or None)
        assert _money(node["totalPriceSet"]) == Decimal(body["total_price"])
        assert _money(node["currentTotalPriceSet"]) == Decimal(body["current_total_price"])
        assert _money(node["totalTaxSet"]) == Decimal(body["total_tax"])
        assert _money(node["totalDiscountsSet"]) == Decimal(body["total_discounts"])
        assert _money(node["totalShippingPriceSet"]) == Decimal(
            body["total_shipping_price_set"]["shop_money"]["amount"]
        )
        presentment = body["total_price_set"]["presentment_money"]
        assert Decimal(node["totalPriceSet"]["presentmentMoney"]["amount"]) == Decimal(presentment["amount"])
        refunded = sum(Decimal(t["amount"]) for refund in body["refunds"] for t in refund["transactions"])
        assert _money(node["totalRefundedSet"]) == refunded
        for ours, theirs in zip(node["lineItems"]["nodes"], body["line_items"], strict=True):
            assert ours["id"] == theirs["admin_graphql_api_id"]
            assert (ours["quantity"], ours["currentQuantity"]) == (theirs["quantity"], theirs["current_quantity"])
            assert _money(ours["originalUnitPriceSet"]) == Decimal(theirs["price"])
            assert (ours["title"], ours["variantTitle"], ours["sku"]) == (
                theirs["title"],
                theirs["variant_title"],
                theirs["sku"],
            )
        live = [each for each in body["shipping_lines"] if not each["is_removed"]]
        assert (node["shippingLine"] is None) is (live == [])
        address = body["shipping_address"]
        assert (node["shippingAddress"] is None) is (address is None)
        if address is not None:
            assert node["shippingAddress"]["address2"] == (address["address2"] or None)
            assert node["shippingAddress"]["countryCodeV2"] == address["country_code"]
        assert len(node["fulfillments"]) == len(body["fulfillments"])
