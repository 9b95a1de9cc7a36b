"""What the simulated WooCommerce writes, held against captures of a real one (11.0.1)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.sandbox import woocommerce_shapes as shapes
from gateway.sandbox.woocommerce import sign
from tests.sandbox.conftest import Clock, Woo, captured

KEY_LIKE = {"meta_data"}  # lists of free content: only their elements' shape counts


def _differences(ours: Any, real: Any, at: str = "") -> list[str]:
    """Where two JSON values differ in keys, their order, or types; null matches anything, int matches float."""
    if ours is None or real is None:
        return []
    numbers = (int, float)
    if isinstance(real, bool) or not isinstance(real, numbers):
        if type(ours) is not type(real):
            return [f"{at}: {type(ours).__name__} instead of {type(real).__name__}"]
    elif not isinstance(ours, numbers) or isinstance(ours, bool):
        return [f"{at}: {type(ours).__name__} instead of a number"]
    if isinstance(real, dict):
        if list(ours) != list(real):
            return [f"{at}: keys {list(ours)} instead of {list(real)}"]
        return [each for key in real for each in _differences(ours[key], real[key], f"{at}.{key}")]
    if isinstance(real, list) and real and ours:
        return [each for item in ours for each in _differences(item, real[0], f"{at}[]")]
    return []


@pytest.mark.parametrize("capture", ["plain-rest", "coupon-fee-rest", "refunded-rest", "meta-rest"])
def test_an_order_has_the_captured_keys_order_and_types(woo: Woo, capture: str) -> None:
    order = woo.store.place(lines=2, coupon=True, note="hello")
    order.shipping_title, order.shipping_price = "Flat rate", 500
    order.fee_id, order.fee_title, order.fee = 99, "Gift wrap", 450
    order.attributes.append(["gift", "yes"])
    order.lines[0].properties = [["Engraving", "A&B"]]
    woo.store.change(order.id, "ship")
    woo.store.change(order.id, "refund")

    ours = woo.store.render(order)

    real = json.loads(captured(capture)[1])
    real["meta_data"] = [each for each in real["meta_data"] if isinstance(each["value"], str)]
    assert _differences(ours, real) == []


def test_refunds_have_the_captured_shape_and_newest_comes_first(woo: Woo, clock: Clock) -> None:
    order = woo.store.place(lines=2)
    woo.store.change(order.id, "refund")
    clock.move(5)
    woo.store.change(order.id, "refund")

    ours = woo.get(f"/orders/{order.id}/refunds").json

    real = json.loads(captured("refunds")[1])
    assert _differences(ours[0], real[0]) == []
    assert _differences(ours[1], real[1]) == []
    assert [each["id"] for each in ours] == [order.refunds[1].id, order.refunds[0].id]
    assert woo.get(f"/orders/{order.id}").json["status"] == "refunded"


def test_bytes_are_escaped_as_php_does(woo: Woo) -> None:
    order = woo.store.place(note="🎁 مرحبا <b>\u2028/end")

    body = woo.store.body_of(order)

    assert rb'"customer_note":"\ud83c\udf81 \u0645\u0631\u062d\u0628\u0627 <b>\u2028\/end"' in body
    real = captured("meta-rest")[1]
    assert shapes.encode(json.loads(real)) == real


def test_price_is_a_float_that_is_not_to_be_trusted(woo: Woo) -> None:
    order = woo.store.place(lines=1, coupon=False)
    line = order.lines[0]
    line.quantity, line.unit, line.discount = 3, 334, 2
    order.version += 1

    assert b'"price":3.3333333333333335,' in woo.store.body_of(order)


def test_decimals_follow_the_store_and_not_the_currency(woo: Woo) -> None:
    order = woo.store.place(currency="JPY", lines=1, coupon=False)
    order.lines[0].unit, order.lines[0].quantity, order.version = 1200, 1, 5

    assert woo.store.render(order)["line_items"][0]["total"] == "1200.00"
    woo.store.decimals = 0
    assert woo.store.render(order)["line_items"][0]["total"] == "1200"
    assert woo.store.render(order)["currency_symbol"] == "¥"


def test_an_edit_takes_the_line_away_and_the_store_clock_gives_local_times(woo: Woo, clock: Clock) -> None:
    order = woo.store.place(lines=2)
    clock.move(3)
    woo.store.change(order.id, "edit")

    shown = woo.get(f"/orders/{order.id}").json

    assert len(shown["line_items"]) == 1
    assert shown["date_modified"] == "2026-11-24T04:30:03"
    assert shown["date_modified_gmt"] == "2026-11-24T09:30:03"


def test_signature_decodes_entities_in_the_secret_first() -> None:
    assert sign("a&amp;b", b"{}") == sign("a&b", b"{}")


def test_signature_is_the_captured_ones() -> None:
    head, body = captured("plain-webhook")
    headers = dict(head["headers"])

    ours = sign("GoldenPairsSecret0123456789abcdefGoldenPairs012345", body)

    assert ours == headers["X-WC-Webhook-Signature"]
