"""Webhooks made in a Shopify shop by the Admin API, for a gateway whose app declares none in shopify.app.toml."""

from __future__ import annotations

import dataclasses

import pytest

from gateway.connections import check, disconnect, subscriptions
from gateway.domain.scope import AccountScope
from gateway.platforms.shopify import hooks
from gateway.sandbox import shopify as simulated


@pytest.fixture
def shop(sandbox, access, monkeypatch):
    monkeypatch.setattr(simulated, "TOML_TOPICS", ())
    made = sandbox.add_store("shopify")
    app = dataclasses.replace(
        access.app, shopify_client_id=sandbox.shopify_app.client_id,
        shopify_client_secret=sandbox.shopify_app.client_secret,
        shopify_admin_url=sandbox.base_url + "/shopify/{shop}/admin", shopify_api_webhooks=True,
    )  # fmt: skip
    monkeypatch.setattr(access, "app", app)
    return made


@pytest.fixture
def store(people, access, shop):
    store_id = people.store(people.user(), platform="shopify", domain=shop.key, shop_id=str(shop.shop_id))
    tokens = shop.install()
    people.sql(
        "UPDATE connections SET credentials = :tokens, hook_secrets = :none, catch_up_wanted_at = NULL",
        tokens=access.vault.close({"access_token": tokens["access_token"]}), none=access.vault.close([]),
    )  # fmt: skip
    return store_id


def standing(shop):
    return sorted((simulated.topic_name(each.topic), each.uri) for each in shop.subscriptions.values())


def wanted(gateway):
    return sorted((topic, f"{gateway}/webhooks/shopify") for topic in hooks.TOPICS)


def test_an_audit_makes_them_and_then_finds_them_sound(access, store, shop, gateway, people):
    assert subscriptions.audit(access, store) == "repaired"
    assert standing(shop) == wanted(gateway)
    assert people.sql("SELECT catch_up_wanted_at IS NOT NULL AS wanted FROM connections") == [{"wanted": True}]

    assert subscriptions.audit(access, store) == "sound"
    assert {row["topic"] for row in people.sql("SELECT topic FROM subscriptions")} == set(hooks.TOPICS)


def test_what_shopify_removed_after_eight_failures_is_made_again(access, store, shop, gateway):
    subscriptions.audit(access, store)
    del shop.subscriptions[next(iter(shop.subscriptions))]

    assert subscriptions.audit(access, store) == "repaired"
    assert standing(shop) == wanted(gateway)


def test_doubles_go_a_former_address_is_changed_and_other_addresses_are_left_alone(access, store, shop, gateway):
    subscriptions.audit(access, store)
    first = next(each for each in shop.subscriptions.values() if each.topic == "ORDERS_CREATE")
    second = next(each for each in shop.subscriptions.values() if each.topic == "ORDERS_UPDATED")
    second.uri = "https://gateway.before.example/webhooks/shopify"
    for number, uri in ((1, "https://gateway.before.example/webhooks/shopify"), (2, "https://elsewhere.example/hook")):
        shop.subscriptions[number] = dataclasses.replace(first, id=number, uri=uri)

    assert subscriptions.audit(access, store) == "repaired"
    assert standing(shop) == sorted([*wanted(gateway), ("orders/create", "https://elsewhere.example/hook")])
    assert second.id in shop.subscriptions


def test_a_new_store_is_audited_at_once_and_test_connection_repairs(access, store, shop, people):
    people.sql("UPDATE connections SET audit_wanted_at = now(), audited_at = NULL")
    assert subscriptions.queue(access, wanted_only=True) == 1

    scope = AccountScope(people.sql("SELECT account_id FROM connections")[0]["account_id"])
    steps = check.check(access, scope, store)
    assert [(step.layer, step.outcome, step.note) for step in steps][-1] == ("webhooks", "ok", "repaired")


def test_disconnecting_takes_them_off(access, store, shop, people):
    subscriptions.audit(access, store)
    scope = AccountScope(people.sql("SELECT account_id FROM connections")[0]["account_id"])

    assert disconnect.disconnect(access, scope, store)
    assert standing(shop) == []


def test_where_they_are_declared_with_the_app_none_is_made(access, store, shop, monkeypatch):
    monkeypatch.setattr(access, "app", dataclasses.replace(access.app, shopify_api_webhooks=False))

    assert subscriptions.audit(access, store) == "unknown"
    assert subscriptions.queue(access, wanted_only=False) == 0
    assert standing(shop) == []
