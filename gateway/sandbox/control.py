"""The sandbox's own JSON API: what a platform's owner, its customers and its bad days would do, and the truth."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from werkzeug.wrappers import Request, Response

from gateway.sandbox.changes import ChangeRefused
from gateway.sandbox.etsy import EtsyStore
from gateway.sandbox.shopify import ShopifyStore
from gateway.sandbox.stores import Store
from gateway.sandbox.woocommerce import WooStore
from gateway.sandbox.world import World

FLUSH_SECONDS = 30.0


class Refused(Exception):
    """An answer {"error": text}."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def answer(world: World, request: Request, path: str) -> Response:
    """Answer one call below /sandbox/api/; path is what follows."""
    try:
        if path == "stores" and request.method == "POST":
            given = _given(request)
            made = world.add_store(str(given.pop("platform")), given.pop("key", None), **given)
            return _json(made.describe(), 201)
        if path == "stores":
            return _json(overview(world))
        match = re.fullmatch(r"stores/([a-z]+)/([^/]+)/(\w+)", path)
        if match is None:
            raise Refused(404, "there is nothing at this address")
        platform, key, action = match.groups()
        store = world.store(platform, key)
        if store is None:
            known = ", ".join("/".join(each) for each in world.stores)
            raise Refused(404, f"there is no store {platform}/{key}; there are: {known}")
        if request.method == "GET" and action in _READ:
            return _json(_READ[action](store))
        if request.method == "POST" and action in _WRITE:
            given = _given(request)
            return _json(_WRITE[action](store, given))
        raise Refused(405 if action in _READ or action in _WRITE else 404, f"{request.method} {action} is not known")
    except Refused as refused:
        return _json({"error": str(refused)}, refused.status)
    except ChangeRefused as refused:
        return _json({"error": str(refused)}, 409)
    except (ValueError, TypeError, KeyError) as wrong:
        return _json({"error": str(wrong)}, 400)


def overview(world: World) -> dict[str, Any]:
    """What a gateway must be told to work with the simulated platforms."""
    with world.lock:
        return {
            "settings": {
                "SHOPIFY_CLIENT_ID": world.shopify_app.client_id,
                "SHOPIFY_CLIENT_SECRET": world.shopify_app.client_secret,
                "SHOPIFY_ADMIN_URL": world.base_url + "/shopify/{shop}/admin",
                "ETSY_KEYSTRING": world.etsy_app.keystring,
                "ETSY_SHARED_SECRET": world.etsy_app.shared_secret,
                "ETSY_WEBHOOK_SECRETS": world.etsy_app.webhook_secret,
                "ETSY_API_URL": world.base_url + "/etsy/v3",
                "ETSY_CONNECT_URL": world.base_url + "/etsy/oauth/connect",
            },
            "stores": [store.describe() for store in world.stores.values()],
        }


def _given(request: Request) -> dict[str, Any]:
    body = request.get_data()
    given = json.loads(body) if body else {}
    if not isinstance(given, dict):
        raise Refused(400, "the body must be a JSON object")
    return given


def _json(value: Any, status: int = 200) -> Response:
    body = json.dumps(value, ensure_ascii=False)
    return Response(body, status=status, headers={"Content-Type": "application/json", "Cache-Control": "no-store"})


def _truth(store: Store) -> dict[str, Any]:
    return {"now": store.now().isoformat(), "orders": store.truth()}


def _log(store: Store) -> dict[str, Any]:
    with store.world.lock:
        return {"counts": counts(store), "deliveries": list(store.log)}


def counts(store: Store) -> dict[str, int]:
    """Attempts so far by what became of them."""
    return {name: store.counts[name] for name in ("sent", "failed", "lost", "pings")}


def _place(store: Store, given: dict[str, Any]) -> dict[str, Any]:
    """{"count": n, "over_days": d} places n at even distances up to now; "quiet" tells nobody."""
    count = int(given.pop("count", 1))
    if not 1 <= count <= 10_000:
        raise Refused(400, "count must be 1 to 10000")
    if "person" in given:
        first, last = given["person"]
        given["person"] = (str(first), str(last))
    span = timedelta(days=float(given.pop("over_days", 0)))
    ages = [span * (count - 1 - index) / max(count - 1, 1) for index in range(count)]
    now = store.now()
    placed = [store.place(at=now - age if age else None, **given) for age in ages]
    return {"order_id": placed[-1].id, "order_ids": [order.id for order in placed]}


def _change(store: Store, given: dict[str, Any]) -> dict[str, Any]:
    order_id = given.pop("order_id", None)
    order = store.change(int(order_id) if order_id is not None else None, given.pop("kind", None), **given)
    return {"order_id": order.id, "updated_at": store.utc(order.updated).isoformat()}


def _faults(store: Store, given: dict[str, Any]) -> dict[str, Any]:
    with store.world.lock:
        store.faults.set(given)
        store.world.revision += 1
        return store.faults.as_json()


def _clock(store: Store, given: dict[str, Any]) -> dict[str, Any]:
    with store.world.lock:
        store.skew = timedelta(seconds=float(given["skew_seconds"])) if "skew_seconds" in given else store.skew
        store.world.revision += 1
    return {"now": store.now().isoformat(), "skew_seconds": store.seconds_offset}


def _flush(store: Store, given: dict[str, Any]) -> dict[str, Any]:
    """Wait until everything due was attempted; {"retry_now": true} makes retries and delayed ones due first."""
    world = store.world
    with world.lock:
        for each in world.queue:
            if each.held_until and (each.platform, each.store) == (store.platform, store.key):
                each.held_until = world.now().timestamp()
    if given.get("retry_now"):
        world.retry_now(store)
    world.wake()
    until = time.monotonic() + float(given.get("timeout_seconds", FLUSH_SECONDS))
    while world.send_now is not None and world.waiting(store) and time.monotonic() < until:
        time.sleep(0.02)
    return {**counts(store), "waiting": world.waiting(store)}


def _tokens(store: Store, given: dict[str, Any]) -> dict[str, Any]:
    """{"do": "expire" | "revoke" | "renew"}: what happens to credentials without the gateway doing anything."""
    wanted = given.get("do")
    with store.world.lock:
        if wanted == "expire" and isinstance(store, ShopifyStore | EtsyStore):
            store.expire_access_tokens()
        elif wanted == "revoke" and isinstance(store, EtsyStore):
            store.revoke()
        elif wanted == "revoke" and isinstance(store, ShopifyStore):
            store.uninstall()
        elif wanted == "renew" and isinstance(store, ShopifyStore):
            store.install()
        elif wanted == "renew" and isinstance(store, EtsyStore):
            store.new_tokens()
        else:
            raise Refused(400, 'do must be "expire", "revoke" or "renew", and WooCommerce has no tokens')
        return store.describe()


def _options(store: Store, given: dict[str, Any]) -> dict[str, Any]:
    """Switches of the platform: scopes, protected data, bucket, read delay, refunds that move no time."""
    names = {
        "refund_moves_time", "protected_data", "read_delay_seconds", "buyer_email_granted", "canceled_by_default",
        "bounds_inclusive", "bulk_orders_per_second",
        "notice_style",
        "decimals", "plugin_statuses", "strips_authorization", "caches_rest",
    }  # fmt: skip
    with store.world.lock:
        for name, value in given.items():
            if name == "scopes" and isinstance(store, ShopifyStore):
                store.grant_scopes([str(each) for each in value])
            elif name == "bucket_maximum" and isinstance(store, ShopifyStore):
                store.bucket.maximum = None if value is None else float(value)
            elif name == "restore_per_second" and isinstance(store, ShopifyStore):
                store.bucket.restore_per_second = float(value)
            elif name in ("per_second", "per_day") and isinstance(store, EtsyStore):
                setattr(store.world.etsy_app, name, None if value is None else int(value))
            elif name in names and hasattr(store, name):
                setattr(store, name, value)
            else:
                raise Refused(400, f"{store.platform} has no switch {name!r}")
        store.world.revision += 1
    return {"set": sorted(given)}


def _privacy(store: Store, given: dict[str, Any]) -> dict[str, Any]:
    """Send a Shopify compliance topic about an order's buyer; bodies as in samples/compliance_payloads.json."""
    if not isinstance(store, ShopifyStore):
        raise Refused(400, "only Shopify has compliance topics")
    topic = str(given.get("topic"))
    body: dict[str, Any] = {"shop_id": store.shop_id, "shop_domain": store.key}
    if topic in ("customers/redact", "customers/data_request"):
        order = store.orders[int(given["order_id"])]
        theirs = [each.id for each in store.orders.values() if each.customer_id == order.customer_id]
        body["customer"] = {"id": order.customer_id, "email": order.email, "phone": order.phone}
        if topic == "customers/redact":
            body["orders_to_redact"] = theirs
        else:
            body |= {"orders_requested": theirs, "data_request": {"id": 9999}}
    elif topic != "shop/redact":
        raise Refused(400, "topic must be customers/redact, customers/data_request or shop/redact")
    store.notify(topic, body)
    return body


def _webhooks(store: Store) -> dict[str, Any]:
    """The store's subscriptions with what the platform does not show: failures, whether a ping is pending."""
    if isinstance(store, WooStore):
        hidden = ("id", "topic", "delivery_url", "status", "failure_count", "pending_delivery")
        hooks = [{name: getattr(hook, name) for name in hidden} for hook in store.webhooks.values()]
    elif isinstance(store, ShopifyStore):
        hooks = [
            {"id": each.id, "topic": each.topic, "delivery_url": each.uri, "failure_count": each.failures}
            for each in store.subscriptions.values()
        ]
    else:
        hooks = []
    return {"webhooks": hooks}


_READ: dict[str, Callable[[Store], Any]] = {"truth": _truth, "log": _log, "webhooks": _webhooks}
_WRITE: dict[str, Callable[[Store, dict[str, Any]], Any]] = {
    "orders": _place, "change": _change, "faults": _faults, "clock": _clock, "flush": _flush, "tokens": _tokens,
    "options": _options, "privacy": _privacy,
}  # fmt: skip
