"""Disconnecting forgets keys at once, takes webhooks off, and deletes what the platform's terms want deleted."""

from __future__ import annotations

import pytest

from gateway.connections import connect_woocommerce, disconnect, model
from gateway.domain.problems import STORE_NOT_CONNECTED, NeedsMerchant
from tests.connections.conftest import Person


@pytest.fixture
def scope(people):
    return people.user()


@pytest.fixture
def store(access, scope, shop):
    return connect(access, scope, shop)


def connect(access, scope, shop):
    return connect_woocommerce.connect_with_keys(
        access, scope, shop.url, shop.consumer_key, shop.consumer_secret
    )  # fmt: skip


def secrets_of(people, access):
    [row] = people.sql("SELECT credentials, hook_secrets FROM connections")
    return access.vault.open_mapping(bytes(row["credentials"])), access.vault.open_list(bytes(row["hook_secrets"]))


def test_keys_are_forgotten_and_webhooks_removed_but_orders_stay(access, scope, store, shop, people):
    order = people.order(scope, store)
    with shop.world.lock:
        other = shop._add_webhook("erp", "order.updated", "https://erp.example/hook", "x", "active")

    assert disconnect.disconnect(access, scope, store)

    assert list(shop.webhooks) == [other.id]
    assert secrets_of(people, access) == ({}, [])
    assert people.sql("SELECT state FROM connections") == [{"state": "disconnected"}]
    assert people.sql("SELECT id FROM orders") == [{"id": order}]
    with access.database.transaction() as tx:
        connection = model.get(tx, store)
    with pytest.raises(NeedsMerchant) as told:
        access.store(connection)
    assert told.value.problem is STORE_NOT_CONNECTED


def test_a_store_that_does_not_answer_is_disconnected_all_the_same(access, scope, store, shop, people):
    shop.faults.server_error = 10

    assert disconnect.disconnect(access, scope, store)
    assert disconnect.disconnect(access, scope, store), "once more changes nothing"

    assert secrets_of(people, access) == ({}, [])


def test_a_run_under_way_writes_nothing_more(access, scope, store, people):
    run = people.run(scope, store, state="running", listed=3)
    [before] = people.sql("SELECT fence FROM sync_runs WHERE id = :id", id=run)

    disconnect.disconnect(access, scope, store)

    [after] = people.sql("SELECT fence, state, problem FROM sync_runs WHERE id = :id", id=run)
    assert after == {"fence": before["fence"] + 1, "state": "stopped", "problem": "store.not_connected"}


def test_connecting_again_brings_the_same_store_back_with_a_new_secret(access, scope, store, shop, people):
    people.order(scope, store)
    before = {hook.secret for hook in shop.webhooks.values()}
    disconnect.disconnect(access, scope, store)

    assert connect(access, scope, shop) == store

    [secret] = secrets_of(people, access)[1]
    assert {hook.secret for hook in shop.webhooks.values()} == {secret} != before
    assert len(secret) == 50
    assert people.sql("SELECT state FROM connections") == [{"state": "connected"}]


def test_etsys_orders_go_with_the_connection_and_nobody_elses(access, scope, people):
    etsy = people.store(scope, "Etsy shop", "etsy", credentials=access.vault.close({}), hook_secrets=b"")
    kept = people.store(scope, "Other shop", "shopify")
    delivery = people.delivery(scope, etsy)
    people.order(scope, etsy, "3601", source_id=delivery)
    run = people.run(scope, etsy, state="finished")
    people.failed_item(scope, run, "3602", "payload.field", "total: x")
    others = people.order(scope, kept, "#1001")
    other_delivery = people.delivery(scope, kept)

    assert disconnect.disconnect(access, scope, etsy)

    assert people.sql("SELECT id FROM orders") == [{"id": others}]
    assert {row["order_id"] for row in people.sql("SELECT order_id FROM changes")} == {others}
    assert people.sql("SELECT id FROM deliveries") == [{"id": other_delivery}]
    assert people.sql("SELECT delivery_id FROM delivery_bodies") == [{"delivery_id": other_delivery}]
    assert people.sql("SELECT 1 FROM run_items") == []


def test_another_accounts_store_is_not_touched(access, store, shop, people, gateway):
    people.user("zoe@example.com", "Other Ltd")
    zoe = Person(gateway).log_in("zoe@example.com")

    assert zoe.post(f"/stores/{store}/disconnect").status_code == 404
    assert people.sql("SELECT state FROM connections") == [{"state": "connected"}]
    assert len(shop.webhooks) == 4


def test_the_button_does_it(store, people, gateway):
    maya = Person(gateway).log_in("maya@example.com")
    assert "Disconnect this store" in maya.get(f"/stores/{store}/test").text

    answer = maya.post(f"/stores/{store}/disconnect")

    assert answer.status_code == 303
    assert people.sql("SELECT state FROM connections") == [{"state": "disconnected"}]
    assert "This store is not connected" in maya.get("/stores").text
