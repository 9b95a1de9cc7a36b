"""The simulated WooCommerce's webhooks: pings, colliding ids, late payloads, no retries, disabling."""

from __future__ import annotations

import json

from gateway.sandbox.woocommerce import sign
from gateway.sandbox.world import WebhookRequest, World
from tests.sandbox.conftest import Clock, Woo, captured


def _ready(woo: Woo, world: World, *topics: str) -> None:
    """Subscribe and let the pings be answered well."""
    for topic in topics or ("order.updated",):
        woo.subscribe(topic)
    for ping in world.collect():
        world.record(ping, 200)


def _names(request: WebhookRequest) -> list[str]:
    return [name for name, _ in request.headers]


def _captured_names(capture: str) -> list[str]:
    head, _ = captured(capture)
    return [name for name, _ in head["headers"] if name not in ("Host", "Content-Length")]


def test_a_new_webhook_answers_201_without_its_secret_and_sends_an_unsigned_ping(woo: Woo, world: World) -> None:
    given = {"name": "n", "topic": "order.updated", "delivery_url": "http://gateway.test/hook", "secret": "s3cret"}
    answer = woo.call("POST", "/webhooks", json=given)

    assert answer.status_code == 201
    assert list(answer.json) == list(json.loads(captured("webhook-made")[1]))
    assert b"s3cret" not in answer.data
    assert answer.json["date_modified"] is None
    (ping,) = world.collect()
    assert ping.body == b"webhook_id=1" == captured("ping")[1]
    assert _names(ping) == _captured_names("ping")
    assert ping.header("content-type") == "application/x-www-form-urlencoded"


def test_only_exactly_200_ends_the_pings(woo: Woo, world: World) -> None:
    woo.subscribe()
    order = woo.store.place(quiet=True)
    for status in (204, 302, 500, None):
        (ping,) = world.collect()
        assert ping.topic == "ping"
        world.record(ping, status)
        woo.store.change(order.id, "note")
        (delivery,) = world.collect()
        world.record(delivery, 200)

    (ping,) = world.collect()
    world.record(ping, 200)
    woo.store.change(order.id, "note")
    world.record(world.collect()[0], 200)

    assert world.collect() == []


def test_a_delivery_has_the_captured_headers_and_the_bytes_of_the_rest_answer(woo: Woo, world: World) -> None:
    _ready(woo, world)
    order = woo.store.place()

    (delivery,) = world.collect()

    assert _names(delivery) == _captured_names("plain-webhook")
    assert delivery.body == woo.get(f"/orders/{order.id}").data
    assert delivery.header("X-WC-Webhook-Signature") == sign("s3cret", delivery.body)
    assert delivery.header("X-WC-Webhook-Source") == woo.store.url + "/"
    assert (delivery.header("X-WC-Webhook-Resource"), delivery.header("X-WC-Webhook-Event")) == ("order", "updated")


def test_delivery_ids_collide_within_a_second_and_differ_between_webhooks(woo: Woo, world: World, clock: Clock) -> None:
    _ready(woo, world, "order.created", "order.updated")
    for _ in range(3):
        woo.store.place()
    here = world.collect()
    clock.move(1)
    woo.store.place()
    later = world.collect()

    ids = {request.header("X-WC-Webhook-Delivery-ID") for request in here}

    assert len(here) == 6
    assert len(ids) == 2
    assert not ids & {request.header("X-WC-Webhook-Delivery-ID") for request in later}


def test_the_payload_is_built_at_delivery_and_waiting_ones_coalesce(woo: Woo, world: World) -> None:
    _ready(woo, world, "order.created", "order.updated")
    order = woo.store.place()
    woo.store.change(order.id, "ship")
    woo.store.change(order.id, "note")

    created, updated = world.collect()

    assert created.topic == "order.created"
    assert json.loads(created.body)["status"] == "completed"
    assert updated.body == created.body


def test_two_changes_in_one_second_differ_but_for_their_time(woo: Woo, world: World) -> None:
    _ready(woo, world)
    order = woo.store.place()
    (first,) = world.collect()
    woo.store.change(order.id, "note", note="another")
    (second,) = world.collect()

    assert first.body != second.body
    assert json.loads(first.body)["date_modified_gmt"] == json.loads(second.body)["date_modified_gmt"]
    assert first.header("X-WC-Webhook-Delivery-ID") == second.header("X-WC-Webhook-Delivery-ID")


def test_nothing_is_sent_again(woo: Woo, world: World, clock: Clock) -> None:
    _ready(woo, world)
    woo.store.place()
    world.record(world.collect()[0], 500)
    clock.move(86400)

    assert world.collect() == []


def test_the_seventh_failure_in_a_row_disables_and_what_was_missed_never_comes(woo: Woo, world: World) -> None:
    _ready(woo, world)
    order = woo.store.place(quiet=True)
    states = []
    for _ in range(7):
        woo.store.change(order.id, "note")
        world.record(world.collect()[0], 500)
        states.append((woo.store.webhooks[1].failure_count, woo.store.webhooks[1].status))
    woo.store.change(order.id, "note")

    # capture pairs 17, log.json.
    assert states == [(each, "active") for each in range(1, 7)] + [(6, "disabled")]
    assert world.collect() == []
    assert [each["id"] for each in woo.get("/webhooks", status="disabled").json] == [1]
    woo.call("PUT", "/webhooks/1", json={"status": "active"})
    assert (woo.store.webhooks[1].failure_count, world.collect()) == (6, [])
    woo.store.change(order.id, "note")
    world.record(world.collect()[0], 302)
    assert woo.store.webhooks[1].failure_count == 0


def test_the_trash_tells_only_the_id_and_restoring_tells_all(woo: Woo, world: World) -> None:
    _ready(woo, world, "order.deleted", "order.restored", "order.updated")
    order = woo.store.place(quiet=True)

    woo.store.change(order.id, "trash")
    (deleted,) = world.collect()
    woo.store.change(order.id, "restore")
    (restored,) = world.collect()
    woo.store.change(order.id, "force_delete")

    assert deleted.body == b'{"id":%d}' % order.id
    assert (deleted.topic, restored.topic) == ("order.deleted", "order.restored")
    assert json.loads(restored.body)["status"] == "processing"
    assert world.collect() == []


def test_an_update_that_waited_while_the_order_was_deleted_carries_the_error(woo: Woo, world: World) -> None:
    _ready(woo, world)
    order = woo.store.place()
    woo.store.change(order.id, "force_delete")

    (delivery,) = world.collect()

    assert delivery.body == captured("error-webhook")[1]
    assert delivery.header("X-WC-Webhook-Signature") == sign("s3cret", delivery.body)


def test_a_deleted_webhook_is_gone(woo: Woo, world: World) -> None:
    _ready(woo, world)

    assert woo.call("DELETE", "/webhooks/1").status_code == 501
    assert woo.call("DELETE", "/webhooks/1?force=true").status_code == 200
    woo.store.place()

    assert world.collect() == []
    assert woo.get("/webhooks").json == []
