"""Shopify refuses a query whose cost is over the cap: ours shrink until they are taken, and lose no order."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.domain.problems import STORE_REQUEST_REFUSED, STORE_THROTTLED, Refused, Retry
from gateway.domain.window import Window
from gateway.http import Answer
from gateway.platforms import REGISTRY
from gateway.platforms.base import App, Found, StoreAccess

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SHOPIFY = REGISTRY["shopify"]


@dataclass
class Shop:
    """Answers as the Admin API does, by a cap on orders times lines; `asked` are the sizes that were tried."""

    cap: int
    orders: int = 120
    lines: int = 13
    asked: list[int] = field(default_factory=list)
    throttled: int = 0

    def call(self, method: str, url: str, *, json: Any = None, **_: Any) -> Answer:
        variables, query = json["variables"], json["query"]
        if self.throttled:
            self.throttled -= 1
            return self._answer({"errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}]})
        size = len(variables.get("ids", ())) or variables.get("first", 1)
        cost = size * variables.get("lines", 1)
        if "MoreLines" not in query:
            self.asked.append(size)
            if cost > self.cap:
                told = {"code": "MAX_COST_EXCEEDED", "cost": cost * 900 / self.cap, "maxCost": 1000}
                return self._answer({"errors": [{"message": "Query cost exceeds", "extensions": told}]})
        if "MoreLines" in query:
            begin = int(variables["after"])
            return self._answer({"data": {"order": {"lineItems": self._lines(begin, self.lines)}}})
        if "ids" in variables:
            wanted = [int(one.rsplit("/", 1)[1]) for one in variables["ids"]]
            return self._answer({"data": {"nodes": [self._order(one, variables["lines"]) for one in wanted]}})
        begin = int(variables["after"] or 0)
        numbers = range(begin + 1, min(begin + size, self.orders) + 1)
        info = {"hasNextPage": numbers[-1] < self.orders, "endCursor": str(numbers[-1])}
        nodes = [self._order(number, variables.get("lines", 0)) for number in numbers]
        return self._answer({"data": {"orders": {"pageInfo": info, "nodes": nodes}}})

    def _order(self, number: int, lines: int) -> dict[str, Any]:
        return {"id": f"gid://shopify/Order/{number}", "updatedAt": "2026-11-24T10:00:00Z",
                "lineItems": self._lines(0, min(lines, self.lines))}  # fmt: skip

    def _lines(self, begin: int, end: int) -> dict[str, Any]:
        nodes = [{"id": f"gid://shopify/LineItem/{number}"} for number in range(begin + 1, end + 1)]
        return {"pageInfo": {"hasNextPage": end < self.lines, "endCursor": str(end)}, "nodes": nodes}

    def _answer(self, value: Any) -> Answer:
        return Answer(200, {"date": "Tue, 24 Nov 2026 12:00:00 GMT"}, json.dumps(value).encode(), 0.1, NOW)

    @property
    def access(self) -> StoreAccess:
        return StoreAccess(
            shop_id="1", domain="a.myshopify.com", base_url="", currency="USD", time_zone="UTC",
            credentials={"access_token": "t"}, app=App(), http=self,  # type: ignore[arg-type]
        )  # fmt: skip


def lines_of(found: Any) -> int:
    assert isinstance(found, Found)
    return len(json.loads(found.raw)["lineItems"]["nodes"])


@pytest.mark.parametrize("cap", [5, 17, 50, 120, 10_000])
def test_pages_shrink_until_they_are_taken_and_stay_so(cap: int) -> None:
    shop, cursor, ids = Shop(cap), None, []
    access = shop.access
    while True:
        page = SHOPIFY.list_page(access, Window(NOW - timedelta(days=7), NOW), cursor)
        ids += [order.external_id for order in page.orders]
        assert {lines_of(order) for order in page.orders} == {13}  # nested lines are drained
        cursor = page.cursor
        if cursor is None:
            break

    assert ids == [str(number) for number in range(1, 121)]
    refused = sum(1 for size in shop.asked[:4] if size * 5 > cap)
    assert len(shop.asked) <= 120 / min(shop.asked) + refused + 3  # it is not refused anew at each page


@pytest.mark.parametrize("cap", [5, 17, 50])
def test_single_orders_are_asked_for_in_halves_until_they_are_taken(cap: int) -> None:
    shop = Shop(cap)

    looks = list(SHOPIFY.fetch_orders(shop.access, [str(number) for number in range(1, 24)]))

    assert [look.external_id for look in looks] == [str(number) for number in range(1, 24)]
    assert {lines_of(look) for look in looks} == {13}


def test_what_can_not_be_made_smaller_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(cap=1)

    with pytest.raises(Refused) as listed:
        SHOPIFY.list_page(shop.access, Window(NOW - timedelta(days=7), NOW), None)
    with pytest.raises(Refused):  # as the probe of what is granted asks
        SHOPIFY.list_page(shop.access, Window(NOW - timedelta(days=7), NOW), None, size=1)
    with pytest.raises(Refused) as fetched:
        list(SHOPIFY.fetch_orders(shop.access, ["1"]))

    assert listed.value.problem is fetched.value.problem is STORE_REQUEST_REFUSED


def test_being_throttled_at_200_is_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(cap=10_000, throttled=1)

    with pytest.raises(Retry) as waited:
        list(SHOPIFY.fetch_orders(shop.access, ["1"]))

    assert waited.value.problem is STORE_THROTTLED
    assert waited.value.after_seconds > 0


# --- costs by the worst known reading: 2 + n times a node, buckets of 1000 and less ---------------------------------
LINE_COST, ORDER_COST = 6, 38
"""Objects that one line and one order without its lines ask for; 10 orders of 5 lines make 702 points."""


@dataclass
class LinearShop(Shop):
    """Costs are linear in what is asked for, and a bucket that holds less than a query costs refuses it for ever."""

    cap: int = 1_000
    maximum: float = 2_000.0
    costs: list[float] = field(default_factory=list)
    reserved: list[float] = field(default_factory=list)

    def call(self, method: str, url: str, *, json: Any = None, cost: float = 1.0, **_: Any) -> Answer:
        variables, query = json["variables"], json["query"]
        size, lines = len(variables.get("ids", ())) or variables["first"], variables.get("lines", 0)
        requested = 2 + size * (
            ORDER_COST + 2 + lines * LINE_COST if lines else LINE_COST if "MoreLines" in query else 1
        )
        status = {"maximumAvailable": self.maximum, "currentlyAvailable": self.maximum, "restoreRate": 50.0}
        told = {"cost": {"requestedQueryCost": requested, "actualQueryCost": None, "throttleStatus": status}}
        self.reserved.append(cost)
        self.costs.append(requested)
        if requested > self.cap:
            refusal = {"code": "MAX_COST_EXCEEDED", "cost": requested, "maxCost": self.cap}
            return self._answer({"errors": [{"message": "Query cost exceeds", "extensions": refusal}]})
        if requested > self.maximum:
            return self._answer({"errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}],
                                 "extensions": told})  # fmt: skip
        value = json_of(Shop.call(Shop(cap=10**9, orders=self.orders, lines=self.lines), method, url, json=json))
        return self._answer({**value, "extensions": told})


def json_of(answer: Answer) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(answer.body)
    return value


def _list_all(access: StoreAccess, ask: Any) -> list[Any]:
    cursor, found = None, []
    while True:
        page = ask(access, Window(NOW - timedelta(days=7), NOW), cursor)
        found += [*page.orders, *page.heads]
        cursor = page.cursor
        if cursor is None:
            return found


@pytest.mark.parametrize("maximum", [2_000.0, 1_000.0, 700.0, 150.0])
def test_pages_shrink_below_what_the_cap_and_the_bucket_bear(maximum: float) -> None:
    shop = LinearShop(maximum=maximum)
    access = shop.access

    whole = _list_all(access, SHOPIFY.list_page)
    assert SHOPIFY.list_heads is not None
    heads = _list_all(access, SHOPIFY.list_heads)
    looks = list(SHOPIFY.fetch_orders(access, [str(number) for number in range(1, 24)]))

    assert [order.external_id for order in whole] == [head.external_id for head in heads]
    assert [order.external_id for order in whole] == [str(number) for number in range(1, 121)]
    assert {lines_of(order) for order in [*whole, *looks]} == {13}


def test_what_a_store_allows_is_remembered_from_listing_to_listing() -> None:
    shop = LinearShop()
    access = shop.access
    _list_all(access, SHOPIFY.list_page)
    list(SHOPIFY.fetch_orders(access, [str(number) for number in range(1, 24)]))
    shop.costs.clear()

    _list_all(access, SHOPIFY.list_page)
    list(SHOPIFY.fetch_orders(access, [str(number) for number in range(1, 24)]))

    assert max(shop.costs) <= 1_000


def test_no_more_is_set_aside_than_a_query_may_cost() -> None:
    """What was set aside for a page of ten was the cost of the fifty that were refused: more than a bucket holds."""
    shop = LinearShop()

    _list_all(shop.access, SHOPIFY.list_page)

    assert max(shop.reserved) <= 1_000


@pytest.mark.parametrize("cursor", [None, ""])
def test_a_list_that_does_not_say_where_it_goes_on_is_no_list(
    cursor: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop(cap=10_000)
    info = {"hasNextPage": True, "endCursor": cursor}
    answer = {"data": {"orders": {"pageInfo": info, "nodes": []}}}
    monkeypatch.setattr(Shop, "call", lambda self, *_, **__: self._answer(answer))

    with pytest.raises(Retry):
        SHOPIFY.list_page(shop.access, Window(NOW - timedelta(days=7), NOW), None)
