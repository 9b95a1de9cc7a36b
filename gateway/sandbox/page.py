"""The sandbox's page: the stores and three buttons, for a person who watches the product work."""

from __future__ import annotations

import functools
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from werkzeug.wrappers import Request, Response

from gateway.sandbox import shopify_oauth
from gateway.sandbox.changes import ChangeRefused
from gateway.sandbox.control import counts
from gateway.sandbox.shopify import ShopifyStore
from gateway.sandbox.stores import Store
from gateway.sandbox.world import World

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_HERE = Path(__file__).parent
_NAMES = {"shopify": "Shopify", "woocommerce": "WooCommerce", "etsy": "Etsy"}


@functools.cache
def _environment() -> Environment:
    return Environment(loader=FileSystemLoader(_HERE / "templates"), autoescape=True)


def answer(world: World, request: Request, path: str) -> Response:
    """GET / and /sandbox show the page; POST /sandbox/do presses a button and shows it again."""
    if path == "/sandbox/style.css":
        css = (_HERE / "static" / "style.css").read_text()
        return Response(css, mimetype="text/css", headers={"X-Content-Type-Options": "nosniff"})
    if path == "/sandbox/do" and request.method == "POST":
        press(world, request)
        return Response(status=303, headers={"Location": "/sandbox", **HEADERS})
    if path.startswith("/sandbox/install/"):
        store = world.store("shopify", path.removeprefix("/sandbox/install/"))
        if isinstance(store, ShopifyStore):  # signed when it is pressed: the signature holds for minutes only
            return Response(status=302, headers={"Location": shopify_oauth.app_url(store), **HEADERS})
    if path in ("/", "/sandbox", "/sandbox/") and request.method in ("GET", "HEAD"):
        return Response(_render(world), mimetype="text/html", headers=HEADERS)
    return Response("There is nothing at this address.\n", status=404, mimetype="text/plain", headers=HEADERS)


def press(world: World, request: Request) -> None:
    """Do what the button says; what came of it stands on the page afterwards."""
    store = world.store(request.form.get("platform", ""), request.form.get("key", ""))
    if store is None:
        world.said = "That store is not there any more."
        return
    name = _NAMES[store.platform]
    try:
        match request.form.get("do"):
            case "place":
                world.said = f"{name}: order {_number(store, store.place().id)} was placed."
            case "change":
                world.said = f"{name}: order {_number(store, store.change().id)} was changed."
            case "lose":
                with world.lock:
                    store.faults.lose += 1
                    lose = store.faults.lose
                what = "webhook will be lost on its" if lose == 1 else f"{lose} webhooks will be lost on their"
                world.said = f"{name}: the next {what} way."
            case _:
                world.said = "There is no such button."
    except ChangeRefused as refused:
        world.said = f"{name}: nothing was changed, {refused}."


def _number(store: Store, order_id: int) -> str:
    return f"#{store.orders[order_id].number}" if store.platform == "shopify" else str(order_id)


def _render(world: World) -> str:
    with world.lock:
        stores = [
            {
                "platform": store.platform,
                "title": _NAMES[store.platform],
                "key": store.key,
                "name": store.name,
                "orders": sum(1 for order in store.orders.values() if order.exists),
                "counts": counts(store),
                "clock": store.now().astimezone(store.zone).strftime("%Y-%m-%d %H:%M:%S"),
                "time_zone": store.time_zone,
                "skew": round(store.seconds_offset),
                "faults": {name: value for name, value in store.faults.as_json().items() if value},
                "last": list(store.log)[-5:][::-1],
            }
            for store in world.stores.values()
        ]
        said = world.said
    template = _environment().get_template("page.html")
    return template.render(stores=stores, said=said, gateway_url=world.gateway_url)
