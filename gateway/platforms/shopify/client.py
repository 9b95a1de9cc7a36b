"""Shopify's GraphQL Admin API: windows, single orders, counts, and what its answers mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

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
HEADS_SIZE = 250
LINES = 10
MOST_WHOLE = 100
BY_ID = (10, LINES, 500.0)
"""Orders asked for by id at once to begin with, the lines of each, and what that may cost."""
FEW, FEWEST_LINES = 10, 5
"""50 orders of 10 lines to begin with; 10 of 5 stays under the cap of 1,000 by every known reading of the costs."""

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
    """The query was not run: its cost is over the cap for a single one. Asking for less at once is the mend."""

    def __init__(self, cost: float) -> None:
        super().__init__(STORE_REQUEST_REFUSED, f"cost {cost:.0f}", status=200, why="its cost is over the limit")
        self.cost = cost


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
        raise Retry(STORE_THROTTLED, "cost", after_seconds=_throttled_for(answer))
    if code == "MAX_COST_EXCEEDED":
        raise TooCostly(float((error.get("extensions") or {}).get("cost") or 2000))
    if code == "INTERNAL_SERVER_ERROR":
        raise Retry(STORE_ERROR, "internal error", after_seconds=5, status=200)
    if code == "ACCESS_DENIED" and len(error.get("path") or ()) <= 1:
        raise NeedsMerchant(PERMISSION_MISSING, str(error.get("message"))[:200], why="access denied")


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
    state = dict(cursor or {"after": None, "first": PAGE_SIZE, "lines": LINES, "cost": 600})
    state["first"] = min(size or state["first"], MOST_WHOLE)
    while True:
        variables = {"first": state["first"], "lines": state["lines"], "after": state["after"],
                     "query": search(window)}  # fmt: skip
        try:
            data, errors, answer = ask(access, queries.ORDERS, variables, cost=float(state["cost"]))
            break
        except TooCostly as error:
            if (state["first"], state["lines"]) == (1, FEWEST_LINES):
                raise
            smaller = _smaller(state["first"], error.cost)
            lines = FEWEST_LINES if smaller <= FEW else state["lines"]
            state.update(first=smaller, lines=lines, cost=error.cost)
    nodes, following = _nodes(data, answer, state)
    denied = _denied(errors)
    orders = [_found(access, node, answer, denied) for node in nodes]
    # A misspelt filter is ignored by Shopify and returns everything; and an order that moves on meanwhile has left.
    orders = [order for order in orders if order.updated_at is None or order.updated_at in window]
    return Page(orders, following, answer.observed_at)


def list_heads(access: StoreAccess, window: Window, cursor: Cursor | None) -> Page:
    """The next 250 heads: scalars cost nothing, so a page costs what its 250 orders do bare."""
    state = dict(cursor or {"after": None, "first": HEADS_SIZE, "cost": 260})
    variables = {"first": state["first"], "after": state["after"], "query": search(window)}
    try:
        data, _, answer = ask(access, queries.HEADS, variables, cost=float(state["cost"]))
    except TooCostly as error:
        if state["first"] == 1:
            raise
        return list_heads(access, window, {**state, "first": _smaller(state["first"], error.cost), "cost": error.cost})
    nodes, following = _nodes(data, answer, state)
    heads = [Head(gid(node.get("id")), updated_at(node), marks(node)) for node in nodes]
    heads = [head for head in heads if head.updated_at is None or head.updated_at in window]
    return Page((), following, answer.observed_at, heads)


def _smaller(first: int, cost: float) -> int:
    """How many to ask for instead, when so many cost so much: fewer each time, at least one."""
    return max(1, min(int(first * 900 / cost), first - 1))


def _nodes(
    data: Mapping[str, Any], answer: Answer, state: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], Cursor | None]:
    """A page's orders, and where the next one begins, at what cost."""
    connection = data.get("orders")
    if not isinstance(connection, dict) or not isinstance(connection.get("nodes"), list):
        raise answer.not_json("it is not a list of orders")
    nodes = [node for node in connection["nodes"] if isinstance(node, dict)]
    info = connection.get("pageInfo") or {}
    if not info.get("hasNextPage"):
        return nodes, None
    return nodes, {**state, "after": info.get("endCursor"), "cost": _requested(answer) or state["cost"]}


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
        data, _, later = ask(access, queries.MORE_LINES, {"id": node["id"], "after": after}, cost=100)
        more = (data.get("order") or {}).get("lineItems") or {"nodes": []}
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
        first, lines, cost = access.sizes.get("by id", BY_ID)
        some = rest[:first]
        try:
            looks = _by_ids(access, some, lines, cost)
        except TooCostly as error:
            if (len(some), lines) == (1, FEWEST_LINES):
                raise
            smaller = _smaller(len(some), error.cost)
            access.sizes["by id"] = (smaller, FEWEST_LINES if smaller <= FEW else lines, error.cost)
            continue
        rest = rest[len(some) :]
        yield from looks


def _by_ids(access: StoreAccess, ids: Sequence[str], lines: int, cost: float) -> list[LookUp]:
    variables = {"ids": [f"gid://shopify/Order/{identity}" for identity in ids], "lines": lines}
    data, errors, answer = ask(access, queries.ORDERS_BY_ID, variables, cost=cost)
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
