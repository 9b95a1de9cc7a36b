"""A Shopify shop becomes connected: opened at Shopify, granted, then claimed; over real HTTP on both sides."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
import re
import threading
import time
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from gateway.connections import attempts, health
from gateway.domain.problems import INSTALL_NOT_VERIFIED, TOKEN_REVOKED, NeedsMerchant, Refused
from gateway.platforms.shopify import hooks, install
from gateway.sandbox import shopify_oauth
from gateway.sandbox.shopify import ShopifyStore
from tests.connections.conftest import Person
from webhooks.apply import Drainer

SHOP = "fern-and-clay.myshopify.com"
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
STAMP = str(int(NOW.timestamp()))


# --- the signed query ----------------------------------------------------------------------------------------------
def signed(message, *, query=None, secret="hush"):
    """A query string with the HMAC of `message`, which is the query itself unless they are written differently."""
    digest = hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest()
    return f"{query or message}&hmac={digest}"


def reason(raw, secrets=("hush",), now=NOW):
    with pytest.raises(Refused) as refused:
        install.verified_query(raw, secrets, now=now)
    assert refused.value.problem is INSTALL_NOT_VERIFIED
    return refused.value.detail


@pytest.mark.parametrize(
    ("message", "query"),
    [
        (f"shop={SHOP}&timestamp={STAMP}", None),
        (f"host=YWRtaW4&shop={SHOP}&state=a%20b&timestamp={STAMP}", None),
        (f"locale=de DE&shop={SHOP}&timestamp={STAMP}", f"locale=de%20DE&shop={SHOP}&timestamp={STAMP}"),
        (f"locale=de%20DE&shop={SHOP}&timestamp={STAMP}", f"locale=de+DE&shop={SHOP}&timestamp={STAMP}"),
        (f'ids=["2", "1"]&shop={SHOP}&timestamp={STAMP}', f"ids%5B%5D=2&ids%5B%5D=1&shop={SHOP}&timestamp={STAMP}"),
        (f"ids%5B%5D=1&ids%5B%5D=2&shop={SHOP}&timestamp={STAMP}", None),
        (f"shop={SHOP}&timestamp={STAMP}&unknown=1", f"unknown=1&timestamp={STAMP}&shop={SHOP}"),
    ],
)
def test_every_form_in_which_shopify_signs_is_taken(message, query):
    assert install.verified_query(signed(message, query=query), ["hush"], now=NOW)["shop"] == SHOP


def test_the_secret_before_is_good_while_it_is_rotated():
    raw = signed(f"shop={SHOP}&timestamp={STAMP}", secret="old")

    assert install.verified_query(raw, ["new", "old"], now=NOW)["shop"] == SHOP
    assert reason(raw, ["new"]) == "signature"


@pytest.mark.parametrize(
    "shop",
    ["x.myshopify.com.evil.example", "evil.example/x.myshopify.com", "x.myshopify.com%0a", "-x.myshopify.com",
     "x.myshopify.com%00", "x_y.myshopify.com", "myshopify.com", "", "x.myshopify.com%23.evil.example"],
)  # fmt: skip
def test_a_shops_name_with_a_trick_is_refused_though_it_is_signed(shop):
    assert reason(signed(f"shop={shop}&timestamp={STAMP}")) == "shop"


@pytest.mark.parametrize("seconds", [-301, 301, 86_400])
def test_an_old_query_is_refused(seconds):
    raw = signed(f"shop={SHOP}&timestamp={STAMP}")

    assert reason(raw, now=NOW + timedelta(seconds=seconds)) == "expired"


@pytest.mark.parametrize("stamp", ["", "now", "1e9", "-5", "١٢٣", "9" * 30])
def test_a_query_without_a_plain_time_is_refused(stamp):
    assert reason(signed(f"shop={SHOP}&timestamp={stamp}")) in ("timestamp", "signature")


@pytest.mark.parametrize("name", ["shop", "hmac", "timestamp", "state", "code"])
def test_a_parameter_that_stands_twice_is_refused(name):
    raw = signed(f"code=c&shop={SHOP}&state=s&timestamp={STAMP}") + f"&{name}=other"

    assert reason(raw) == f"{name} stands twice"


@pytest.mark.parametrize("raw", ["", "hmac=", f"shop={SHOP}&timestamp={STAMP}", "%ff=%ff&hmac=00", "&&=&=&"])
def test_an_unsigned_query_is_refused(raw):
    assert reason(raw) == "signature"


# --- the way through -----------------------------------------------------------------------------------------------
@pytest.fixture
def store(sandbox, access, application, monkeypatch):
    """A shop that has not installed us yet, and a gateway that knows the app's secrets."""
    made = sandbox.add_store("shopify", SHOP)
    assert isinstance(made, ShopifyStore)
    made.installed, made.access_tokens, made.refresh_tokens = False, [], []
    app = dataclasses.replace(
        access.app,
        shopify_client_id=sandbox.shopify_app.client_id,
        shopify_client_secret=sandbox.shopify_app.client_secret,
        shopify_admin_url=sandbox.base_url + "/shopify/{shop}/admin",
    )
    monkeypatch.setattr(access, "app", app)
    monkeypatch.setattr(application.wsgi_app._directory, "app", app)
    application.wsgi_app._directory._entries.clear()  # of another test's database
    return made


def open_app(person, store):
    """The merchant opens the app at Shopify; the consent page's address."""
    answer = person.get(shopify_oauth.app_url(store))
    assert answer.status_code == 302, answer.text
    return answer.headers["Location"]


def consent(person, address):
    """They press Install app; the address of our callback."""
    page = person.get(address)
    if page.status_code == 302:
        return page.headers["Location"]
    assert "read_orders" in page.text
    answer = person.session.post(address, data={"do": "install"}, allow_redirects=False, timeout=30)
    return answer.headers["Location"]


def installed(person, store):
    return person.get(consent(person, open_app(person, store)))


def stores(people):
    return people.sql("SELECT * FROM connections")


def test_oauth_comes_before_any_page_and_the_shop_is_claimed_after_the_log_in(store, people, gateway, access):
    people.user()
    merchant = Person(gateway)

    address = open_app(merchant, store)
    asked = parse_qs(urlsplit(address).query)
    back = merchant.get(consent(merchant, address))
    assert (back.status_code, back.headers["Location"]) == (302, "/install/claim")
    assert stores(people) == []
    at_claim = merchant.get("/install/claim")
    assert (at_claim.status_code, at_claim.headers["Location"]) == (302, "/login?next=/install/claim")
    merchant.post("/login", email="maya@example.com", next="/install/claim", password="correct horse battery")
    assert SHOP in merchant.get("/install/claim").text
    claimed = merchant.post("/install/claim")

    assert asked["scope"] == ["read_orders"]
    assert asked["redirect_uri"] == [f"{gateway}/install/shopify/callback"]
    assert len(asked["state"][0]) >= 43
    assert claimed.status_code == 303
    (row,) = stores(people)
    assert (row["shop_id"], row["domain"], row["state"]) == (str(store.shop_id), SHOP, "connected")
    assert row["catch_up_wanted_at"] is not None
    tokens = access.vault.open_mapping(bytes(row["credentials"]))
    assert store.token_is_valid(tokens["access_token"])
    assert tokens["refresh_token"].startswith("shprt_")
    assert people.sql("SELECT 1 FROM shopify_installs") == []
    assert tokens["access_token"].encode() not in bytes(row["credentials"])


def test_no_page_asks_for_a_shops_name(maya):
    for path in ("/stores", "/stores/connect"):
        assert "myshopify" not in maya.get(path).text


def test_opening_the_app_again_connects_again_without_a_log_in(store, maya, people, gateway):
    installed(maya, store)
    maya.post("/install/claim")
    (before,) = stores(people)
    store.uninstall()

    stranger = Person(gateway)
    back = installed(stranger, store)

    assert back.headers["Location"] == f"/stores?connected={before['id']}"
    (after,) = stores(people)
    assert after["id"] == before["id"]
    assert after["account_id"] == before["account_id"]
    assert after["generation"] == before["generation"] + 1
    assert after["credentials"] != before["credentials"]
    assert stranger.get("/stores").status_code == 302  # connected, but not logged in


def test_a_late_uninstall_of_the_installation_before_is_ignored(store, maya, people, sandbox, application):
    installed(maya, store)
    maya.post("/install/claim")
    sandbox.collect()
    store.faults.set({"delay": 30})
    store.uninstall()  # its webhook is on its way while the merchant installs again
    time.sleep(1.1)
    installed(maya, store)
    store.faults.set({"clear": True})
    sandbox.retry_now(store)
    _until(lambda: people.sql("SELECT 1 FROM deliveries WHERE topic = 'app/uninstalled'"))
    _drain(application)

    (row,) = people.sql("SELECT state, outcome FROM deliveries WHERE topic = 'app/uninstalled'")
    assert (row["state"], row["outcome"]) == ("ignored", "ignored")
    assert stores(people)[0]["state"] == "connected"


def test_what_came_before_the_first_open_is_applied_once_the_shop_is_known(store, maya, people, application, sandbox):
    store.installed = True
    order = store.place()
    _until(lambda: people.sql("SELECT 1 FROM deliveries WHERE topic = 'orders/create'") and not sandbox.waiting())
    _drain(application)
    assert {row["state"] for row in people.sql("SELECT state FROM deliveries")} == {"parked"}

    installed(maya, store)
    maya.post("/install/claim")
    _drain(application)

    assert [row["external_id"] for row in people.sql("SELECT external_id FROM orders")] == [str(order.id)]
    assert "parked" not in {row["state"] for row in people.sql("SELECT state FROM deliveries")}


@pytest.mark.parametrize("topic", hooks.COMPLIANCE_TOPICS)
def test_compliance_webhooks_are_answered_200_when_signed_and_401_when_not(store, gateway, people, topic):
    """As the review's robot asks, before any shop has installed the app."""
    body = json.dumps({"shop_id": 1, "shop_domain": SHOP, "customer": {"id": 2, "email": "a@example.com"}}).encode()
    secret = store.world.shopify_app.client_secret.encode()
    signature = base64.b64encode(hmac.digest(secret, body, "sha256")).decode()

    def post(signed):
        return requests.post(
            f"{gateway}/webhooks/shopify", data=body, timeout=30,
            headers={"Content-Type": "application/json", "X-Shopify-Topic": topic, "X-Shopify-Shop-Domain": SHOP,
                     "X-Shopify-Webhook-Id": topic, "X-Shopify-Hmac-Sha256": signed},
        ).status_code  # fmt: skip

    assert (post("AAAA"), post(signature[:-2] + "A="), post(signature)) == (401, 401, 200)
    assert len(people.sql("SELECT 1 FROM deliveries")) == 1


# --- hostile -------------------------------------------------------------------------------------------------------
def test_a_forged_app_url_is_refused_before_anything_happens(store, people, gateway):
    answer = Person(gateway).get(shopify_oauth.app_url(store).replace("hmac=", "hmac=0"))

    assert answer.status_code == 401
    assert "not Shopify" in answer.text
    assert people.sql("SELECT 1 FROM shopify_installs") == []


def test_the_state_is_this_browsers_and_works_once(store, people, gateway):
    victim, attacker = Person(gateway), Person(gateway)
    callback = consent(attacker, open_app(attacker, store))

    assert victim.get(callback).status_code == 409  # an attacker's callback in another browser
    open_app(victim, store)
    assert victim.get(callback).status_code == 409  # and with a state of the victim's own
    first = attacker.get(callback)
    assert first.headers["Location"] == "/install/claim"
    again = attacker.get(callback)

    assert again.status_code == 409
    assert stores(people) == []


def test_a_callback_for_another_shop_than_the_one_that_began_is_refused(store, people, sandbox, gateway):
    other = sandbox.add_store("shopify", "other.myshopify.com")
    merchant = Person(gateway)
    state = parse_qs(urlsplit(open_app(merchant, store)).query)["state"][0]
    query = shopify_oauth.signed(other, {"code": "c", "state": state})

    assert merchant.get(f"/install/shopify/callback?{query}").status_code == 409
    assert stores(people) == []


def test_a_code_that_shopify_refuses_leaves_nothing_and_can_be_begun_again(store, people, gateway):
    merchant = Person(gateway)
    callback = consent(merchant, open_app(merchant, store))
    store.codes.clear()

    refused = merchant.get(callback)
    assert refused.status_code == 409
    assert "did not accept the approval" in refused.text
    assert installed(merchant, store).headers["Location"] == "/install/claim"
    assert stores(people) == []


def test_a_scope_that_was_taken_out_of_the_address_is_noticed(store, people, gateway):
    merchant = Person(gateway)
    address = open_app(merchant, store).replace("read_orders", "read_products")
    answer = merchant.session.post(address, data={"do": "install"}, allow_redirects=False, timeout=30)

    refused = merchant.get(answer.headers["Location"])

    assert refused.status_code == 409
    assert stores(people) == []


def test_a_shop_of_another_account_stays_theirs(store, maya, people, gateway):
    installed(maya, store)
    maya.post("/install/claim")
    people.sql("UPDATE connections SET state = 'disconnected'")
    people.user("eve@example.com", account="Eve's")
    eve = Person(gateway).log_in("eve@example.com")

    installed(eve, store)
    answer = eve.post("/install/claim")

    assert answer.status_code == 409
    assert "another account" in answer.text
    assert len(stores(people)) == 1
    assert stores(people)[0]["state"] == "disconnected"


def test_a_claim_works_once_and_only_in_its_browser(store, maya, people, gateway):
    people.user("eve@example.com", account="Eve's")
    eve = Person(gateway).log_in("eve@example.com")
    installed(maya, store)

    assert eve.get("/install/claim").status_code == 409
    assert eve.post("/install/claim").status_code == 409
    assert maya.post("/install/claim").status_code == 303
    assert maya.post("/install/claim").status_code == 409


def test_tokens_that_nobody_claims_are_forgotten(store, people, gateway, access):
    installed(Person(gateway), store)
    with access.database.transaction() as tx:
        assert attempts.forget_expired(tx, now=datetime.now(UTC) + timedelta(minutes=59)) == 0
        assert attempts.forget_expired(tx, now=datetime.now(UTC) + timedelta(minutes=61)) == 1
    assert people.sql("SELECT 1 FROM shopify_installs") == []


def test_a_viewer_claims_nothing(store, maya, people, gateway):
    viewer = people.user("vic@example.com", role="viewer")
    vic = Person(gateway).log_in("vic@example.com")
    installed(vic, store)

    assert vic.post("/install/claim").status_code == 403
    assert (stores(people), viewer.role) == ([], "viewer")


# --- tokens --------------------------------------------------------------------------------------------------------
def _connection(store, maya, access):
    from gateway.connections import model

    installed(maya, store)
    maya.post("/install/claim")
    with access.database.transaction() as tx:
        found = model.find_shop(tx, "shopify", str(store.shop_id))
    assert found is not None
    return found


def test_two_that_refresh_at_once_ask_once_and_use_the_same_pair(store, maya, access, people):
    connection = _connection(store, maya, access)
    access.expire(connection.id)
    stale = _again(access, connection.id)
    before = len(store.refresh_tokens)
    found, barrier = [], threading.Barrier(4)

    def use():
        barrier.wait()
        found.append(access.store(stale).credentials["access_token"])

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(found)) == 1
    assert store.token_is_valid(found[0])
    assert len(store.refresh_tokens) == before + 1
    stored = access.vault.open_mapping(bytes(people.sql("SELECT credentials FROM connections")[0]["credentials"]))
    assert stored["access_token"] == found[0]


def test_a_refresh_whose_answer_is_lost_is_asked_for_again(store, maya, access):
    connection = _connection(store, maya, access)
    access.expire(connection.id)
    token = access.vault.open_mapping(connection.credentials)["refresh_token"]
    assert store.refresh(token) is not None  # answered, but nobody heard it

    again = access.store(_again(access, connection.id)).credentials

    assert store.token_is_valid(again["access_token"])


def test_a_refresh_token_that_is_dead_means_reconnect(store, maya, access):
    connection = _connection(store, maya, access)
    access.expire(connection.id)
    store.refresh_tokens.clear()

    with pytest.raises(NeedsMerchant) as failed:
        access.store(_again(access, connection.id))

    assert failed.value.problem is TOKEN_REVOKED


def test_a_token_that_never_expires_is_not_taken(store, maya, people, monkeypatch, gateway):
    monkeypatch.setattr(store, "redeem", lambda code, *, expiring: {"access_token": "shpat_x", "scope": "read_orders"})

    assert installed(maya, store).status_code == 503
    assert stores(people) == []


def test_the_button_on_our_own_page_leads_to_the_consent_page_and_back(store, maya, people, access):
    installed(maya, store)
    maya.post("/install/claim")
    people.sql("UPDATE connections SET state = 'action_needed', state_problem = 'connection.permission_missing'")

    link = re.search(r'href="(/stores/\d+/reconnect)"', maya.get("/stores").text)[1]
    address = maya.get(link).headers["Location"]
    assert urlsplit(address).path.endswith(f"/{SHOP}/admin/oauth/authorize")
    assert maya.get(consent(maya, address)).headers["Location"].startswith("/stores?connected=")

    (row,) = stores(people)
    assert (row["state"], row["generation"]) == ("connected", 2)


def test_a_viewer_reconnects_nothing(store, maya, people, gateway):
    installed(maya, store)
    maya.post("/install/claim")
    people.user("vera@example.com", role="viewer")

    answer = Person(gateway).log_in("vera@example.com").get(f"/stores/{stores(people)[0]['id']}/reconnect")

    assert answer.status_code == 403
    assert people.sql("SELECT 1 FROM shopify_installs") == []


# --- the shop changes ----------------------------------------------------------------------------------------------
def test_a_shop_with_a_new_domain_is_the_same_shop(store, maya, people, sandbox, access, application):
    connection = _connection(store, maya, access)
    del sandbox.stores["shopify", SHOP]
    sandbox.stores["shopify", "fern-clay.myshopify.com"] = store
    sandbox.stores["shopify", SHOP] = store  # Shopify answers under the former name too
    store.key = "fern-clay.myshopify.com"
    store.notify("shop/update", {"id": store.shop_id, "myshopify_domain": store.key})
    order = store.place()
    _until(lambda: people.sql("SELECT 1 FROM deliveries WHERE topic = 'orders/create'") and not sandbox.waiting())
    _drain(application)

    context = type("Context", (), {"additional_context": {"access": access}})()
    health.check(context, connection.id)
    _drain(application)

    (row,) = stores(people)
    assert (row["domain"], row["aliases"]) == ("fern-clay.myshopify.com", [SHOP])
    assert [row["external_id"] for row in people.sql("SELECT external_id FROM orders")] == [str(order.id)]


def test_changed_scopes_are_looked_into(store, maya, people, access, application, sandbox):
    connection = _connection(store, maya, access)
    people.sql("UPDATE connections SET catch_up_wanted_at = NULL")
    store.grant_scopes(["read_orders", "read_customers"])
    _until(lambda: people.sql("SELECT 1 FROM deliveries WHERE topic = 'app/scopes_update'") and not sandbox.waiting())
    _drain(application)

    (row,) = people.sql("SELECT outcome FROM deliveries WHERE topic = 'app/scopes_update'")
    assert row["outcome"] == "checking"
    assert people.sql("SELECT 1 FROM procrastinate_jobs WHERE task_name = 'connections.check'")
    health.check(type("Context", (), {"additional_context": {"access": access}})(), connection.id)
    assert people.sql("SELECT catch_up_wanted_at FROM connections")[0]["catch_up_wanted_at"] is not None


def test_a_scope_that_was_taken_back_is_found_though_no_webhook_told(store, maya, people, access):
    _connection(store, maya, access)
    context = type("Context", (), {"additional_context": {"access": access}})()
    store.scopes = []
    health.probe(context, 0)
    row = people.sql("SELECT state, state_problem, state_detail, scopes FROM connections")[0]
    assert (row["state"], row["state_problem"]) == ("action_needed", "connection.permission_missing")

    store.scopes = ["read_orders"]
    health.probe(context, 0)
    row = people.sql("SELECT state, state_problem, scopes FROM connections")[0]
    assert row == {"state": "connected", "state_problem": None, "scopes": ["read_orders"]}


# --- shared --------------------------------------------------------------------------------------------------------
def _again(access, connection_id):
    from gateway.connections import model

    with access.database.transaction() as tx:
        return model.get(tx, connection_id)


def _drain(application):
    access = application.extensions["access"]
    drainer = Drainer(access.database, access.payloads)
    try:
        while drainer.drain_once():
            pass
        drainer._kept_house_at = 0.0
        while drainer.drain_once():
            pass
    finally:
        drainer.close()


def _until(fact, seconds=10.0):
    end = time.monotonic() + seconds
    while not (found := fact()):
        assert time.monotonic() < end, "it did not become true"
        time.sleep(0.02)
    return found
