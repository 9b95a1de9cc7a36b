"""WooCommerce's REST API wc/v3: windows, single orders, counts, and what its answers mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from gateway.domain.problems import (
    PERMISSION_MISSING,
    SHOP_GONE,
    STORE_ERROR,
    STORE_FIREWALL,
    STORE_LOGIN_WALL,
    STORE_REDIRECTS,
    STORE_REQUEST_REFUSED,
    STORE_THROTTLED,
    TOKEN_REVOKED,
    NeedsMerchant,
    Problem,
    Refused,
    Retry,
)
from gateway.domain.window import Window
from gateway.http import Answer
from gateway.platforms.base import Count, Cursor, Found, Gone, LookUp, Page, Shop, StoreAccess
from gateway.platforms.woocommerce import keys, walls

PAGE_SIZE = 100
"""per_page=101 is a 400 (capture woocommerce-pairs/15)."""

MAX_EXCLUDED = 600
"""Ids in one query string: 600 of seven digits make 4.8 KB of a line that servers cut at 8 KB."""


class _Head(msgspec.Struct):
    id: int
    date_modified_gmt: str | None = None
    status: str = ""


def root(base_url: str) -> str:
    """Where the API begins: a shop's plain address means pretty permalinks."""
    return base_url if base_url.endswith("/wp-json") or "rest_route=" in base_url else base_url + "/wp-json"


def call(
    access: StoreAccess, method: str, path: str, *, params: Mapping[str, str] | None = None, json: object = None
) -> Answer:
    """One API call; raises what `classify` makes of a refusal."""
    carried = keys.way(access.credentials)
    answer = access.http.call(
        method, f"{root(access.base_url)}/wc/v3/{path}", params={**(params or {}), **carried.params},
        json=json, auth=carried.auth,
    )  # fmt: skip
    problem = classify(answer)
    if problem is not None:
        raise refusal(problem, answer)
    return answer


def classify(answer: Answer) -> Problem | None:
    """The closed table of known answers first, then by class of status."""
    if answer.status < 300 or (answer.status == 404 and _code(answer) == "woocommerce_rest_shop_order_invalid_id"):
        return None
    found = walls.wall(answer)
    if found is not None:
        return found
    if answer.status == 401:
        # Sheet fact 11: a wrong secret is 401 authentication_error, an unknown key 401 cannot_view.
        return TOKEN_REVOKED
    if answer.status == 403:
        return PERMISSION_MISSING
    if answer.status in (404, 410):
        return SHOP_GONE
    if answer.status == 429:
        return STORE_THROTTLED
    return STORE_ERROR if answer.status >= 500 or answer.status < 400 else STORE_REQUEST_REFUSED


def refusal(problem: Problem, answer: Answer) -> Exception:
    """The exception for what an answer means: wait, ask the merchant, or change our request."""
    if problem in (STORE_REDIRECTS, STORE_LOGIN_WALL, STORE_FIREWALL):
        return walls.refused_by(problem, answer, "")
    why = _code(answer) or f"status {answer.status}"
    facts = {"status": answer.status, "why": why}
    if problem in (STORE_THROTTLED, STORE_ERROR):
        return Retry(problem, why, after_seconds=_retry_after(answer), **facts)
    if problem is STORE_REQUEST_REFUSED:
        return Refused(problem, why, **facts)
    return NeedsMerchant(problem, why, **facts)


def _retry_after(answer: Answer) -> float:
    try:
        return min(max(float(answer.headers.get("retry-after", "5")), 1.0), 3600.0)
    except ValueError:
        return 5.0


def _code(answer: Answer) -> str:
    try:
        value = msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    code = value.get("code") if isinstance(value, dict) else None
    return code if isinstance(code, str) else ""


def list_page(access: StoreAccess, window: Window, cursor: Cursor | None) -> Page:
    """The next 100 orders of the window by (modified, id). `cursor`: the last second seen and its ids.

    Never page numbers: an order that changes meanwhile leaves the list, and all behind it slide (sheet fact 9).
    A second that fills a page is asked for again with the ids that were seen of it excluded.
    """
    after = window.from_ - timedelta(seconds=1)
    seen: list[int] = []
    if cursor is not None:
        after = datetime.fromtimestamp(cursor["second"], UTC) - timedelta(seconds=1)
        seen = list(cursor["ids"])
    params = {
        # modified_after is strictly after, modified_before strictly before; naive GMT, since a Z would be read as
        # local time (sheet fact 8).
        "modified_after": after.strftime("%Y-%m-%dT%H:%M:%S"),
        "modified_before": window.until.strftime("%Y-%m-%dT%H:%M:%S"),
        "dates_are_gmt": "true",
        "orderby": "modified",
        "order": "asc",
        "per_page": str(PAGE_SIZE),
        "status": "any",
    }
    if seen:
        params["exclude"] = ",".join(map(str, seen[:MAX_EXCLUDED]))
        if len(seen) > MAX_EXCLUDED:
            params["offset"] = str(len(seen) - MAX_EXCLUDED)
    answer = call(access, "GET", "orders", params=params)
    orders = [_found(raw, answer) for raw in _rows(answer)]
    dated = [(order.updated_at, int(order.external_id)) for order in orders if order.updated_at is not None]
    if len(orders) < PAGE_SIZE or not dated:
        return Page(orders, None, answer.observed_at)
    last = max(dated)[0]
    same_second = [identity for moment, identity in dated if moment == last]
    if cursor is not None and cursor["second"] == int(last.timestamp()):
        same_second = sorted({*seen, *same_second})
    return Page(orders, {"second": int(last.timestamp()), "ids": same_second}, answer.observed_at)


def _rows(answer: Answer) -> list[msgspec.Raw]:
    try:
        return msgspec.json.decode(answer.body, type=list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # An answer without the list is an error, never "empty".
        raise answer.not_json("it is not a list of orders") from None


def _found(raw: msgspec.Raw, answer: Answer) -> Found:
    data = bytes(raw)
    try:
        head = msgspec.json.decode(data, type=_Head)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise answer.not_json("an order without an id stands in the list") from None
    return Found(str(head.id), _moment(head.date_modified_gmt), data, answer.observed_at)


def _moment(value: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(value or "").replace(tzinfo=UTC)
    except ValueError:
        return None


def fetch_orders(access: StoreAccess, ids: Sequence[str]) -> Iterator[LookUp]:
    """For each id exactly one answer. Trash (200 with status trash) and 404 are Gone (capture pairs/12)."""
    for identity in ids:
        answer = call(access, "GET", f"orders/{identity}")
        if answer.status == 404:
            yield Gone(identity, answer.observed_at)
            continue
        try:
            head = msgspec.json.decode(answer.body, type=_Head)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise answer.not_json("it is not an order") from None
        if str(head.id) != identity:
            raise answer.not_json("it is another order")
        if head.status == "trash":
            yield Gone(identity, answer.observed_at)
        else:
            yield Found(identity, _moment(head.date_modified_gmt), answer.body, answer.observed_at)


def count(access: StoreAccess, window: Window) -> Count | None:
    """The platform's own count of the window, from X-WP-Total."""
    params = {
        "modified_after": (window.from_ - timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%S"),
        "modified_before": window.until.strftime("%Y-%m-%dT%H:%M:%S"),
        "dates_are_gmt": "true",
        "per_page": "1",
        "status": "any",
        "_fields": "id",
    }
    answer = call(access, "GET", "orders", params=params)
    try:
        return Count(int(answer.headers["x-wp-total"]), exact=True)
    except (KeyError, ValueError):
        return None


def shop(access: StoreAccess) -> Shop:
    """What the store says of itself, once a keyed call has shown that our keys may read its orders."""
    call(access, "GET", "orders", params={"per_page": "1", "_fields": "id"})
    answer = access.http.call("GET", f"{root(access.base_url)}/")
    problem = classify(answer)
    if problem is not None:
        raise refusal(problem, answer)
    index = answer.json()
    if not isinstance(index, dict) or "wc/v3" not in index.get("namespaces", ["wc/v3"]):
        raise answer.not_json("WooCommerce's API is not there")
    zone = index.get("timezone_string") or "UTC"
    home = str(index.get("home") or index.get("url") or access.base_url).rstrip("/")
    return Shop(home, str(index.get("name") or home), home.split("://")[-1], access.currency, zone)
