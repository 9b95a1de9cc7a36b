"""Shopify's GraphQL Admin API: windows, single orders, counts, and what its answers mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from gateway.domain.order import PartName
from gateway.domain.problems import (
    PERMISSION_MISSING,
    SHOP_FROZEN,
    SHOP_GONE,
    STORE_ERROR,
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
from gateway.platforms import fields
from gateway.platforms.base import App, Budget, Count, Cursor, Found, Gone, Head, LookUp, Page, Shop, StoreAccess
from gateway.platforms.shopify import queries
from gateway.platforms.shopify.orders import gid, marks

PAGE_SIZE = 50
MOST_WHOLE = 100
MOST_FOR_ONE_QUERY = 1_000.0
"""Points, whatever the plan; a bucket that holds less allows less (sheet section 5.1)."""
FEW, FEWEST_LINES = 10, 5
"""So many orders with so few lines cost 922 points by the worst known reading of the costs (sheet section 5.2)."""


class Size(NamedTuple):
    """How much is asked for at once: orders, the lines of each, and what that costs as far as is known."""

    first: int
    lines: int
    cost: float

    def of(self, first: int) -> Size:
        """The same for so many orders, if these are fewer."""
        return self if first >= self.first else Size(first, self.lines, self.cost * first / self.first)

    def smaller(self, error: TooCostly) -> Size | None:
        """What is worth asking for next; None: nothing is left to take off."""
        share = 0.9 * error.limit / error.cost
        first, lines = int(self.first * share), self.lines
        if lines > FEWEST_LINES:
            if first < FEW:
                first, lines = min(FEW, self.first), FEWEST_LINES
        elif self.first == 1:
            return None
        first = max(1, min(first, self.first - (lines == self.lines)))
        return Size(first, lines, min(error.cost * first / self.first, error.limit))


_WHOLE, _BY_ID, _HEADS, _LINES = "whole", "by id", "heads", "lines"
_BEGIN_WITH = {
    _WHOLE: Size(PAGE_SIZE, 10, 600.0),
    _BY_ID: Size(10, 10, 500.0),
    _HEADS: Size(250, 0, 260.0),
    _LINES: Size(100, 0, 100.0),
}

_PERSONAL = frozenset({"email", "phone", "billingAddress", "shippingAddress", "note", "customAttributes", "customer"})


class _Cost(msgspec.Struct, rename="camel"):
    requested_query_cost: float | None = None
    actual_query_cost: float | None = None
    throttle_status: dict[str, float] | None = None


class _Extensions(msgspec.Struct):
    cost: _Cost | None = None


class _Envelope(msgspec.Struct):
    extensions: _Extensions | None = None


class TooCostly(Refused):
    """The query was not run: its cost is over what one may ever cost. Asking for less at once is the mend."""

    def __init__(self, cost: float, limit: float = MOST_FOR_ONE_QUERY) -> None:
        super().__init__(STORE_REQUEST_REFUSED, f"cost {cost:.0f}", status=200, why="its cost is over the limit")
        self.cost, self.limit = max(cost, 1.0), limit


def base_url(app: App, domain: str) -> str:
    return app.shopify_admin_url.replace("{shop}", domain)


def ask(
    access: StoreAccess, query: str, variables: Mapping[str, Any], *, cost: float
) -> tuple[dict[str, Any], list[dict[str, Any]], Answer]:
    """Data, the errors beside it, and the answer. Data with errors is not a failure: parts may be denied to us."""
    answer = access.http.call(
        "POST",
        f"{base_url(access.app, access.domain)}/api/{queries.API_VERSION}/graphql.json",
        headers={"X-Shopify-Access-Token": access.credentials["access_token"]},
        json={"query": query, "variables": variables},
        cost=cost,
    )
    problem = classify(answer)
    if problem is not None:
        raise _refusal(problem, answer)
    value = answer.json()
    if not isinstance(value, dict):
        raise answer.not_json("it is not a GraphQL answer")
    told = budget(answer)
    if told is not None and told.restore_per_second > 0:
        access.sizes["restore"] = told.restore_per_second
    errors = value.get("errors") or []
    if isinstance(errors, str):
        raise Refused(STORE_REQUEST_REFUSED, errors[:200], status=answer.status, why=errors[:200])
    for error in errors:
        _raise_for(error, value, answer)
    data = value.get("data")
    if not isinstance(data, dict):
        why = "; ".join(str(error.get("message"))[:120] for error in errors) or "no data"
        raise Refused(STORE_REQUEST_REFUSED, why, status=answer.status, why=why)
    return data, errors, answer


def _raise_for(error: Mapping[str, Any], value: Mapping[str, Any], answer: Answer) -> None:
    code = (error.get("extensions") or {}).get("code")
    if code == "THROTTLED":
        _raise_if_never(answer)
        raise Retry(STORE_THROTTLED, "cost", after_seconds=_throttled_for(answer))
    if code == "MAX_COST_EXCEEDED":
        raise TooCostly(float((error.get("extensions") or {}).get("cost") or 2000))
    if code == "INTERNAL_SERVER_ERROR":
        raise Retry(STORE_ERROR, "internal error", after_seconds=5, status=200)
    if code == "ACCESS_DENIED" and len(error.get("path") or ()) <= 1:
        raise NeedsMerchant(PERMISSION_MISSING, str(error.get("message"))[:200], why="access denied")


def _raise_if_never(answer: Answer) -> None:
    """A bucket that holds less than the query costs will never hold enough: waiting would have no end."""
    extensions = _envelope(answer)
    cost = extensions.cost if extensions else None
    most = cost.throttle_status.get("maximumAvailable") if cost and cost.throttle_status else None
    if cost and cost.requested_query_cost and most and cost.requested_query_cost > most:
        raise TooCostly(cost.requested_query_cost, most)


def _throttled_for(answer: Answer) -> float:
    extensions = _envelope(answer)
    cost = extensions.cost if extensions else None
    if cost is None or not cost.throttle_status:
        return 1.0
    status = cost.throttle_status
    lacking = (cost.requested_query_cost or 0) - status.get("currentlyAvailable", 0)
    return max(1.0, lacking / max(status.get("restoreRate", 50.0), 1.0))


def _envelope(answer: Answer) -> _Extensions | None:
    try:
        return msgspec.json.decode(answer.body, type=_Envelope).extensions
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def budget(answer: Answer) -> Budget | None:
    """The bucket as Shopify sees it after this query."""
    extensions = _envelope(answer)
    status = extensions.cost.throttle_status if extensions and extensions.cost else None
    if not status:
        return None
    try:
        return Budget(status["currentlyAvailable"], status["maximumAvailable"], status["restoreRate"])
    except KeyError:
        return None


def classify(answer: Answer) -> Problem | None:
    """By status: throttling, denied fields and costs come with 200 and are told apart by `ask`."""
    known = {401: TOKEN_REVOKED, 402: SHOP_FROZEN, 403: PERMISSION_MISSING, 404: SHOP_GONE, 423: SHOP_FROZEN,
             429: STORE_THROTTLED, 430: STORE_THROTTLED}  # fmt: skip
    if answer.status < 300:
        return None
    if answer.status in known:
        return known[answer.status]
    return STORE_ERROR if answer.status >= 500 or answer.status < 400 else STORE_REQUEST_REFUSED


def _refusal(problem: Problem, answer: Answer) -> Exception:
    why = f"status {answer.status}"
    if problem in (STORE_THROTTLED, STORE_ERROR):
        return Retry(problem, why, after_seconds=answer.retry_after or 2.0, status=answer.status)
    kind = Refused if problem is STORE_REQUEST_REFUSED else NeedsMerchant
    return kind(problem, why, status=answer.status, why=why)


def search(window: Window) -> str:
    """Shopify's search terms for the window, exact to the second."""
    form = "%Y-%m-%dT%H:%M:%SZ"
    return f"updated_at:>='{window.from_.strftime(form)}' AND updated_at:<'{window.until.strftime(form)}'"


def list_page(access: StoreAccess, window: Window, cursor: Cursor | None, *, size: int | None = None) -> Page:
    """The next orders of the window by updated time, in pages that shrink until their cost is allowed."""
    variables = {"after": cursor and cursor["after"], "query": search(window)}
    most = None if size is None else min(size, MOST_WHOLE)
    data, errors, answer = _ask_sized(access, queries.ORDERS, variables, _WHOLE, most=most)
    nodes, following = _nodes(data, answer, cursor)
    denied = _denied(errors)
    orders = [_found(access, node, answer, denied) for node in nodes]
    # A misspelt filter is ignored by Shopify and returns everything; and an order that moves on meanwhile has left.
    orders = [order for order in orders if order.updated_at is None or order.updated_at in window]
    return Page(orders, following, answer.observed_at)


def list_heads(access: StoreAccess, window: Window, cursor: Cursor | None) -> Page:
    """The next 250 heads: scalars cost nothing, so a page costs what its 250 orders do bare."""
    variables = {"after": cursor and cursor["after"], "query": search(window)}
    data, _, answer = _ask_sized(access, queries.HEADS, variables, _HEADS)
    nodes, following = _nodes(data, answer, cursor)
    heads = [Head(gid(node.get("id")), updated_at(node), marks(node)) for node in nodes]
    heads = [head for head in heads if head.updated_at is None or head.updated_at in window]
    return Page((), following, answer.observed_at, heads)


def _ask_sized(
    access: StoreAccess, query: str, variables: Mapping[str, Any], kind: str, *, most: int | None = None
) -> tuple[dict[str, Any], list[dict[str, Any]], Answer]:
    """Ask for as much at once as this store was last seen to allow, and for less until it does. `most`: so many will
    do, or more than usual are wanted, where nothing was refused yet."""
    size = usual = access.sizes.get(kind, _BEGIN_WITH[kind])
    if most is not None:
        was_refused = usual.first < _BEGIN_WITH[kind].first
        size = usual.of(most) if was_refused else usual._replace(first=most, cost=usual.cost * most / usual.first)
    while True:
        sized = {**variables, "first": size.first, **({"lines": size.lines} if size.lines else {})}
        try:
            data, errors, answer = ask(access, query, sized, cost=size.cost)
        except TooCostly as error:
            size = _shrink(access, kind, size, error)
            continue
        _note_cost(access, kind, size, answer)
        return data, errors, answer


def _shrink(access: StoreAccess, kind: str, size: Size, error: TooCostly) -> Size:
    smaller = size.smaller(error)
    if smaller is None:
        raise error
    access.sizes[kind] = smaller
    return smaller


def _note_cost(access: StoreAccess, kind: str, size: Size, answer: Answer) -> None:
    """What it cost, for the next time that as much is asked for; the platform's own figure over ours."""
    requested = _requested(answer)
    if requested and size.first == access.sizes.get(kind, _BEGIN_WITH[kind]).first:
        access.sizes[kind] = size._replace(cost=requested)


def _nodes(
    data: Mapping[str, Any], answer: Answer, cursor: Cursor | None
) -> tuple[list[dict[str, Any]], Cursor | None]:
    """A page's orders, and where the next one begins."""
    connection = data.get("orders")
    if not isinstance(connection, dict) or not isinstance(connection.get("nodes"), list):
        raise answer.not_json("it is not a list of orders")
    nodes = [node for node in connection["nodes"] if isinstance(node, dict)]
    info = connection.get("pageInfo") or {}
    if not info.get("hasNextPage"):
        return nodes, None
    following = info.get("endCursor")
    if not following or (cursor and following == cursor["after"]):
        raise answer.not_json("the list does not say where it goes on")
    return nodes, {"after": following}


def _requested(answer: Answer) -> float | None:
    extensions = _envelope(answer)
    return extensions.cost.requested_query_cost if extensions and extensions.cost else None


def updated_at(node: Mapping[str, Any]) -> datetime | None:
    """An order's own version; None where it can't be read, which normalising then says."""
    try:
        return fields.optional_instant(node, "updatedAt")
    except Refused:
        return None


def _denied(errors: Sequence[Mapping[str, Any]]) -> frozenset[PartName]:
    """Which part was not granted: access denied to a field about people is not the same as null."""
    for error in errors:
        if (error.get("extensions") or {}).get("code") == "ACCESS_DENIED" and _PERSONAL & set(
            map(str, error.get("path") or ())
        ):
            return frozenset({"person"})
    return frozenset()


def _found(access: StoreAccess, node: dict[str, Any], answer: Answer, denied: frozenset[PartName]) -> Found:
    observed_at = answer.observed_at
    lines = node.get("lineItems") or {}
    while (lines.get("pageInfo") or {}).get("hasNextPage"):
        after = lines["pageInfo"].get("endCursor")
        data, _, later = _ask_sized(access, queries.MORE_LINES, {"id": node["id"], "after": after}, _LINES)
        more = (data.get("order") or {}).get("lineItems")
        if not more or (more.get("pageInfo") or {}).get("endCursor") == after:
            raise later.not_json("an order's lines do not go on")  # gone meanwhile: the next listing tells
        lines = {"pageInfo": more.get("pageInfo"), "nodes": [*lines.get("nodes", []), *more["nodes"]]}
        if observed_at is None or later.observed_at is None:
            observed_at = None
    node["lineItems"] = lines
    return Found(gid(node.get("id")), updated_at(node), msgspec.json.encode(node), observed_at, denied)


def fetch_orders(access: StoreAccess, ids: Sequence[str]) -> Iterator[LookUp]:
    """For each id exactly one answer. Shopify says null for an order that is gone and for one behind its wall of
    60 days alike: whoever knows when the order was placed tells the two apart (`look_back`)."""
    rest = list(ids)
    while rest:
        size = access.sizes.get(_BY_ID, _BEGIN_WITH[_BY_ID]).of(len(rest))
        some = rest[: size.first]
        try:
            looks = _by_ids(access, some, size)
        except TooCostly as error:
            _shrink(access, _BY_ID, size, error)
            continue
        rest = rest[len(some) :]
        yield from looks


def _by_ids(access: StoreAccess, ids: Sequence[str], size: Size) -> list[LookUp]:
    variables = {"ids": [f"gid://shopify/Order/{identity}" for identity in ids], "lines": size.lines}
    data, errors, answer = ask(access, queries.ORDERS_BY_ID, variables, cost=size.cost)
    _note_cost(access, _BY_ID, size, answer)
    nodes = data.get("nodes")
    if not isinstance(nodes, list) or len(nodes) != len(ids):
        raise answer.not_json("it is not a list of orders")
    denied = _denied(errors)
    return [
        _found(access, node, answer, denied) if node else Gone(identity, answer.observed_at)
        for identity, node in zip(ids, nodes, strict=True)
    ]


def count(access: StoreAccess, window: Window) -> Count | None:
    data, _, _ = ask(access, queries.COUNT, {"query": search(window)}, cost=10)
    counted = data.get("ordersCount")
    if not counted:
        return None
    return Count(int(counted["count"]), exact=counted.get("precision") == "EXACT")


def shop(access: StoreAccess) -> Shop:
    data, _, answer = ask(access, queries.SHOP, {}, cost=5)
    row = data.get("shop")
    if not isinstance(row, dict):
        raise answer.not_json("it is not a shop")
    return Shop(gid(row["id"]), row["name"], row["myshopifyDomain"], row["currencyCode"], row["ianaTimezone"])


def granted(access: StoreAccess) -> tuple[str, ...]:
    """The scopes that the merchant grants now, which may be fewer than when the tokens were given."""
    data, _, answer = ask(access, queries.SCOPES, {}, cost=5)
    scopes = (data.get("currentAppInstallation") or {}).get("accessScopes")
    if not isinstance(scopes, list):
        raise answer.not_json("it is not a list of scopes")
    return tuple(str(scope.get("handle")) for scope in scopes if isinstance(scope, dict))
