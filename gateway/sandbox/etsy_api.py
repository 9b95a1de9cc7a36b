"""Etsy's Open API v3 as far as an order gateway uses it, and its token endpoint."""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from typing import TYPE_CHECKING, Any
from wsgiref.handlers import format_date_time

from werkzeug.wrappers import Request, Response

from gateway.sandbox import etsy_consent
from gateway.sandbox import etsy_shapes as shapes
from gateway.sandbox.etsy import EtsyStore
from gateway.sandbox.orders import Order

if TYPE_CHECKING:
    from gateway.sandbox.world import World

_SORTS = {"created": "created", "updated": "updated", "receipt_id": "id"}
_UP, _DOWN = ("asc", "ascending", "up"), ("desc", "descending", "down")
_EARLIEST = 946684800
_BOUNDS = (
    ("min_created", "created", False), ("max_created", "created", True),
    ("min_last_modified", "updated", False), ("max_last_modified", "updated", True),
)  # fmt: skip


class Refused(Exception):
    """An answer {"error": text}; section 2 of the sheet has the bodies."""

    def __init__(self, status: int, error: str, description: str | None = None, **headers: str) -> None:
        super().__init__(error)
        self.status = status
        self.body = {"error": error} | ({"error_description": description} if description else {})
        self.headers = headers


def answer(world: World, request: Request, path: str) -> Response:
    """Answer one call below /etsy; path begins with /v3/, but for the consent page."""
    if path == etsy_consent.PATH:
        return etsy_consent.answer(world, request)
    if path == "/v3/public/oauth/token":
        return _token(world, request)
    try:
        _check_key(world, request)
        if path == "/v3/application/openapi-ping":
            return _json(world, None, {"application_id": 1234567890})
        store = _caller(world, request)
        if store.faults.take("throttle"):
            raise Refused(429, "Exceeded the rate limit", retry_after="1")
        wait = world.etsy_app.allow(store.now().timestamp())
        if wait:
            raise Refused(429, "Exceeded the rate limit", retry_after=str(int(-(-wait // 1))))
        return _route(world, store, request, path)
    except Refused as refused:
        headers = {name.replace("_", "-"): value for name, value in refused.headers.items()}
        # The four limit headers are absent on a 429 (sheet section 4).
        return _json(world, None, refused.body, refused.status, headers)


def _route(world: World, store: EtsyStore, request: Request, path: str) -> Response:
    if request.method != "GET":
        raise Refused(405, "Method not allowed")
    if path == "/v3/application/users/me":
        return _json(world, store, {"user_id": store.user_id, "shop_id": store.shop_id})
    match = re.fullmatch(r"/v3/application/shops/(\d+)(/receipts(?:/(\d+)(/transactions)?)?)?", path)
    if match is None:
        raise Refused(404, "Resource not found")
    if int(match.group(1)) != store.shop_id:
        raise Refused(403, f"User {store.user_id} does not own Shop {match.group(1)}")
    if match.group(2) is None:
        return _json(world, store, shapes.shop(store))
    if match.group(3) is None:
        return _list(world, store, request)
    order = store.orders.get(int(match.group(3)))
    if order is None or not _readable(store, order):
        text = f"Could not find a Shop Receipt with receipt_id = {match.group(3)} associated with shop_id = "
        raise Refused(404, text + str(store.shop_id))
    if match.group(4):
        rows = shapes.receipt(store, order)["transactions"]
        return _json(world, store, {"count": len(rows), "results": rows})
    return _json(world, store, store.body_of(order))


def _readable(store: EtsyStore, order: Order) -> bool:
    """An event can beat the API's own read view (sheet section 6)."""
    return order.exists and order.created + store.read_delay_seconds <= store.now().timestamp()


def _list(world: World, store: EtsyStore, request: Request) -> Response:
    args = request.args
    # OAS: limit 1 to 100, default 25; more silently means 100 (sheet section 3).
    limit = min(_whole(args.get("limit"), "limit", 25, 1), 100)
    offset = _whole(args.get("offset"), "offset", 0, 0)
    column = _SORTS.get(args.get("sort_on", "created"))
    direction = args.get("sort_order", "desc")
    if column is None or direction not in _UP + _DOWN:
        raise Refused(400, "Invalid value for sort_on or sort_order")
    keys, rows = store.sorted_by(column)
    for name, of, is_upper in _BOUNDS:
        if args.get(name) is None:
            continue
        second = _whole(args.get(name), name, 0, _EARLIEST)
        if not store.bounds_inclusive:
            second += -1 if is_upper else 1
        if of == column:
            cut = bisect_left(keys, (second + 1, -1) if is_upper else (second, -1))
            keys, rows = (keys[:cut], rows[:cut]) if is_upper else (keys[cut:], rows[cut:])
        elif is_upper:
            rows = [row for row in rows if getattr(row, of) <= second]
        else:
            rows = [row for row in rows if getattr(row, of) >= second]
    rows = [row for row in rows if _wanted(store, row, args)]
    if direction in _DOWN:
        rows = rows[::-1]
    shown = rows[offset : offset + limit]
    # count is the number found [OAS], not the number shown; the docs contradict each other.
    body = b'{"count":%d,"results":[' % len(rows) + b",".join(store.body_of(row) for row in shown) + b"]}"
    return _json(world, store, body)


def _wanted(store: EtsyStore, order: Order, args: Any) -> bool:
    if not _readable(store, order):
        return False
    default = None if store.canceled_by_default else False
    checks = (
        ("was_canceled", order.cancelled is not None, default),
        ("was_paid", order.paid is not None, None),
        ("was_shipped", order.completed is not None, None),
        ("was_delivered", order.delivered is not None, None),
    )
    for name, actual, fallback in checks:
        wanted = _flag(args[name], name) if name in args else fallback
        if wanted is not None and wanted is not actual:
            return False
    return True


def _flag(text: str, name: str) -> bool | None:
    values = {"true": True, "1": True, "false": False, "0": False, "null": None, "": None}
    if text.lower() not in values:
        raise Refused(400, f"Invalid value for {name}")
    return values[text.lower()]


def _whole(text: str | None, name: str, default: int, low: int) -> int:
    if text is None:
        return default
    try:
        number = int(text)
    except ValueError as error:
        raise Refused(400, f"Invalid value for {name}") from error
    if number < low:
        raise Refused(400, f"{name} must be at least {low}")
    return number


def _check_key(world: World, request: Request) -> None:
    """x-api-key is keystring:shared_secret (enforced since 2026-02-09)."""
    app = world.etsy_app
    given = request.headers.get("x-api-key", "")
    if not given:
        raise Refused(401, "Missing x-api-key header or client_id.")
    if given == app.keystring:
        raise Refused(403, "Shared secret is required in x-api-key header.")
    if given != f"{app.keystring}:{app.shared_secret}":
        raise Refused(403, "Invalid API key")


def _caller(world: World, request: Request) -> EtsyStore:
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "bearer" or not token:
        raise Refused(401, "invalid_token", "access token is missing")
    for store in world.of("etsy"):
        assert isinstance(store, EtsyStore)
        if token == store.access_token:
            if store.access_expires <= store.second():
                raise Refused(401, "invalid_token", "access token is expired")
            return store
    raise Refused(401, "invalid_token", "access token is invalid")


def _token(world: World, request: Request) -> Response:
    given = request.get_json(silent=True) if request.is_json else request.form
    given = given if given is not None and hasattr(given, "get") else {}
    if given.get("client_id") != world.etsy_app.keystring:
        return _json(world, None, {"error": "invalid_client", "error_description": "client_id is unknown"}, 401)
    if world.etsy_app.token_errors > 0:
        world.etsy_app.token_errors -= 1
        return _json(world, None, {"error": "Server Error"}, 500)
    if given.get("grant_type") == "authorization_code":
        return _json(world, None, *etsy_consent.exchange(world, given))
    if given.get("grant_type") != "refresh_token":
        error = {
            "error": "unsupported_grant_type",
            "error_description": "authorization_code and refresh_token are known",
        }
        return _json(world, None, error, 400)
    for store in world.of("etsy"):
        assert isinstance(store, EtsyStore)
        pair = store.refresh(str(given.get("refresh_token", "")))
        if pair is not None:
            return _json(world, None, pair)
    return _json(world, None, {"error": "invalid_grant", "error_description": "refresh_token is revoked"}, 400)


def _json(
    world: World, store: EtsyStore | None, value: Any, status: int = 200, extra: dict[str, str] | None = None
) -> Response:
    text = value if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    headers = {"Content-Type": "application/json", **(extra or {})}
    if store is not None:
        headers |= world.etsy_app.headers(store.now().timestamp())
    headers["Date"] = format_date_time((store.now() if store else world.now()).timestamp())
    return Response(text, status=status, headers=headers)
