"""The simulated Shopify's bulk operations: what they take, how long they are on their way, what they leave."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from graphql import build_schema, parse, print_ast, validate
from werkzeug.test import TestResponse

from gateway.sandbox import shopify_bulk, shopify_graphql
from tests.sandbox.conftest import FIXTURES, Clock, Shopify

DOCUMENT = parse((FIXTURES / "shopify" / "webhooks.graphql").read_text())
RUN, LOOK = (
    print_ast(each) for name in ("RunBulk", "BulkStatus") for each in DOCUMENT.definitions if each.name.value == name
)
LINES = "{orders{edges{node{id note lineItems{edges{node{id quantity}}}}}}}"


def _begin(shopify: Shopify, query: str = LINES, *, grouped: bool = True) -> dict[str, Any]:
    text = RUN if not grouped else RUN.replace("groupObjects: false", "groupObjects: true")
    return shopify.data(text, q=query)["bulkOperationRunQuery"]


def _look(shopify: Shopify, begun: dict[str, Any]) -> dict[str, Any]:
    return shopify.data(LOOK, id=begun["bulkOperation"]["id"])["bulkOperation"]


def _get(shopify: Shopify, url: str, **headers: str) -> TestResponse:
    return shopify.client.get(url.removeprefix("http://sandbox.test"), headers=headers)


def _ended(shopify: Shopify, clock: Clock, begun: dict[str, Any]) -> dict[str, Any]:
    clock.move(60)
    return _look(shopify, begun)


def test_both_queries_are_valid_in_the_pruned_schema() -> None:
    for text in (RUN, LOOK):
        assert validate(shopify_graphql.schema(), parse(text)) == []


def test_an_operation_takes_its_time_by_the_stores_clock(shopify: Shopify, clock: Clock) -> None:
    for _ in range(10):
        shopify.store.place(quiet=True, lines=1)
    shopify.store.bulk_orders_per_second = 1.0
    shopify.store.skew = timedelta(hours=1)
    shopify.store.issue_tokens()

    begun = _begin(shopify)
    statuses = []
    for seconds in (0, 1, 9.5, 0.5):
        clock.move(seconds)
        statuses.append(_look(shopify, begun)["status"])
    done = _look(shopify, begun)
    clock.move(7 * 86_400)
    shopify.store.issue_tokens()
    old = _look(shopify, begun)

    assert begun["userErrors"] == []
    assert statuses == ["CREATED", "RUNNING", "RUNNING", "COMPLETED"]
    assert (done["objectCount"], done["rootObjectCount"], done["errorCode"]) == ("20", "10", None)
    assert done["completedAt"] == "2026-11-24T10:30:11Z"
    assert (old["status"], old["url"]) == ("EXPIRED", None)
    assert _get(shopify, done["url"]).status_code == 403


def test_children_have_lines_of_their_own_below_their_parent(shopify: Shopify, clock: Clock) -> None:
    orders = [shopify.store.place(quiet=True, lines=2), shopify.store.place(quiet=True, lines=1)]

    done = _ended(shopify, clock, _begin(shopify))

    file = _get(shopify, done["url"])
    lines = [json.loads(line) for line in file.data.splitlines()]
    gids = [f"gid://shopify/Order/{order.id}" for order in orders]
    assert [line.get("__parentId", line["id"]) for line in lines] == [*[gids[0]] * 3, *[gids[1]] * 2]
    assert lines[0] == {"id": gids[0], "note": orders[0].note or None}
    assert lines[1] == {
        "id": f"gid://shopify/LineItem/{orders[0].lines[0].id}", "quantity": orders[0].lines[0].quantity,
        "__parentId": gids[0],
    }  # fmt: skip
    assert done["fileSize"] == str(len(file.data))
    assert b"gid:\\/\\/shopify\\/" in file.data


def test_ungrouped_children_come_anywhere_after_their_parents(shopify: Shopify, clock: Clock) -> None:
    for _ in range(2):
        shopify.store.place(quiet=True, lines=1)

    done = _ended(shopify, clock, _begin(shopify, grouped=False))

    lines = [json.loads(line) for line in _get(shopify, done["url"]).data.splitlines()]
    assert ["__parentId" in line for line in lines] == [False, False, True, True]


def test_more_than_250_lines_are_all_there_and_no_budget_is_drawn_on(shopify: Shopify, clock: Clock) -> None:
    shopify.store.place(quiet=True, lines=260)
    answer = shopify.call(RUN, q=LINES).json

    done = _ended(shopify, clock, answer["data"]["bulkOperationRunQuery"])

    assert answer["extensions"]["cost"]["requestedQueryCost"] == 10
    assert done["objectCount"] == "261"


def test_a_file_is_sent_from_any_byte_on(shopify: Shopify, clock: Clock) -> None:
    shopify.store.place(quiet=True, lines=2)
    url = _ended(shopify, clock, _begin(shopify))["url"]
    whole = _get(shopify, url).data

    rest = _get(shopify, url, Range="bytes=100-")
    beyond = _get(shopify, url, Range=f"bytes={len(whole)}-")

    assert (rest.status_code, rest.data) == (206, whole[100:])
    assert rest.headers["Content-Range"] == f"bytes 100-{len(whole) - 1}/{len(whole)}"
    assert beyond.status_code == 416


def test_a_token_is_refused_where_the_file_lies(shopify: Shopify, clock: Clock) -> None:
    shopify.store.place(quiet=True)
    url = _ended(shopify, clock, _begin(shopify))["url"]

    assert _get(shopify, url, **{"X-Shopify-Access-Token": "shpat_x"}).status_code == 400
    assert _get(shopify, url).status_code == 200


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("{shop{id}}", "at least one connection"),
        ("{nodes(ids:[]){id}}", "top level `node` or `nodes`"),
        ('{node(id:"gid://shopify/Order/1"){id} orders{edges{node{id}}}}', "top level `node` or `nodes`"),
        ("{a:orders{nodes{id}} b:orders{nodes{id}} c:orders{nodes{id}} d:orders{nodes{id}} e:orders{nodes{id}}"
         " f:orders{nodes{id}}}", "more than 5 connections"),
        ("{orders{edges{node{id colour}}}}", "Cannot query field 'colour'"),
        ("{orders{edges", "Syntax Error"),
        ('mutation{webhookSubscriptionDelete(id:"x"){deletedWebhookSubscriptionId}}', "must be a query"),
    ],
)  # fmt: skip
def test_what_is_not_run_in_bulk(shopify: Shopify, query: str, why: str) -> None:
    begun = _begin(shopify, query)

    assert begun["bulkOperation"] is None
    assert begun["userErrors"][0]["code"] == "INVALID"
    assert why in begun["userErrors"][0]["message"]


def test_five_run_at_once_and_no_sixth(shopify: Shopify, clock: Clock) -> None:
    shopify.store.place(quiet=True)

    begun = [_begin(shopify) for _ in range(6)]
    clock.move(60)

    assert [each["userErrors"][0]["code"] if each["userErrors"] else None for each in begun] == [
        *[None] * 5, "LIMIT_REACHED",
    ]  # fmt: skip
    assert _begin(shopify)["userErrors"] == []


def test_a_failed_operation_leaves_the_half_that_it_had(shopify: Shopify, clock: Clock) -> None:
    for _ in range(3):
        shopify.store.place(quiet=True, lines=2)
    shopify.store.faults.set({"bulk_fail": 1})

    failed = _ended(shopify, clock, _begin(shopify))

    assert (failed["status"], failed["errorCode"]) == ("FAILED", "INTERNAL_SERVER_ERROR")
    assert failed["url"] is None
    assert len(_get(shopify, failed["partialDataUrl"]).data.splitlines()) == 4  # of 9: an order, its lines, an order


@pytest.mark.parametrize(("fault", "status"), [("bulk_cancel", "CANCELED"), ("bulk_expire", "EXPIRED")])
def test_an_operation_may_end_with_nothing(shopify: Shopify, clock: Clock, fault: str, status: str) -> None:
    shopify.store.place(quiet=True)
    shopify.store.faults.set({fault: 1})

    ended = _ended(shopify, clock, _begin(shopify))

    assert (ended["status"], ended["url"], ended["partialDataUrl"]) == (status, None, None)


def test_a_link_may_lead_to_nothing_and_an_operation_be_refused(shopify: Shopify, clock: Clock) -> None:
    shopify.store.place(quiet=True)
    shopify.store.faults.set({"bulk_gone": 1})
    url = _ended(shopify, clock, _begin(shopify))["url"]
    gone, there = _get(shopify, url).status_code, _get(shopify, url).status_code
    shopify.store.faults.set({"bulk_refuse": 1})

    refused = _begin(shopify)

    assert (gone, there) == (403, 200)
    assert refused["userErrors"][0]["code"] == "INVALID"


def test_a_denied_field_fails_the_whole_operation(shopify: Shopify, clock: Clock) -> None:
    shopify.store.place(quiet=True)
    shopify.store.protected_data = 1

    failed = _ended(shopify, clock, _begin(shopify, "{orders{edges{node{id email}}}}"))

    assert (failed["status"], failed["errorCode"]) == ("FAILED", "ACCESS_DENIED")
    assert failed["partialDataUrl"] is None


def test_nothing_found_leaves_no_file(shopify: Shopify, clock: Clock) -> None:
    done = _ended(shopify, clock, _begin(shopify))

    assert (done["status"], done["url"], done["objectCount"]) == ("COMPLETED", None, "0")


def test_an_operation_that_is_not_known_is_null(shopify: Shopify) -> None:
    assert shopify.data(LOOK, id="gid://shopify/BulkOperation/1") == {"bulkOperation": None}


def test_connections_nest_two_levels_deep_and_no_deeper() -> None:
    made = build_schema(
        "type Query {rows: RowConnection} type Row {id: ID! rows: RowConnection}"
        " type RowConnection {nodes: [Row!]! edges: [RowEdge!]!} type RowEdge {node: Row!}"
    )

    deep = [
        shopify_bulk.refusal(made, "{rows{edges{node{id rows{nodes{id rows{edges{node{id" + more + "}}}}}}}}}")
        for more in ("", " rows{nodes{id}}")
    ]

    assert deep == [None, "Bulk queries cannot contain connections with a nesting depth greater than 2."]
