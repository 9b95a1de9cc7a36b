"""The simulated Shopify's GraphQL: the sheet's own queries on the real schema, with its costs, wall and refusals."""

from __future__ import annotations

import base64
import json
import re
from datetime import timedelta
from typing import Any

import pytest
from graphql import FragmentDefinitionNode, OperationDefinitionNode, parse, print_ast, validate

from gateway.sandbox import shopify_graphql
from gateway.sandbox.orders import totals
from gateway.sandbox.shopify import ShopifyStore
from gateway.sandbox.world import World
from tests.sandbox.conftest import FIXTURES, Clock, Shopify

LEAN = (FIXTURES / "shopify" / "lean.graphql").read_text()
HEADS = (FIXTURES / "shopify" / "heads.graphql").read_text()
RICH = (FIXTURES / "shopify" / "backfill.graphql").read_text()
HOOKS = (FIXTURES / "shopify" / "webhooks.graphql").read_text()
EVER = "updated_at:>='2020-01-01T00:00:00Z'"


def _run(shopify: Shopify, text: str, name: str, **variables: Any) -> dict[str, Any]:
    """One operation of a document with several."""
    wanted = [
        each
        for each in parse(text).definitions
        if isinstance(each, FragmentDefinitionNode)
        or (isinstance(each, OperationDefinitionNode) and _named(each, name))
    ]
    document = "\n".join(print_ast(each) for each in wanted)
    return shopify_graphql.run(shopify.store, _without_unused(document), variables, name)


def _named(operation: OperationDefinitionNode, name: str) -> bool:
    return operation.name is not None and operation.name.value == name


def _without_unused(text: str) -> str:
    """Drop fragments that nothing spreads (GraphQL refuses them)."""
    document = parse(text)
    while True:
        spread = set(re.findall(r"\.\.\.\s*([A-Z]\w*)", text))
        kept = [
            each
            for each in document.definitions
            if not isinstance(each, FragmentDefinitionNode) or each.name.value in spread
        ]
        if len(kept) == len(document.definitions):
            return text
        text = "\n".join(print_ast(each) for each in kept)
        document = parse(text)


@pytest.mark.parametrize("text", [LEAN, HEADS, RICH])
def test_the_sheets_queries_are_valid_in_the_pruned_schema(text: str) -> None:
    assert validate(shopify_graphql.schema(), parse(text)) == []


@pytest.mark.parametrize(
    ("orders", "lines", "cost"),
    [(10, 5, 372), (10, 50, 597), (25, 10, 554), (50, 10, 738), (100, 25, 911), (250, 5, 816)],
)
def test_lean_costs_what_the_sheet_computed(shopify: Shopify, orders: int, lines: int, cost: int) -> None:
    answer = shopify.call(LEAN, first=orders, query=EVER, lines=lines).json

    assert answer["extensions"]["cost"]["requestedQueryCost"] == cost


def test_heads_cost_13_and_a_dear_query_is_not_executed(shopify: Shopify) -> None:
    heads = shopify.call(HEADS, first=250, query=EVER).json
    dear = _run(shopify, RICH, "BackfillOrders", first=50, query=EVER, lines=10)
    edge = shopify.call(LEAN, first=250, query=EVER, lines=10)

    assert heads["extensions"]["cost"]["requestedQueryCost"] == 13
    assert dear["errors"][0]["extensions"] == {"code": "MAX_COST_EXCEEDED", "cost": 2458, "maxCost": 1000}
    assert "data" not in dear
    assert (edge.status_code, edge.json["errors"][0]["extensions"]["cost"]) == (200, 1014)


def test_a_whole_order_answers_the_rich_query(shopify: Shopify) -> None:
    order = shopify.store.place(lines=3, coupon=True, currency="JPY", tags=["b", "a"])
    shopify.store.change(order.id, "ship_part")
    shopify.store.change(order.id, "refund")

    answer = _run(shopify, RICH, "BackfillOrders", first=5, query=EVER, lines=10)

    assert "errors" not in answer
    (node,) = answer["data"]["orders"]["nodes"]
    assert node["legacyResourceId"] == str(order.id)
    assert node["presentmentCurrencyCode"] == "JPY"
    assert node["displayFulfillmentStatus"] == "PARTIALLY_FULFILLED"
    assert node["refunds"][0]["totalRefundedSet"]["shopMoney"]["currencyCode"] == "GBP"
    assert node["tags"] == ["a", "b"]


def test_lines_are_paged_by_cursor(shopify: Shopify) -> None:
    order = shopify.store.place(lines=260)
    seen: list[str] = []
    after = None
    while True:
        answer = _run(
            shopify, RICH, "OrderLinesPage", id=f"gid://shopify/Order/{order.id}", first=20, after=after
        )  # fmt: skip
        page = answer["data"]["order"]["lineItems"]
        seen += [line["id"] for line in page["nodes"]]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break

    assert seen == [f"gid://shopify/LineItem/{line.id}" for line in order.lines]


def test_orders_are_paged_by_keyset_and_a_moved_order_comes_again_later(shopify: Shopify, clock: Clock) -> None:
    placed = [shopify.store.place(quiet=True) for _ in range(7)]
    first = shopify.data(HEADS, first=3, query=EVER)["orders"]
    clock.move(60)
    shopify.store.change(placed[0].id, "note", quiet=True)
    cursor = json.loads(base64.b64decode(first["pageInfo"]["endCursor"]))

    second = shopify.data(HEADS, first=3, query=EVER, after=first["pageInfo"]["endCursor"])["orders"]
    third = shopify.data(HEADS, first=3, query=EVER, after=second["pageInfo"]["endCursor"])["orders"]

    ids = [int(node["legacyResourceId"]) for page in (first, second, third) for node in page["nodes"]]
    assert ids == [order.id for order in placed] + [placed[0].id]
    assert set(cursor) == {"last_id", "last_value"}
    assert [page["pageInfo"]["hasNextPage"] for page in (first, second, third)] == [True, True, False]


def test_reverse_last_and_before_mirror_first_and_after(shopify: Shopify, clock: Clock) -> None:
    placed = []
    for _ in range(5):
        placed.append(shopify.store.place(quiet=True).id)
        clock.move(1)
    query = """query($first:Int,$last:Int,$after:String,$before:String,$reverse:Boolean){
      orders(first:$first,last:$last,after:$after,before:$before,reverse:$reverse,sortKey:UPDATED_AT){
        nodes{legacyResourceId} edges{cursor} pageInfo{hasNextPage hasPreviousPage}}}"""

    def ids(page: dict[str, Any]) -> list[int]:
        return [int(node["legacyResourceId"]) for node in page["orders"]["nodes"]]

    newest = shopify.data(query, first=2, reverse=True)
    older = shopify.data(query, first=2, reverse=True, after=newest["orders"]["edges"][-1]["cursor"])
    tail = shopify.data(query, last=2)
    before = shopify.data(query, last=2, before=tail["orders"]["edges"][0]["cursor"])

    assert ids(newest) == placed[:2:-1]
    assert ids(older) == [placed[2], placed[1]]
    assert ids(tail) == placed[3:]
    assert ids(before) == placed[1:3]
    assert before["orders"]["pageInfo"] == {"hasNextPage": True, "hasPreviousPage": True}


def test_bounds_are_exact_to_the_second(shopify: Shopify, clock: Clock) -> None:
    for _ in range(3):
        shopify.store.place(quiet=True)
        clock.move(1)
    count = "query($query:String){ordersCount(query:$query){count precision}}"

    def found(query: str) -> int:
        return shopify.data(count, query=query)["ordersCount"]["count"]

    second = "2026-11-24T09:30:01Z"
    assert found(f"updated_at:>='{second}'") == 2
    assert found(f"updated_at:>'{second}'") == 1
    assert found(f"updated_at:<'{second}'") == 1
    assert found(f"updated_at:<='{second}'") == 2
    assert found(f"created_at:>='2026-11-24T09:30:00Z' AND created_at:<'{second}'") == 1
    assert found("updated_at:>='2026-11-24T10:30:01+01:00'") == 2


def test_a_count_stops_at_its_limit(shopify: Shopify) -> None:
    for _ in range(5):
        shopify.store.place(quiet=True)

    answer = shopify.data("{a: ordersCount(limit: 3){count precision} b: ordersCount{count precision}}")

    assert answer["a"] == {"count": 3, "precision": "AT_LEAST"}
    assert answer["b"] == {"count": 5, "precision": "EXACT"}


def test_a_misspelt_filter_returns_everything_with_a_warning(shopify: Shopify) -> None:
    shopify.store.place(quiet=True)

    answer = shopify.call(HEADS, first=5, query="updatd_at:>='2027-01-01T00:00:00Z'").json

    assert len(answer["data"]["orders"]["nodes"]) == 1
    assert answer["extensions"]["search"][0]["warnings"][0]["field"] == "updatd_at"


def test_nothing_older_than_60_days_is_shown_anywhere(shopify: Shopify, clock: Clock) -> None:
    old = shopify.store.place(at=clock() - timedelta(days=60, seconds=1))
    new = shopify.store.place(at=clock() - timedelta(days=60))
    shopify.store.change(old.id, "note")
    query = """query($a:ID!,$b:ID!){ordersCount{count} node(id:$a){id} order(id:$a){id} nodes(ids:[$a,$b]){id}
      orders(first:5){nodes{id}}}"""
    gids = {"a": f"gid://shopify/Order/{old.id}", "b": f"gid://shopify/Order/{new.id}"}

    hidden = shopify.data(query, **gids)
    shopify.store.scopes.append("read_all_orders")
    shown = shopify.data(query, **gids)

    assert hidden == {
        "ordersCount": {"count": 1},
        "node": None,
        "order": None,
        "nodes": [None, {"id": gids["b"]}],
        "orders": {"nodes": [{"id": gids["b"]}]},
    }
    assert shown["ordersCount"] == {"count": 2}
    assert shown["nodes"] == [{"id": gids["a"]}, {"id": gids["b"]}]


def test_a_deleted_order_is_null(shopify: Shopify) -> None:
    order = shopify.store.place()
    shopify.store.change(order.id, "delete")

    answer = shopify.data("query($id:ID!){node(id:$id){id}}", id=f"gid://shopify/Order/{order.id}")

    assert answer == {"node": None}


def test_without_protected_data_fields_are_null_beside_errors_at_200(shopify: Shopify) -> None:
    shopify.store.place()
    shopify.store.protected_data = 1

    response = shopify.call(LEAN, first=1, query=EVER, lines=1)

    (node,) = response.json["data"]["orders"]["nodes"]
    assert response.status_code == 200
    assert (node["email"], node["customer"]["firstName"], node["shippingAddress"]["name"]) == (None, None, None)
    assert node["customer"]["id"].startswith("gid://shopify/Customer/")
    codes = {error["extensions"]["code"] for error in response.json["errors"]}
    paths = [error["path"] for error in response.json["errors"]]
    assert codes == {"ACCESS_DENIED"}
    assert ["orders", "nodes", 0, "customer", "firstName"] in paths
    assert ["orders", "nodes", 0, "email"] in paths


def test_a_missing_scope_denies_its_objects_only(shopify: Shopify) -> None:
    shopify.store.place()
    shopify.store.scopes = ["read_orders"]

    answer = shopify.call(LEAN, first=1, query=EVER, lines=1).json

    (node,) = answer["data"]["orders"]["nodes"]
    assert node["email"]
    assert node["customer"] is None
    assert node["lineItems"]["nodes"][0]["variant"] is None
    denied = {error["path"][-1]: error["extensions"]["requiredAccess"] for error in answer["errors"]}
    assert denied["customer"] == "`read_customers` access scope."
    assert denied["variant"] == "`read_products` access scope."


def test_an_answer_kept_for_speed_is_forgotten_with_a_change(shopify: Shopify) -> None:
    order = shopify.store.place(lines=2)
    query = "query($lines:Int!){orders(first:1){nodes{note lineItems(first:$lines){nodes{id}}}}}"
    before = shopify.data(query, lines=1)["orders"]["nodes"][0]

    shopify.store.change(order.id, "note", note="new")

    assert len(before["lineItems"]["nodes"]) == 1
    assert shopify.data(query, lines=2)["orders"]["nodes"][0]["note"] == "new"
    assert len(shopify.data(query, lines=2)["orders"]["nodes"][0]["lineItems"]["nodes"]) == 2


def test_an_empty_bucket_throttles_at_200_and_fills_again(world: World, client: Any, clock: Clock) -> None:
    store = world.add_store("shopify", currency="GBP")
    assert isinstance(store, ShopifyStore)
    shopify = Shopify(client, store)
    for _ in range(12):
        store.place(quiet=True)

    first = shopify.call(LEAN, first=50, query=EVER, lines=10)
    shopify.call(LEAN, first=50, query=EVER, lines=10)
    refused = shopify.call(LEAN, first=50, query=EVER, lines=10)
    clock.move(3)
    again = shopify.call(LEAN, first=50, query=EVER, lines=10)

    assert first.json["extensions"]["cost"]["throttleStatus"] == {
        "maximumAvailable": 2000.0,
        "currentlyAvailable": 1262,
        "restoreRate": 100.0,
    }
    assert refused.status_code == 200
    assert refused.json == {
        "errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}],
        "extensions": {
            "cost": {
                "requestedQueryCost": 738,
                "actualQueryCost": None,
                "throttleStatus": {"maximumAvailable": 2000.0, "currentlyAvailable": 524, "restoreRate": 100.0},
            }
        },
    }
    assert "errors" not in again.json


def test_a_wrong_token_is_401_with_shopifys_words(shopify: Shopify) -> None:
    answer = shopify.call("{shop{id}}", token="shpat_wrong")

    assert answer.status_code == 401
    assert answer.json["errors"].startswith("[API] Invalid API key or access token")


def test_a_token_expires_after_an_hour(shopify: Shopify, clock: Clock) -> None:
    token = shopify.store.access_tokens[-1].value
    clock.move(3599)
    assert shopify.call("{shop{id}}", token=token).status_code == 200
    clock.move(1)
    assert shopify.call("{shop{id}}", token=token).status_code == 401


def _refresh(shopify: Shopify, token: str, **other: str) -> Any:
    app = shopify.store.world.shopify_app
    form = {"client_id": app.client_id, "client_secret": app.client_secret, "grant_type": "refresh_token"}
    address = f"/shopify/{shopify.store.key}/admin/oauth/access_token"
    return shopify.client.post(address, data={**form, "refresh_token": token, **other})


def test_refreshing_rotates_and_the_old_token_works_until_the_new_one_is_used(shopify: Shopify) -> None:
    first = shopify.store.refresh_tokens[0].value
    second = _refresh(shopify, first).json
    retried = _refresh(shopify, first)
    third = _refresh(shopify, second["refresh_token"])

    assert second["access_token"].startswith("shpat_")
    assert second["expires_in"] == 3600
    assert second["refresh_token_expires_in"] == 7_776_000
    assert shopify.call("{shop{id}}", token=second["access_token"]).status_code == 200
    assert (retried.status_code, third.status_code) == (200, 200)
    dead = _refresh(shopify, first)
    assert (dead.status_code, dead.json["error"]) == (400, "invalid_grant")
    assert _refresh(shopify, retried.json["refresh_token"]).status_code == 400
    assert _refresh(shopify, third.json["refresh_token"], client_secret="wrong").status_code == 400


def test_a_new_installation_kills_older_refresh_tokens(shopify: Shopify) -> None:
    old = shopify.store.refresh_tokens[0].value
    shopify.store.install()

    assert _refresh(shopify, old).status_code == 400


def test_subscriptions_are_made_listed_changed_and_deleted(shopify: Shopify) -> None:
    uri = {"uri": "https://gateway.test/hooks", "name": "orders"}
    made = _run(shopify, HOOKS, "CreateSub", topic="ORDERS_PAID", sub=uri)["data"]["webhookSubscriptionCreate"]
    again = _run(shopify, HOOKS, "CreateSub", topic="ORDERS_PAID", sub=uri)["data"]["webhookSubscriptionCreate"]
    gid = made["webhookSubscription"]["id"]
    moved = _run(shopify, HOOKS, "UpdateSub", id=gid, sub={"uri": "https://gateway.test/other"})
    listed = _run(shopify, HOOKS, "ListSubs")["data"]["webhookSubscriptions"]["nodes"]
    deleted = _run(shopify, HOOKS, "DeleteSub", id=gid)["data"]["webhookSubscriptionDelete"]

    assert made["userErrors"] == []
    assert "already been taken" in again["userErrors"][0]["message"]
    assert moved["data"]["webhookSubscriptionUpdate"]["webhookSubscription"]["uri"] == "https://gateway.test/other"
    assert [each["topic"] for each in listed] == ["ORDERS_PAID"]
    assert deleted == {"deletedWebhookSubscriptionId": gid, "userErrors": []}
    assert _run(shopify, HOOKS, "ListSubs")["data"]["webhookSubscriptions"]["nodes"] == []


def test_the_shop_and_its_scopes_are_told(shopify: Shopify) -> None:
    answer = _run(shopify, HOOKS, "ShopIdentity")["data"]

    assert answer["shop"]["myshopifyDomain"] == "fern-and-clay.myshopify.com"
    assert answer["shop"]["ianaTimezone"] == "Europe/London"
    assert {"handle": "read_orders"} in answer["currentAppInstallation"]["accessScopes"]


def test_sums_agree_with_the_truth(shopify: Shopify) -> None:
    order = shopify.store.place(lines=3, coupon=False)
    shopify.store.change(order.id, "edit")
    shopify.store.change(order.id, "refund")
    query = "{orders(first:1){nodes{totalPriceSet{shopMoney{amount}} currentTotalPriceSet{shopMoney{amount}}}}}"

    (node,) = shopify.data(query)["orders"]["nodes"]

    assert round(float(node["totalPriceSet"]["shopMoney"]["amount"]) * 100) == totals(order, "placed").total
    assert round(float(node["currentTotalPriceSet"]["shopMoney"]["amount"]) * 100) == totals(order, "current").total
