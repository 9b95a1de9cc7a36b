"""The simulated WooCommerce's lists and errors, held against the sheet's facts 8 to 11 and the captures."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from gateway.sandbox.world import World
from tests.sandbox.conftest import FIXTURES, Clock, Woo, captured


def test_a_list_has_every_captured_header(woo: Woo) -> None:
    woo.store.place()
    head, _ = captured("fields-list")

    ours = woo.get("/orders", _fields="id,date_modified_gmt,status,total", per_page=10, orderby="modified", order="asc")

    names = {name for name, _ in head["headers"]} - {"Host", "Connection", "Link"}
    assert names <= set(ours.headers.keys())
    for name in ("Content-Type", "Allow", "Expires", "Cache-Control", "X-Powered-By"):
        assert ours.headers[name] == dict(head["headers"])[name]
    assert list(ours.json[0]) == ["id", "status", "total", "date_modified_gmt"]


def test_a_middle_page_links_to_both_sides_as_captured(woo: Woo) -> None:
    for _ in range(30):
        woo.store.place(quiet=True)
    head = json.loads((FIXTURES / "woocommerce" / "page2.json").read_text())
    query = head["request"].partition("?")[2].replace("2026-11-24T04:13:33", "2026-11-24T09:29:59")

    ours = woo.call("GET", f"/orders?{query}")

    real = dict(head["headers"])
    expected = real["Link"].replace("https://127.0.0.1:8443", woo.store.url).replace("04%3A13%3A33", "09%3A29%3A59")
    assert ours.headers["Link"] == expected
    assert ours.headers["X-WP-Total"] == real["X-WP-Total"]
    assert ours.headers["X-WP-TotalPages"] == real["X-WP-TotalPages"]


def test_the_date_header_is_the_stores_own_clock(woo: Woo) -> None:
    woo.store.skew = timedelta(seconds=-90)

    assert woo.get("/orders").headers["Date"] == "Tue, 24 Nov 2026 09:28:30 GMT"


def test_a_page_past_the_end_is_an_empty_list_with_a_total_of_zero(woo: Woo) -> None:
    woo.store.place()

    ours = woo.get("/orders", page=999)

    assert (ours.status_code, ours.data) == (200, captured("past-end")[1])
    assert (ours.headers["X-WP-Total"], ours.headers["X-WP-TotalPages"]) == ("0", "0")
    assert 'page=0&status%5B0%5D=any>; rel="prev"' in ours.headers["Link"]


def test_errors_are_the_captured_bytes(woo: Woo) -> None:
    woo.store.plugin_statuses = ()

    too_many = woo.get("/orders", per_page=101)
    unknown = woo.get("/orders", status="awaiting-pickup")
    missing = woo.get("/orders/999")
    bad_key = woo.call("GET", "/orders", key="ck_wrong")
    bad_secret = woo.call("GET", "/orders", secret="cs_wrong")
    read_only = woo.call("PUT", "/orders/1", key=woo.store.read_only_key, secret=woo.store.read_only_secret)

    assert (too_many.status_code, too_many.data) == (400, captured("per-page-101")[1])
    assert (unknown.status_code, unknown.data) == (400, captured("unknown-status")[1])
    assert (missing.status_code, missing.data) == (404, captured("error-webhook")[1])
    assert (bad_key.status_code, bad_key.data) == (401, captured("bad-key")[1])
    assert (bad_secret.status_code, bad_secret.json["code"]) == (401, "woocommerce_rest_authentication_error")
    assert (read_only.status_code, read_only.data) == (401, captured("read-only-put")[1])


def test_a_bad_date_is_refused(woo: Woo) -> None:
    answer = woo.get("/orders", modified_after="yesterday")

    assert (answer.status_code, answer.json["code"]) == (400, "rest_invalid_param")


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo", "Pacific/Apia"])
def test_bounds_are_read_as_the_real_store_reads_them(world: World, client, zone: str) -> None:
    """All 34 probes of a real store in that time zone: strictness, seconds, and the trap of Z."""
    real = json.loads((FIXTURES / "woocommerce" / f"probes-{zone.replace('/', '-')}.json").read_text())
    store = world.add_store("woocommerce", time_zone=zone)
    woo = Woo(client, store)  # type: ignore[arg-type]
    order = store.place(at=datetime.fromisoformat(real["date_created_gmt"]).replace(tzinfo=UTC))
    store.change(order.id, "note", at=datetime.fromisoformat(real["date_modified_gmt"]).replace(tzinfo=UTC))

    wrong = []
    for name, query, listed in real["probes [name, query, order in list]"]:
        found = [each["id"] for each in woo.call("GET", f"/orders?{query}").json]
        if (order.id in found) is not listed:
            wrong.append((name, query))

    assert wrong == []


def test_350_orders_in_one_second_can_be_read_with_exclude(woo: Woo) -> None:
    placed = [woo.store.place(quiet=True).id for _ in range(350)]
    bounds = {"modified_after": "2026-11-24T09:29:59", "modified_before": "2026-11-24T09:30:01"}
    query = {**bounds, "dates_are_gmt": "true", "orderby": "modified", "order": "asc", "per_page": 100}

    seen: list[int] = []
    for _ in range(5):
        page = woo.get("/orders", **query, exclude=",".join(map(str, seen)), _fields="id").json
        seen += [each["id"] for each in page]

    assert seen == placed
    assert woo.get("/orders", **{**query, "modified_after": "2026-11-24T09:30:00"}).json == []
    assert woo.get("/orders", **{**query, "modified_before": "2026-11-24T09:30:00"}).json == []


def test_created_and_modified_bounds_hold_together(woo: Woo, clock: Clock) -> None:
    first, second = woo.store.place(), woo.store.place()
    clock.move(60)
    third = woo.store.place()
    woo.store.change(first.id, "note")
    query = {"modified_after": "2026-11-24T09:30:30", "after": "2026-11-24T09:29:59", "dates_are_gmt": "true"}

    both = [each["id"] for each in woo.get("/orders", **query, order="asc").json]
    later = [each["id"] for each in woo.get("/orders", **{**query, "after": "2026-11-24T09:30:00"}).json]

    assert both == [first.id, third.id]
    assert later == [third.id]
    assert second.id not in both


def test_orders_descend_by_time_and_then_by_id(woo: Woo, clock: Clock) -> None:
    first, second = woo.store.place(), woo.store.place()
    clock.move(1)
    third = woo.store.place()

    listed = [each["id"] for each in woo.get("/orders", orderby="modified", order="desc").json]

    assert listed == [third.id, second.id, first.id]


def test_the_trash_is_in_no_list_but_its_own_and_still_answers_by_id(woo: Woo) -> None:
    kept, trashed, gone = (woo.store.place() for _ in range(3))
    woo.store.change(trashed.id, "trash")
    woo.store.change(gone.id, "force_delete")

    assert [each["id"] for each in woo.get("/orders").json] == [kept.id]
    assert [each["id"] for each in woo.get("/orders", status="any").json] == [kept.id]
    assert [each["id"] for each in woo.get("/orders", status="trash").json] == [trashed.id]
    assert woo.get(f"/orders/{trashed.id}").json["status"] == "trash"
    assert woo.get(f"/orders/{gone.id}").status_code == 404


def test_an_order_of_a_plugins_status_leaves_the_lists_when_the_plugin_is_off(woo: Woo) -> None:
    order = woo.store.place()
    woo.store.change(order.id, "status")
    assert [each["id"] for each in woo.get("/orders", status="awaiting-pickup").json] == [order.id]

    woo.store.plugin_statuses = ()

    assert woo.get("/orders").json == []
    assert woo.get(f"/orders/{order.id}").json["status"] == "awaiting-pickup"


def test_a_deleted_refund_moves_no_time_and_sends_nothing(woo: Woo, world: World, clock: Clock) -> None:
    order = woo.store.place()
    woo.store.change(order.id, "refund")
    woo.subscribe()
    world.collect()
    before = order.updated
    clock.move(10)

    woo.store.change(order.id, "refund_delete")

    assert woo.get(f"/orders/{order.id}").json["refunds"] == []
    assert order.updated == before
    assert world.collect() == []


def test_the_index_names_the_stores_time_zone(woo: Woo, client) -> None:
    index = client.get(f"/woocommerce/{woo.store.key}/wp-json/").json

    assert index["timezone_string"] == "America/New_York"
    assert index["gmt_offset"] == "-5"
    assert index["url"] == woo.store.url


def test_plain_permalinks_answer_too(woo: Woo) -> None:
    woo.store.place()
    keys = {"consumer_key": woo.store.consumer_key, "consumer_secret": woo.store.consumer_secret}

    answer = woo.client.get(f"/woocommerce/{woo.store.key}/", query_string={"rest_route": "/wc/v3/orders", **keys})

    assert len(answer.json) == 1
