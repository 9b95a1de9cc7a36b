"""The simulated Etsy: answers that its published description allows, thin signed notices, rotation and limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from gateway.sandbox import etsy as etsy_module
from gateway.sandbox.etsy import RETRY_SECONDS, sign
from gateway.sandbox.world import World
from tests.sandbox.conftest import FIXTURES, Clock, Etsy

OAS = json.loads((Path(etsy_module.__file__).with_name("data") / "etsy_receipts_oas.json").read_text())


def _as_json_schema(value: Any) -> Any:
    """OAS 3.0's nullable as JSON Schema's type list."""
    if isinstance(value, list):
        return [_as_json_schema(each) for each in value]
    if not isinstance(value, dict):
        return value
    made = {key: _as_json_schema(each) for key, each in value.items() if key != "nullable"}
    if value.get("nullable") and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
        if "enum" in made:
            made["enum"] = [*made["enum"], None]
    if "properties" in made:
        made["additionalProperties"] = False  # no property that Etsy does not describe
    return made


SCHEMA = _as_json_schema(OAS)


def _check(name: str, value: Any) -> None:
    schema = {**SCHEMA, "$ref": f"#/components/schemas/{name}"}
    jsonschema.Draft7Validator(schema).validate(value)


def _every_state(etsy: Etsy) -> None:
    plans: list[list[str]] = [[], ["ship"], ["ship", "deliver"], ["cancel"], ["refund"], ["refund", "refund"], ["note"]]
    for plan in plans:
        order = etsy.store.place(currency="JPY" if plan == ["ship"] else None)
        for kind in plan:
            etsy.store.change(order.id, kind)
    etsy.store.place(paid=False)
    etsy.store.place(guest=True)
    etsy.store.place(coupon=True, lines=4)


def test_every_answer_is_allowed_by_the_published_description(etsy: Etsy) -> None:
    _every_state(etsy)

    for was_canceled in ("true", "false"):
        listed = etsy.receipts(was_canceled=was_canceled, limit=100)
        _check("ShopReceipts", listed)
        for each in listed["results"]:
            assert set(each) == set(OAS["components"]["schemas"]["ShopReceipt"]["properties"])
            _check("ShopReceipt", etsy.get(f"/shops/{etsy.store.shop_id}/receipts/{each['receipt_id']}").json)
    _check("Self", etsy.get("/users/me").json)
    _check("Shop", etsy.get(f"/shops/{etsy.store.shop_id}").json)
    _check("Pong", etsy.get("/openapi-ping").json)
    _check("ErrorSchema", etsy.get(f"/shops/{etsy.store.shop_id}/receipts/1").json)


def test_one_status_holds_pay_ship_and_refund(etsy: Etsy) -> None:
    _every_state(etsy)

    shown = [etsy.store.render(order)["status"] for order in etsy.store.orders.values()]

    assert shown[:8] == [
        "paid", "completed", "completed", "canceled", "partially refunded", "fully refunded", "paid",
        "payment processing",
    ]  # fmt: skip


def test_signatures_are_those_of_the_vectors() -> None:
    vectors = json.loads((FIXTURES / "etsy" / "vectors.json").read_text())["vectors"]
    accepted = [each for each in vectors if each["expect"] == "accept" and each["signature"].startswith("v1,")]

    for each in accepted:
        ours = sign(each["secret"], each["id"], each["timestamp"], each["body"].encode())
        assert ours in each["signature"].split(" ")
    assert accepted


def test_notices_are_thin_signed_and_only_of_four_events(etsy: Etsy, world: World) -> None:
    order = etsy.store.place()
    for kind in ("ship", "deliver", "refund", "address", "note"):
        etsy.store.change(order.id, kind)
    canceled = etsy.store.place(paid=False)
    etsy.store.change(canceled.id, "cancel")

    requests = world.collect()

    assert [each.topic for each in requests] == ["order.paid", "order.shipped", "order.delivered", "order.canceled"]
    first = requests[0]
    assert first.url == "http://gateway.test/webhooks/etsy"
    assert json.loads(first.body) == {
        "event_type": "order.paid",
        "resource_url": f"https://openapi.etsy.com/v3/application/shops/{etsy.store.shop_id}/receipts/{order.id}",
        "shop_id": etsy.store.shop_id,
    }
    message, timestamp = first.header("webhook-id"), int(first.header("webhook-timestamp") or 0)
    assert message is not None
    assert first.header("webhook-signature") == sign(world.etsy_app.webhook_secret, message, timestamp, first.body)


def test_a_retry_keeps_its_id_and_is_signed_anew(etsy: Etsy, world: World, clock: Clock) -> None:
    etsy.store.place()
    (first,) = world.collect()
    world.record(first, 500)
    seen = []
    for pause in RETRY_SECONDS:
        clock.move(pause)
        (again,) = world.collect()
        seen.append(again)
        world.record(again, 302)
    clock.move(10**6)

    assert RETRY_SECONDS == (5, 300, 1800, 7200, 18000, 36000, 36000)
    assert {each.header("webhook-id") for each in seen} == {first.header("webhook-id")}
    assert seen[0].header("webhook-timestamp") == str(int(first.header("webhook-timestamp") or 0) + 5)
    assert world.collect() == []


@pytest.mark.parametrize("style", ["upper", "bare", "two"])
def test_notices_come_in_every_form_that_was_reported(etsy: Etsy, world: World, style: str) -> None:
    etsy.store.notice_style = style
    etsy.store.place()

    (request,) = world.collect()

    message, timestamp = request.header("webhook-id") or "", int(request.header("webhook-timestamp") or 0)
    valid = sign(world.etsy_app.webhook_secret, message, timestamp, request.body)
    signature = request.header("webhook-signature") or ""
    body = json.loads(request.body)
    if style == "upper":
        assert (body["event_type"], body["shop_id"]) == ("ORDER_PAID", etsy.store.key)
    assert signature.split(" ")[-1] == (valid.removeprefix("v1,") if style == "bare" else valid)
    assert len(signature.split(" ")) == (2 if style == "two" else 1)


@pytest.mark.parametrize(("inclusive", "found"), [(True, 3), (False, 1)])
def test_bounds_include_their_second_or_not_as_switched(etsy: Etsy, clock: Clock, inclusive: bool, found: int) -> None:
    etsy.store.bounds_inclusive = inclusive
    first = etsy.store.place()
    for _ in range(2):
        clock.move(1)
        etsy.store.place()

    listed = etsy.receipts(min_last_modified=first.updated, max_last_modified=first.updated + 2)

    assert listed["count"] == found


def test_was_canceled_omitted_means_false(etsy: Etsy) -> None:
    kept, canceled = etsy.store.place(), etsy.store.place()
    etsy.store.change(canceled.id, "cancel")

    def ids(**query: Any) -> set[int]:
        return {each["receipt_id"] for each in etsy.receipts(**query)["results"]}

    assert ids() == {kept.id}
    assert ids(was_canceled="false") == {kept.id}
    assert ids(was_canceled="true") == {canceled.id}
    assert ids(was_canceled="null") == {kept.id, canceled.id}
    etsy.store.canceled_by_default = True
    assert ids() == {kept.id, canceled.id}


def test_pages_sort_filter_and_never_give_more_than_100(etsy: Etsy, clock: Clock) -> None:
    placed = []
    for _ in range(103):
        placed.append(etsy.store.place(quiet=True).id)
        clock.move(1)
    start = etsy.store.orders[placed[0]].updated

    newest = etsy.receipts()
    wide = etsy.receipts(limit=500, sort_on="updated", sort_order="asc")
    rest = etsy.receipts(limit=100, offset=100, sort_on="updated", sort_order="asc")
    window = etsy.receipts(
        min_last_modified=start + 10, max_last_modified=start + 12, sort_on="updated", sort_order="up"
    )  # fmt: skip

    assert [each["receipt_id"] for each in newest["results"]] == placed[:-26:-1]
    assert (wide["count"], [each["receipt_id"] for each in wide["results"]]) == (103, placed[:100])
    assert [each["receipt_id"] for each in rest["results"]] == placed[100:]
    assert [each["receipt_id"] for each in window["results"]] == placed[10:13]
    assert etsy.get(f"/shops/{etsy.store.shop_id}/receipts", min_created=5).status_code == 400


@pytest.mark.parametrize("moves", [True, False])
def test_a_refund_moves_the_time_or_not_as_switched(etsy: Etsy, clock: Clock, moves: bool) -> None:
    etsy.store.refund_moves_time = moves
    order = etsy.store.place()
    before = order.updated
    clock.move(60)

    etsy.store.change(order.id, "refund")

    shown = etsy.get(f"/shops/{etsy.store.shop_id}/receipts/{order.id}").json
    assert len(shown["refunds"]) == 1
    assert shown["updated_timestamp"] == before + (60 if moves else 0)


def test_an_event_can_beat_the_read_view(etsy: Etsy, clock: Clock) -> None:
    etsy.store.read_delay_seconds = 5
    order = etsy.store.place()
    address = f"/shops/{etsy.store.shop_id}/receipts/{order.id}"

    early = etsy.get(address)
    clock.move(5)

    assert early.status_code == 404
    assert early.json["error"].startswith(f"Could not find a Shop Receipt with receipt_id = {order.id} associated")
    assert etsy.get(address).status_code == 200


def test_keys_and_tokens_are_refused_in_etsys_words(etsy: Etsy, world: World, clock: Clock) -> None:
    app, good = world.etsy_app, etsy.headers()

    bare = etsy.get("/users/me", headers={**good, "x-api-key": app.keystring})
    wrong = etsy.get("/users/me", headers={**good, "x-api-key": f"{app.keystring}:nope"})
    clock.move(3600)
    expired = etsy.get("/users/me", headers=good)

    assert (bare.status_code, bare.json["error"]) == (403, "Shared secret is required in x-api-key header.")
    assert wrong.status_code == 403
    assert (expired.status_code, expired.json) == (
        401,
        {"error": "invalid_token", "error_description": "access token is expired"},
    )


def test_another_shop_is_refused(etsy: Etsy, world: World) -> None:
    other = world.add_store("etsy")

    assert etsy.get(f"/shops/{other.key}/receipts").status_code == 403


def test_every_refresh_gives_a_new_refresh_token_and_a_stale_one_is_refused(etsy: Etsy, world: World) -> None:
    first = etsy.store.refresh_token
    form = {"grant_type": "refresh_token", "client_id": world.etsy_app.keystring}

    pair = etsy.client.post("/etsy/v3/public/oauth/token", data={**form, "refresh_token": first})
    stale = etsy.client.post("/etsy/v3/public/oauth/token", data={**form, "refresh_token": first})

    assert set(pair.json) == {"access_token", "token_type", "expires_in", "refresh_token"}
    assert pair.json["refresh_token"] != first
    assert pair.json["access_token"].startswith(f"{etsy.store.user_id}.")
    assert etsy.get("/users/me").status_code == 200
    assert (stale.status_code, stale.json) == (
        400,
        {"error": "invalid_grant", "error_description": "refresh_token is revoked"},
    )


def test_limits_are_told_and_then_enforced(etsy: Etsy, world: World, clock: Clock) -> None:
    world.etsy_app.per_second, world.etsy_app.per_day = 2, 3

    first, _, third = (etsy.get("/users/me") for _ in range(3))
    clock.move(1)
    fourth = etsy.get("/users/me")
    clock.move(1)
    fifth = etsy.get("/users/me")

    assert (first.headers["x-limit-per-second"], first.headers["x-remaining-this-second"]) == ("2", "1")
    assert (first.headers["x-limit-per-day"], first.headers["x-remaining-today"]) == ("3", "2")
    assert (third.status_code, third.headers["retry-after"]) == (429, "1")
    assert "x-limit-per-day" not in third.headers
    assert fourth.status_code == 200
    assert (fifth.status_code, int(fifth.headers["retry-after"])) == (429, 86398)
