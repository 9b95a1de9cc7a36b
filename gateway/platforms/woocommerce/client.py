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
from gateway.platforms.base import Count, Cursor, Found, Gone, Head, LookUp, Page, Shop, StoreAccess
from gateway.platforms.woocommerce import keys, walls
from gateway.platforms.woocommerce.orders import marks

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
    url = f"{root(access.base_url)}/wc/v3/{path}"
    carried = keys.way(access.credentials, method, url, params or {})
    answer = access.http.call(method, url, params=carried.params, json=json, auth=carried.auth)
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
        return Retry(problem, why, after_seconds=answer.retry_after or 5.0, **facts)
    if problem is STORE_REQUEST_REFUSED:
        return Refused(problem, why, **facts)
    return NeedsMerchant(problem, why, **facts)


def _code(answer: Answer) -> str:
    try:
        value = msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    code = value.get("code") if isinstance(value, dict) else None
    return code if isinstance(code, str) else ""


def list_page(access: StoreAccess, window: Window, cursor: Cursor | None, *, size: int = PAGE_SIZE) -> Page:
    """The next 100 orders of the window by (modified, id). `cursor`: the last second seen and its ids.

    Never page numbers: an order that changes meanwhile leaves the list, and all behind it slide (sheet fact 9).
    A second that fills a page is asked for again with the ids that were seen of it excluded.
    """
    answer = call(access, "GET", "orders", params={**_page_params(window, cursor), "per_page": str(size)})
    orders = [_found(raw, answer) for raw in _rows(answer)]
    dated = [(order.updated_at, int(order.external_id)) for order in orders if order.updated_at is not None]
    return Page(orders, _following(dated, len(orders) < size, cursor, answer), answer.observed_at)


def list_heads(access: StoreAccess, window: Window, cursor: Cursor | None) -> Page:
    """The same by id, version and what else a few bytes tell."""
    params = {**_page_params(window, cursor), "_fields": "id,date_modified_gmt,status,currency,total"}
    answer = call(access, "GET", "orders", params=params)
    heads = []
    for raw in _rows(answer):
        row = msgspec.json.decode(raw)
        try:
            head = msgspec.convert(row, _Head)
        except msgspec.ValidationError:
            raise answer.not_json("an order without an id stands in the list") from None
        heads.append(Head(str(head.id), _moment(head.date_modified_gmt), marks(row)))
    dated = [(head.updated_at, int(head.external_id)) for head in heads if head.updated_at is not None]
    return Page((), _following(dated, len(heads) < PAGE_SIZE, cursor, answer), answer.observed_at, heads)


def _page_params(window: Window, cursor: Cursor | None) -> dict[str, str]:
    after = window.from_ - timedelta(seconds=1)
    seen: list[int] = []
    if cursor is not None:
        after = datetime.fromtimestamp(cursor["second"], UTC) - timedelta(seconds=1)
        seen = list(cursor["ids"])
    params = {
        **_window_params(after, window),
        "orderby": "modified",
        "order": "asc",
        "per_page": str(PAGE_SIZE),
    }
    if seen:
        params["exclude"] = ",".join(map(str, seen[:MAX_EXCLUDED]))
        if len(seen) > MAX_EXCLUDED:
            params["offset"] = str(len(seen) - MAX_EXCLUDED)
    return params


def _window_params(after: datetime, window: Window) -> dict[str, str]:
    return {
        # modified_after is strictly after, modified_before strictly before; naive GMT, since a Z would be read as
        # local time (sheet fact 8).
        "modified_after": after.strftime("%Y-%m-%dT%H:%M:%S"),
        "modified_before": window.until.strftime("%Y-%m-%dT%H:%M:%S"),
        "dates_are_gmt": "true",
        "status": "any",
    }


def _following(
    dated: Sequence[tuple[datetime, int]], is_last: bool, cursor: Cursor | None, answer: Answer
) -> Cursor | None:
    """Raises Retry when a full page holds nothing new: whatever stands between us and the store ignored the question,
    and would for ever."""
    if is_last or not dated:
        return None
    last = max(dated)[0]
    same_second = [identity for moment, identity in dated if moment == last]
    if cursor is not None and cursor["second"] == int(last.timestamp()):
        seen = set(cursor["ids"])
        if seen.issuperset(same_second):
            raise answer.not_json("the list begins again instead of going on")
        same_second = sorted(seen.union(same_second))
    return {"second": int(last.timestamp()), "ids": same_second}


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
    """For each id exactly one answer: by the hundred, and singly where a list does not show it.

    Trash (200 with status trash) and 404 are Gone (capture pairs/12); what a plugin's status hides from every list
    still answers by its id (capture pairs/11).
    """
    for begin in range(0, len(ids), PAGE_SIZE):
        some = ids[begin : begin + PAGE_SIZE]
        listed = _by_ids(access, some) if len(some) > 1 else {}
        for identity in some:
            yield listed.get(identity) or _by_id(access, identity)


def _by_ids(access: StoreAccess, ids: Sequence[str]) -> dict[str, Found]:
    params = {"include": ",".join(ids), "per_page": str(PAGE_SIZE), "status": "any"}
    answer = call(access, "GET", "orders", params=params)
    found = [_found(raw, answer) for raw in _rows(answer)]
    return {order.external_id: order for order in found}


def _by_id(access: StoreAccess, identity: str) -> LookUp:
    answer = call(access, "GET", f"orders/{identity}")
    if answer.status == 404:
        return Gone(identity, answer.observed_at)
    try:
        head = msgspec.json.decode(answer.body, type=_Head)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise answer.not_json("it is not an order") from None
    if str(head.id) != identity:
        raise answer.not_json("it is another order")
    if head.status == "trash":
        return Gone(identity, answer.observed_at)
    return Found(identity, _moment(head.date_modified_gmt), answer.body, answer.observed_at)


def count(access: StoreAccess, window: Window) -> Count | None:
    """The platform's own count of the window, from X-WP-Total."""
    params = {**_window_params(window.from_ - timedelta(seconds=1), window), "per_page": "1", "_fields": "id"}
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
