"""Test connection names the layer that does not hold, and the mend; whatever stands in the shop's place."""

from __future__ import annotations

import socket

import pytest
from werkzeug.wrappers import Response

from gateway.connections import check, connect_woocommerce
from gateway.connections.check import LAYERS
from tests.connections.conftest import PUBLIC, Person


@pytest.fixture
def scope(people):
    return people.user()


@pytest.fixture
def store(access, scope, shop) -> int:
    return connect_woocommerce.connect_with_keys(
        access, scope, shop.url, shop.consumer_key, shop.consumer_secret
    )  # fmt: skip


def leads_to(people, base_url):
    people.sql("UPDATE connections SET base_url = :url", url=base_url)


def outcome(steps):
    """(the layer that does not hold, its problem); every layer before it holds, none behind it was tried."""
    at = next(place for place, step in enumerate(steps) if step.outcome == "bad")
    assert [step.layer for step in steps] == list(LAYERS)
    assert {step.outcome for step in steps[:at]} <= {"ok"}
    assert {step.outcome for step in steps[at + 1 :]} <= {"untried"}
    return steps[at].layer, steps[at].problem.code


def failing(access, scope, store):
    return outcome(check.check(access, scope, store))


def test_all_layers_hold(access, scope, store):
    steps = check.check(access, scope, store)

    assert [(step.layer, step.outcome) for step in steps] == [(layer, "ok") for layer in LAYERS]
    assert {step.layer: step.note for step in steps if step.note} == {"encryption": "plain"}  # http, on this machine


def test_an_unknown_name(access, scope, store, people):
    leads_to(people, "https://no-such-shop.test/wp-json")

    assert failing(access, scope, store) == ("name", "store.name_unknown")


def test_a_closed_port(access, scope, store, people):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        leads_to(people, f"http://127.0.0.1:{free.getsockname()[1]}/wp-json")

    assert failing(access, scope, store) == ("connection", "store.unreachable")


def test_a_certificate_that_is_not_trusted(access, scope, store, people, serve, names):
    site = serve(lambda _: Response("{}"))
    names.answers["shop.test"] = [[PUBLIC]]
    leads_to(people, f"https://shop.test:{site.port}/wp-json")

    assert failing(access, scope, store) == ("encryption", "store.tls")


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        (Response(status=301, headers={"Location": "https://new-home.example/"}), "store.redirects"),
        (Response("<h1>Forbidden</h1>", 403, mimetype="text/html"), "store.firewall"),
        (Response("<h1>Coming soon</h1>", 302, headers={"Location": "/wp-login.php"}), "store.login_wall"),
        (Response("<h1>Parked domain</h1>", mimetype="text/html"), "store.not_wordpress"),
        (Response("<h1>wp</h1>/wp-content/", mimetype="text/html"), "store.rest_closed"),
        (Response("down", 503, mimetype="text/plain"), "store.error"),
    ],
)
def test_what_answers_in_the_shops_place(access, scope, store, people, serve, page, problem):
    site = serve(lambda _: page, tls=False)
    leads_to(people, f"http://127.0.0.1:{site.port}/wp-json")

    assert failing(access, scope, store) == ("answer", problem)


def test_keys_that_were_revoked(access, scope, store, shop, people):
    shop.consumer_key = "ck_" + "0" * 40

    assert failing(access, scope, store) == ("keys", "keys.wrong")
    assert people.sql("SELECT state, state_problem FROM connections") == [
        {"state": "action_needed", "state_problem": "keys.wrong"}
    ]


def test_keys_that_became_read_only(access, scope, store, shop):
    shop.read_only_key, shop.consumer_key = shop.consumer_key, shop.read_only_key
    shop.read_only_secret, shop.consumer_secret = shop.consumer_secret, shop.read_only_secret

    assert failing(access, scope, store) == ("writing", "keys.read_only")


def test_a_host_that_began_to_strip_the_header(access, scope, store, shop, people):
    shop.strips_authorization = True

    steps = check.check(access, scope, store)

    assert {step.layer: step.note for step in steps if step.note not in ("", "plain")} == {"keys": "keys_in_query"}
    [row] = people.sql("SELECT credentials FROM connections")
    assert access.vault.open_mapping(bytes(row["credentials"]))["auth"] == "query"


def test_a_host_that_began_to_cache(access, scope, store, shop):
    shop.caches_rest = True

    steps = check.check(access, scope, store)

    assert {step.layer: step.note for step in steps if step.note not in ("", "plain")} == {"cache": "fresh_query"}


def test_a_cache_that_does_not_look_at_queries(access, scope, store, shop, monkeypatch):
    """A CDN that leaves the query out of its key: no word of ours gets past it."""
    monkeypatch.setattr("gateway.platforms.woocommerce.keys.secrets.token_hex", lambda _: "the same")
    shop.caches_rest = True

    assert failing(access, scope, store) == ("cache", "store.cached")


def test_webhooks_that_were_switched_off_are_repaired(access, scope, store, shop):
    for hook in shop.webhooks.values():
        hook.status = "disabled"

    steps = check.check(access, scope, store)

    assert {step.layer: step.note for step in steps if step.note not in ("", "plain")} == {"webhooks": "repaired"}
    assert [hook.status for hook in shop.webhooks.values()] == ["active"] * 4


def test_permalinks_that_were_changed_are_followed(access, scope, store, shop, people):
    leads_to(people, f"{shop.url}/?via=wp-json/wc/&rest_route=")

    assert all(step.outcome == "ok" for step in check.check(access, scope, store))
    assert people.sql("SELECT base_url FROM connections") == [{"base_url": f"{shop.url}/wp-json"}]


def test_a_state_is_lifted_when_everything_holds(access, scope, store, people):
    people.sql("UPDATE connections SET state = 'action_needed', state_problem = 'store.firewall'")

    check.check(access, scope, store)

    assert people.sql("SELECT state, state_problem FROM connections") == [{"state": "connected", "state_problem": None}]


def test_another_accounts_store_is_not_tried(access, store, people, shop):
    other = people.user("zoe@example.com", "Other Ltd")

    assert check.check(access, other, store) is None


def test_the_page_says_it_in_words(store, gateway, shop):
    maya = Person(gateway).log_in("maya@example.com")
    path = f"/stores/{store}/test"

    assert "tells which layer does not hold" in maya.get(path).text
    assert "Everything holds." in maya.post(path).text
    shop.consumer_key = "ck_" + "0" * 40
    page = maya.post(path).text
    assert "The shop does not accept these keys" in page
    assert "Not tried" in page
    assert f'href="/stores/{store}/reconnect"' in page
