"""WooCommerce's REST API as far as an order gateway uses it: orders, refunds, webhooks, system status, the index.

The real one takes Basic and keys in the query only over https, and OAuth 1.0a anywhere (sheet fact 11). The sandbox
speaks plain http on loopback, and takes Basic there as long as the store believes that TLS ends before it (is_ssl).
"""

from __future__ import annotations

import base64
import hmac
import json
import re
import time
from collections.abc import Callable
from html import escape
from typing import Any
from urllib.parse import quote, urlencode, urlsplit
from wsgiref.handlers import format_date_time

from werkzeug.wrappers import Request, Response

from gateway.sandbox import woocommerce_shapes as shapes
from gateway.sandbox.orders import Order
from gateway.sandbox.woocommerce import TOPICS, WooStore
from gateway.sandbox.woocommerce_lists import Refused, choice, found, whole

_SORTS = {"date": "created", "modified": "updated", "id": "id"}
_NOT_SIMULATED = ("search", "customer", "product", "parent", "parent_exclude")


def answer(store: WooStore, request: Request, path: str) -> Response:
    """Answer one call below /woocommerce/{store}; path is what follows, such as /wp-json/wc/v3/orders."""
    rest_route = request.args.get("rest_route")
    if path in ("", "/") and rest_route:  # plain permalinks
        path = "/wp-json" + rest_route
    path = path.rstrip("/")
    if path == "":
        return _home(store)
    if store.caches_rest and request.method == "GET":
        return _from_cache(store, request, path)
    return _answer(store, request, path)


def _home(store: WooStore) -> Response:
    """The shop's front page, as far as it tells where the API is."""
    text = f"<!DOCTYPE html><html><head><title>{escape(store.name)}</title></head><body><h1>{escape(store.name)}</h1>"
    headers = {"Link": f'<{store.url}/wp-json/>; rel="https://api.w.org/"', "Date": date_header(store)}
    return Response(text + "</body></html>", mimetype="text/html", headers=headers)


def _from_cache(store: WooStore, request: Request, path: str) -> Response:
    """The answer that was given to this very address before, with its old Date, as page caches hand it out."""
    kept = store.cached.get(request.full_path)
    if kept is None:
        response = _answer(store, request, path)
        if response.status_code != 200:
            return response
        store.cached[request.full_path] = kept = (response.get_data(), response.headers["Date"])
    return Response(kept[0], headers={"Date": kept[1], "Content-Type": "application/json; charset=UTF-8"})


def _answer(store: WooStore, request: Request, path: str) -> Response:
    try:
        if path == "/wp-json":
            return _json(store, _index(store), allow="GET")
        for pattern, methods, handler in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match:
                _authenticate(store, request)
                if request.method not in methods:
                    raise Refused(501, "sandbox_not_simulated", f"The sandbox does not simulate {request.method} here.")
                return handler(store, request, *(int(number) for number in match.groups()))
        raise Refused(404, "rest_no_route", "No route was found matching the URL and request method.")
    except Refused as refused:
        # No Allow header on a 401 (capture pairs 20).
        allow = None if refused.status == 401 else ("GET, POST" if path.endswith("orders") else _ONE)
        return _json(store, refused.body, status=refused.status, allow=allow)


_ONE = "GET, POST, PUT, PATCH, DELETE"


def date_header(store: WooStore) -> str:
    """The Date that this store's web server writes: its own clock's."""
    return format_date_time(store.now().timestamp())


def _json(
    store: WooStore,
    value: Any,
    *,
    status: int = 200,
    allow: str | None = _ONE,
    extra: dict[str, str] | None = None,
) -> Response:
    body = value if isinstance(value, bytes) else shapes.encode(value)
    headers = {
        "Date": date_header(store),
        "X-Powered-By": "PHP/8.2.36",
        "Content-Type": "application/json; charset=UTF-8",
        "X-Robots-Tag": "noindex",
        "Link": f'<{store.url}/wp-json/>; rel="https://api.w.org/"',
        "X-Content-Type-Options": "nosniff",
        "Access-Control-Expose-Headers": "X-WP-Total, X-WP-TotalPages, Link",
        "Access-Control-Allow-Headers": "Authorization, X-WP-Nonce, Content-Disposition, Content-MD5, Content-Type",
    }
    if allow is not None:
        headers["Allow"] = allow
        headers["Expires"] = "Wed, 11 Jan 1984 05:00:00 GMT"
        headers["Cache-Control"] = "no-cache, must-revalidate, max-age=0, no-store, private"
    headers.update(extra or {})
    return Response(body, status=status, headers=headers)


def _authenticate(store: WooStore, request: Request) -> None:
    """Basic, or keys in the query; the codes are those of sheet fact 11."""
    given = request.authorization
    if given is not None and given.type == "basic" and not store.strips_authorization:
        key, secret = given.username or "", given.password or ""
    else:
        key, secret = "", ""
    # The query's pair goes first where it is there (class-wc-rest-authentication.php).
    key, secret = request.args.get("consumer_key", key), request.args.get("consumer_secret", secret)
    if not store.is_ssl:
        key, secret = "", ""
    pairs = store.pairs()
    if key not in pairs and "oauth_consumer_key" in request.args:
        key = request.args["oauth_consumer_key"]
        secret = pairs[key][0] if key in pairs and _is_signed_with(store, request, pairs[key][0]) else ""
    if key not in pairs:
        word = "view" if request.method == "GET" else "create"
        raise Refused(401, f"woocommerce_rest_cannot_{word}", f"Sorry, you cannot {word} this resource.")
    wanted, scope = pairs[key]
    if secret != wanted:
        raise Refused(401, "woocommerce_rest_authentication_error", "Consumer secret is invalid.")
    if scope == "read" and request.method not in ("GET", "HEAD"):
        message = "The API key provided does not have write permissions."
        raise Refused(401, "woocommerce_rest_authentication_error", message)


def _is_signed_with(store: WooStore, request: Request, secret: str) -> bool:
    """check_oauth_signature and check_oauth_timestamp_and_nonce of class-wc-rest-authentication.php (11.1)."""
    given = dict(request.args)
    signature = given.pop("oauth_signature", "")
    home = store.url
    rest = request.path.removeprefix(urlsplit(home).path + "/")
    base = quote(f"{home}/{rest}" if rest.strip("/") else home, safe="~")
    pairs = [f"{quote(name, safe='~')}={quote(given[name], safe='~')}" for name in sorted(given)]
    text = "&".join((request.method, base, "%26".join(quote(pair, safe="~") for pair in pairs)))
    algorithm = given.get("oauth_signature_method", "").removeprefix("HMAC-").lower()
    if algorithm not in ("sha1", "sha256"):
        return False
    wanted = base64.b64encode(hmac.digest(f"{secret}&".encode(), text.encode(), algorithm)).decode()
    stamp, nonce = given.get("oauth_timestamp", ""), given.get("oauth_nonce", "")
    fresh = stamp.isdigit() and abs(int(stamp) - time.time()) <= 900 and nonce not in store.nonces
    store.nonces.add(nonce)
    return fresh and bool(nonce) and hmac.compare_digest(wanted, signature)


def _index(store: WooStore) -> dict[str, Any]:
    offset = store.now().astimezone(store.zone).utcoffset()
    hours = offset.total_seconds() / 3600 if offset else 0
    return {
        "name": store.name,
        "description": "",
        "url": store.url,
        "home": store.url,
        "gmt_offset": str(int(hours) if hours == int(hours) else hours),
        "timezone_string": store.time_zone,
        "namespaces": ["oembed/1.0", "wc/v1", "wc/v2", "wc/v3", "wp/v2"],
        "authentication": {},
        "routes": {},
    }


# -- orders


def _one_order(store: WooStore, request: Request, order_id: int) -> Response:
    order = _order(store, order_id)
    fields = _fields(request)
    return _json(store, shapes.encode(_pick(store, order, fields)) if fields else store.body_of(order))


def _order(store: WooStore, order_id: int) -> Order:
    order = store.orders.get(order_id)
    if order is None or not order.exists:
        raise Refused(404, shapes.INVALID_ID["code"], shapes.INVALID_ID["message"])
    return order


def _refunds(store: WooStore, _request: Request, order_id: int) -> Response:
    order = _order(store, order_id)
    listed = [shapes.refund_json(store, order, refund) for refund in reversed(order.refunds)]
    extra = {"X-WP-Total": str(len(listed)), "X-WP-TotalPages": str(1 if listed else 0)}
    return _json(store, listed, allow="GET, POST", extra=extra)


def _fields(request: Request) -> list[str]:
    return [name.strip() for name in request.args.get("_fields", "").split(",") if name.strip()]


def _pick(store: WooStore, order: Order, fields: list[str]) -> dict[str, Any]:
    light = shapes.LIGHT_FIELDS.issuperset(fields)
    whole = shapes.light(store, order) if light else store.render(order)
    wanted = {name.partition(".")[0] for name in fields}
    return {name: value for name, value in whole.items() if name in wanted}


def _list_orders(store: WooStore, request: Request) -> Response:
    args = request.args
    for name in _NOT_SIMULATED:
        if args.get(name):
            raise Refused(501, "sandbox_not_simulated", f"The sandbox does not simulate the parameter {name}.")
    per_page = whole(args.get("per_page"), "per_page", 10, 1, 100)
    page = whole(args.get("page"), "page", 1, 1, None)
    sort = choice(args.get("orderby", "date"), "orderby", ("date", "id", "include", "title", "slug", "modified"))
    direction = choice(args.get("order", "desc"), "order", ("asc", "desc"))
    orders = found(store, request, _SORTS.get(sort, "created"))
    if direction == "desc":
        orders = orders[::-1]
    offset = whole(args.get("offset"), "offset", (page - 1) * per_page, 0, None)
    shown = orders[offset : offset + per_page]
    # Sheet fact 10: a page past the end gives [] with a total of 0.
    total = len(orders) if shown else 0
    pages = -(-total // per_page)
    fields = _fields(request)
    if fields:
        body = shapes.encode([_pick(store, order, fields) for order in shown])
    else:
        body = b"[" + b",".join(store.body_of(order) for order in shown) + b"]"
    extra = {"X-WP-Total": str(total), "X-WP-TotalPages": str(pages)}
    link = _paging(store, request, page, pages, bool(shown))
    if link:
        extra["Link"] = link
    return _json(store, body, allow="GET, POST", extra=extra)


def _paging(store: WooStore, request: Request, page: int, pages: int, full: bool) -> str:
    """The Link header as captured (pairs 14 and 15): every default is spelt out, past the end page=0 is "prev"."""
    given = {name: value for name, value in request.args.items() if not name.startswith("consumer_")}
    if str(given.get("dates_are_gmt", "")).lower() in ("true", "1"):
        given["dates_are_gmt"] = "1"
    given.setdefault("status[0]", given.pop("status", "any"))
    if full:
        given |= {"dp": "2", "context": "view"}

    def to(number: int, rel: str) -> str:
        return f'<{store.api}/orders?{urlencode({**given, "page": str(number)})}>; rel="{rel}"'

    links = []
    if page > 1:
        links.append(to(page - 1 if full else 0, "prev"))
    if full and page < pages:
        links.append(to(page + 1, "next"))
    return ", ".join(links)


# -- webhooks and status


def _given(request: Request) -> dict[str, Any]:
    """Parameters as WordPress takes them: JSON or a form, with the query beneath."""
    body: dict[str, Any] = {}
    if request.mimetype == "application/json":
        try:
            parsed = json.loads(request.get_data() or b"{}")
        except ValueError as error:
            raise Refused(400, "rest_invalid_json", "Invalid JSON body passed.") from error
        body = parsed if isinstance(parsed, dict) else {}
    else:
        body = request.form.to_dict()
    return {**request.args.to_dict(), **body}


def _webhooks(store: WooStore, request: Request) -> Response:
    if request.method == "POST":
        return _make_webhook(store, _given(request))
    per_page = whole(request.args.get("per_page"), "per_page", 10, 1, 100)
    page = whole(request.args.get("page"), "page", 1, 1, None)
    direction = choice(request.args.get("order", "desc"), "order", ("asc", "desc"))
    states = ("all", "active", "paused", "disabled")
    status = choice(request.args.get("status", "all"), "status", states)
    # capture pairs 00: four made in one second are listed by id, although the order is descending by date.
    sign = -1 if direction == "desc" else 1
    hooks = sorted(store.webhooks.values(), key=lambda hook: (sign * hook.created, hook.id))
    hooks = [hook for hook in hooks if status in ("all", hook.status)]
    shown = hooks[(page - 1) * per_page : page * per_page]
    extra = {"X-WP-Total": str(len(hooks)), "X-WP-TotalPages": str(-(-len(hooks) // per_page))}
    return _json(store, [shapes.webhook_json(store, hook) for hook in shown], allow="GET, POST", extra=extra)


def _make_webhook(store: WooStore, given: dict[str, Any]) -> Response:
    topic, url = str(given.get("topic", "")), str(given.get("delivery_url", ""))
    if topic not in TOPICS:
        raise Refused(400, "woocommerce_rest_webhook_invalid_topic", "Webhook topic must be valid.")
    if not url.startswith(("http://", "https://")):
        raise Refused(
            400, "woocommerce_rest_webhook_invalid_delivery_url",
            "Webhook delivery URL must be a valid URL starting with http:// or https://.",
        )  # fmt: skip
    hook = store.subscribe(
        name=str(given.get("name") or "Webhook created by the sandbox"), topic=topic, delivery_url=url,
        secret=str(given.get("secret") or store.token(50)), status=str(given.get("status") or "active"),
    )  # fmt: skip
    extra = {"Location": f"{store.api}/webhooks/{hook.id}"}
    return _json(store, shapes.webhook_json(store, hook, just_made=True), status=201, allow="GET, POST", extra=extra)


def _one_webhook(store: WooStore, request: Request, webhook_id: int) -> Response:
    hook = store.webhooks.get(webhook_id)
    if hook is None:
        raise Refused(404, "woocommerce_rest_shop_webhook_invalid_id", "Invalid ID.")
    shown = shapes.webhook_json(store, hook)
    given = _given(request)
    if request.method == "DELETE":
        if str(given.get("force", "")).lower() not in ("true", "1"):
            raise Refused(501, "woocommerce_rest_trash_not_supported", "Webhooks do not support trashing.")
        del store.webhooks[webhook_id]
        store.world.revision += 1
        return _json(store, shown)
    if request.method in ("PUT", "PATCH", "POST"):
        for name in ("name", "topic", "delivery_url", "secret", "status"):
            if name in given:
                setattr(hook, name, str(given[name]))
        # capture pairs 17: PUT active sends no ping and leaves the count of failures as it was.
        hook.modified = store.second()
        store.world.revision += 1
        shown = shapes.webhook_json(store, hook)
    return _json(store, shown)


def _batch(store: WooStore, request: Request) -> Response:
    """A batch of nothing; anything more is not simulated."""
    if _given(request):
        raise Refused(501, "sandbox_not_simulated", "The sandbox does not simulate batches of webhooks.")
    return _json(store, [], allow="POST, PUT, PATCH")


def _currency(store: WooStore, _request: Request) -> Response:
    row = {"id": "woocommerce_currency", "label": "Currency", "type": "select", "value": store.currency,
           "group_id": "general"}  # fmt: skip
    return _json(store, row, allow="GET, POST, PUT, PATCH")


def _system_status(store: WooStore, _request: Request) -> Response:
    environment = {
        "home_url": store.url, "site_url": store.url, "version": "11.0.1", "wp_version": "7.0.4",
        "wp_multisite": False, "language": "en_US", "php_version": "8.2.36", "default_timezone": "UTC",
    }  # fmt: skip
    settings = {
        "api_enabled": False, "force_ssl": False, "currency": store.currency,
        "currency_symbol": shapes.SYMBOLS.get(store.currency, store.currency), "number_of_decimals": store.decimals,
    }  # fmt: skip
    return _json(store, {"environment": environment, "settings": settings}, allow="GET")


_BASE = r"/wp-json/wc/v3"
_ALL = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_ROUTES: list[tuple[str, tuple[str, ...], Callable[..., Response]]] = [
    (_BASE + r"/orders", ("GET", "HEAD"), _list_orders),
    (_BASE + r"/orders/(\d+)", ("GET", "HEAD"), _one_order),
    (_BASE + r"/orders/(\d+)/refunds", ("GET", "HEAD"), _refunds),
    (_BASE + r"/webhooks", ("GET", "HEAD", "POST"), _webhooks),
    (_BASE + r"/webhooks/batch", ("POST", "PUT", "PATCH"), _batch),
    (_BASE + r"/settings/general/woocommerce_currency", ("GET", "HEAD"), _currency),
    (_BASE + r"/webhooks/(\d+)", _ALL, _one_webhook),
    (_BASE + r"/system_status", ("GET", "HEAD"), _system_status),
]
