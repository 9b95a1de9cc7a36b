"""The control API and the page: what others rely on, and that only this machine and our own page may use them."""

from __future__ import annotations

from typing import Any

import pytest
from werkzeug.test import Client

from gateway.sandbox.world import World
from tests.sandbox.conftest import Clock, Etsy, Shopify, Woo

HERE = "http://127.0.0.1:8001"


def _post(client: Client, path: str, body: Any = None, **headers: str) -> Any:
    return client.post(f"/sandbox/api/{path}", json=body if body is not None else {}, base_url=HERE, headers=headers)


def _get(client: Client, path: str) -> Any:
    return client.get(f"/sandbox/api/{path}", base_url=HERE)


def test_the_overview_has_what_a_gateway_must_be_told(
    client: Client, world: World, woo: Woo, shopify: Shopify, etsy: Etsy
) -> None:
    told = _get(client, "stores").json

    assert set(told["settings"]) == {
        "SHOPIFY_CLIENT_ID", "SHOPIFY_CLIENT_SECRET", "SHOPIFY_ADMIN_URL", "ETSY_KEYSTRING", "ETSY_SHARED_SECRET",
        "ETSY_WEBHOOK_SECRETS", "ETSY_API_URL", "ETSY_CONNECT_URL",
    }  # fmt: skip
    assert told["settings"]["SHOPIFY_ADMIN_URL"] == "http://sandbox.test/shopify/{shop}/admin"
    assert told["settings"]["ETSY_API_URL"] == "http://sandbox.test/etsy/v3"
    first, second, third = told["stores"]
    assert first["credentials"] == {
        "consumer_key": woo.store.consumer_key,
        "consumer_secret": woo.store.consumer_secret,
    }
    assert first["url"] == "http://sandbox.test/woocommerce/fernandclay"
    assert set(second["credentials"]) == {"access_token", "refresh_token", "expires_in", "scope"}
    assert isinstance(second["shop_id"], int)
    assert second["domain"] == "fern-and-clay.myshopify.com"
    assert {"access_token", "refresh_token", "user_id", "shop_id"} <= set(third["credentials"])
    for store in told["stores"]:
        assert {"platform", "name", "shop_id", "domain", "url", "time_zone", "currency", "credentials"} == set(store)


def test_orders_are_placed_and_changed_and_the_truth_is_told(client: Client, woo: Woo, clock: Clock) -> None:
    placed = _post(client, "stores/woocommerce/fernandclay/orders", {"lines": 2}).json["order_id"]
    many = _post(client, "stores/woocommerce/fernandclay/orders", {"count": 3}).json["order_ids"]
    clock.move(5)
    changed = _post(client, "stores/woocommerce/fernandclay/change", {"order_id": placed, "kind": "edit"}).json
    again = _post(client, "stores/woocommerce/fernandclay/change", {"order_id": placed, "kind": "pay"})
    somewhere = _post(client, "stores/woocommerce/fernandclay/change").json

    truth = {each["id"]: each for each in _get(client, "stores/woocommerce/fernandclay/truth").json["orders"]}

    assert changed == {"order_id": placed, "updated_at": "2026-11-24T09:30:05+00:00"}
    assert (again.status_code, again.json) == (409, {"error": "it is paid already"})
    assert somewhere["order_id"] in truth
    assert set(truth) == {placed, *many}
    assert truth[placed]["order"] == woo.get(f"/orders/{placed}").json


def test_stores_are_opened_and_filled_over_days(client: Client, world: World, clock: Clock) -> None:
    made = _post(client, "stores", {"platform": "shopify", "key": "b.myshopify.com", "currency": "JPY"})
    placed = _post(client, "stores/shopify/b.myshopify.com/orders", {"count": 5, "over_days": 8, "quiet": True}).json
    again = _post(client, "stores", {"platform": "shopify", "key": "b.myshopify.com"})

    assert (made.status_code, made.json["currency"]) == (201, "JPY")
    store = world.of("shopify")[0]
    ages = [(store.second() - store.orders[each].created) // 86400 for each in placed["order_ids"]]
    assert ages == [8, 6, 4, 2, 0]
    assert again.status_code == 400
    assert world.collect() == []


def test_faults_and_the_clock_are_set(client: Client, woo: Woo) -> None:
    set_ = _post(client, "stores/woocommerce/fernandclay/faults", {"lose": 2, "slow_seconds": 0.5}).json
    cleared = _post(client, "stores/woocommerce/fernandclay/faults", {"clear": True}).json
    wrong = _post(client, "stores/woocommerce/fernandclay/faults", {"burn": 1})
    clock = _post(client, "stores/woocommerce/fernandclay/clock", {"skew_seconds": 90}).json

    assert (set_["lose"], set_["slow_seconds"]) == (2, 0.5)
    assert not any(cleared.values())
    assert wrong.status_code == 400
    assert clock == {"now": "2026-11-24T09:31:30+00:00", "skew_seconds": 90.0}


def test_the_log_tells_each_delivery(client: Client, shopify: Shopify, world: World) -> None:
    shopify.store.place()
    created, updated = world.collect()
    world.record(created, 200)
    world.record(updated, None)

    log = _get(client, "stores/shopify/fern-and-clay.myshopify.com/log").json
    flushed = _post(client, "stores/shopify/fern-and-clay.myshopify.com/flush").json

    assert log["counts"] == {"sent": 1, "failed": 1, "lost": 0, "pings": 0}
    assert [each["topic"] for each in log["deliveries"]] == ["orders/create", "orders/updated"]
    assert [each["status"] for each in log["deliveries"]] == [200, None]
    assert ["X-Shopify-Topic", "orders/create"] in log["deliveries"][0]["headers"]
    assert flushed == {"sent": 1, "failed": 1, "lost": 0, "pings": 0, "waiting": 0}


def test_retries_can_be_made_due_now(client: Client, shopify: Shopify, world: World) -> None:
    shopify.store.place()
    for request in world.collect():
        world.record(request, 503)
    assert world.collect() == []

    _post(client, "stores/shopify/fern-and-clay.myshopify.com/flush", {"retry_now": True})

    assert [each.attempt for each in world.collect()] == [2, 2]


def test_tokens_expire_and_switches_are_set(client: Client, etsy: Etsy, shopify: Shopify, world: World) -> None:
    _post(client, f"stores/etsy/{etsy.store.key}/tokens", {"do": "expire"})
    assert etsy.get("/users/me").json["error_description"] == "access token is expired"
    _post(client, f"stores/etsy/{etsy.store.key}/options", {"refund_moves_time": False, "per_second": 1})
    assert (etsy.store.refund_moves_time, world.etsy_app.per_second) == (False, 1)

    _post(client, "stores/shopify/fern-and-clay.myshopify.com/options", {"scopes": ["read_orders"]})
    (request,) = world.collect()
    assert request.topic == "app/scopes_update"
    assert _post(client, "stores/shopify/fern-and-clay.myshopify.com/options", {"x": 1}).status_code == 400


def test_a_customers_erasure_names_all_their_orders(client: Client, shopify: Shopify, world: World) -> None:
    order = shopify.store.place(quiet=True)
    body = {"topic": "customers/redact", "order_id": order.id}

    told = _post(client, "stores/shopify/fern-and-clay.myshopify.com/privacy", body).json

    (request,) = world.collect()
    assert request.topic == "customers/redact"
    assert told["orders_to_redact"] == [order.id]
    assert set(told) == {"shop_id", "shop_domain", "customer", "orders_to_redact"}


def test_unknown_stores_and_actions_are_404(client: Client, woo: Woo) -> None:
    assert _get(client, "stores/woocommerce/other/truth").status_code == 404
    assert _get(client, "stores/woocommerce/fernandclay/nothing").status_code == 404
    assert _get(client, "stores/woocommerce/fernandclay/orders").status_code == 405


@pytest.mark.parametrize("path", ["/", "/sandbox"])
def test_the_page_shows_stores_and_three_buttons_without_script(
    client: Client, woo: Woo, etsy: Etsy, path: str
) -> None:
    woo.store.place()

    page = client.get(path, base_url=HERE)

    assert page.status_code == 200
    assert "script" not in page.text.lower()
    for text in ("Place an order", "Change one", "Lose the next webhook"):
        assert page.text.count(text) == 2
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self'")
    assert client.get("/sandbox/style.css", base_url=HERE).mimetype == "text/css"


def test_the_buttons_do_what_they_say(client: Client, woo: Woo) -> None:
    def press(button: str) -> str:
        form = {"platform": "woocommerce", "key": "fernandclay", "do": button}
        answer = client.post("/sandbox/do", data=form, base_url=HERE, headers={"Origin": HERE})
        assert (answer.status_code, answer.headers["Location"]) == (303, "/sandbox")
        return client.get("/sandbox", base_url=HERE).text

    assert "nothing was changed, there is no order to change; place one first." in press("change")
    assert "WooCommerce: order 1401 was placed." in press("place")
    assert "WooCommerce: order 1401 was changed." in press("change")
    assert "Going wrong: lose 1" in press("lose")
    assert woo.store.faults.lose == 1
    assert "WooCommerce: the next 2 webhooks will be lost on their way." in press("lose")


def test_what_a_store_is_called_is_escaped(client: Client, world: World) -> None:
    world.add_store("woocommerce", name="<script>alert(1)</script>")

    assert "<script>" not in client.get("/", base_url=HERE).text


def test_other_sites_and_other_names_are_refused(client: Client, woo: Woo) -> None:
    foreign = {"Origin": "https://evil.example"}

    form = client.post("/sandbox/do", data={"do": "place"}, base_url=HERE, headers=foreign)
    api = _post(client, "stores/woocommerce/fernandclay/orders", {}, **foreign)
    rebound = client.get("/sandbox/api/stores", base_url="http://evil.example:8001")

    assert (form.status_code, api.status_code, rebound.status_code) == (403, 403, 403)
    assert woo.store.orders == {}
