"""An Etsy shop becomes connected: consent, code, tokens, shop, over real HTTP on both sides; and tokens that rotate."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
import threading
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.connections import model
from gateway.connections.access import REFRESH_SECONDS
from gateway.db.engine import FROZEN_SECONDS
from gateway.domain.problems import STORE_ERROR, TOKEN_REVOKED, NeedsMerchant, Retry
from gateway.http import CONNECT_SECONDS
from gateway.platforms.etsy import install
from gateway.sandbox.etsy import EtsyStore
from tests.connections.conftest import Person


@pytest.fixture
def etsy(sandbox, access, monkeypatch) -> EtsyStore:
    """A shop at Etsy, and a gateway whose app is registered there."""
    made = sandbox.add_store("etsy", "18234567", currency="EUR")
    assert isinstance(made, EtsyStore)
    app = dataclasses.replace(
        access.app, etsy_keystring=sandbox.etsy_app.keystring, etsy_shared_secret=sandbox.etsy_app.shared_secret,
        etsy_api_url=f"{sandbox.base_url}/etsy/v3", etsy_connect_url=f"{sandbox.base_url}/etsy/oauth/connect",
    )  # fmt: skip
    monkeypatch.setattr(access, "app", app)
    sandbox.etsy_app.per_second = None
    return made


def leave(person):
    """Off to Etsy: the consent page's address."""
    sent = person.get("/install/etsy")
    assert sent.status_code == 303, sent.text
    return sent.headers["Location"]


def decide(person, url, shop, what="grant"):
    """Press the page's button; where the browser is sent."""
    answer = person.session.post(url, data={"shop": shop.key, "do": what}, allow_redirects=False, timeout=30)
    assert answer.status_code == 302, answer.text
    return answer.headers["Location"]


def connect(person, shop):
    return person.get(decide(person, leave(person), shop))


def query(url):
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def nothing_is_left(people):
    return people.sql("SELECT id FROM connections") == []


# --- consent -------------------------------------------------------------------------------------------------------
def test_the_seller_approves_and_the_shop_is_connected(maya, etsy, people, access, gateway):
    url = leave(maya)
    page = maya.get(url)
    back = maya.get(decide(maya, url, etsy))

    asked = query(url)
    assert asked["response_type"] == "code"
    assert asked["client_id"] == access.app.etsy_keystring
    assert asked["redirect_uri"] == f"{gateway}/install/etsy/callback"
    assert asked["scope"] == "transactions_r shops_r"
    assert "transactions_r%20shops_r" in url
    assert asked["code_challenge_method"] == "S256"
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", asked["code_challenge"])
    assert "transactions_r" in page.text
    assert back.status_code == 303, back.text
    [store] = people.sql("SELECT * FROM connections")
    assert (store["platform"], store["shop_id"], store["state"], store["currency"]) == (
        "etsy", "18234567", "connected", "EUR",
    )  # fmt: skip
    assert store["scopes"] == ["transactions_r", "shops_r"]
    assert store["catch_up_wanted_at"] is not None
    kept = access.vault.open_mapping(bytes(store["credentials"]))
    assert (kept["access_token"], kept["refresh_token"]) == (etsy.access_token, etsy.refresh_token)
    assert "gateway_etsy_state" not in maya.session.cookies.get_dict()


def test_the_verifier_is_long_and_its_challenge_is_its_sha256():
    verifier = install.new_verifier()

    assert re.fullmatch(r"[A-Za-z0-9._~-]{43,128}", verifier)
    assert install.challenge(verifier) == base64.urlsafe_b64encode(
        hashlib.sha256(verifier.encode()).digest()
    ).decode().rstrip("=")
    # RFC 7636, appendix B.
    example = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    assert install.challenge(example) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_denied_means_nothing_and_can_be_begun_again(maya, etsy, people):
    answer = maya.get(decide(maya, leave(maya), etsy, "deny"))

    assert answer.status_code == 409
    assert "The access was not approved" in answer.text
    assert nothing_is_left(people)
    assert connect(maya, etsy).status_code == 303


def test_coming_back_twice_connects_once(maya, etsy, people):
    back = decide(maya, leave(maya), etsy)
    assert maya.get(back).status_code == 303

    assert maya.get(back).status_code == 409
    assert len(people.sql("SELECT id FROM connections")) == 1


def test_a_code_without_the_cookie_of_this_browser_is_refused(maya, etsy, people):
    """Another browser's state: the code that a stranger slipped in connects nothing."""
    back = decide(maya, leave(maya), etsy)
    maya.session.cookies.set("gateway_etsy_state", "x", path="/install/etsy", domain="127.0.0.1")
    for cookie in list(maya.session.cookies):
        if cookie.name == "gateway_etsy_state":
            maya.session.cookies.clear(cookie.domain, cookie.path, cookie.name)

    assert maya.get(back).status_code == 409
    assert nothing_is_left(people)


def test_another_users_state_is_refused(maya, etsy, people, gateway):
    people.user("zoe@example.com", "Other Ltd")
    zoe = Person(gateway).log_in("zoe@example.com")
    back = decide(maya, leave(maya), etsy)
    zoe.session.cookies.set("gateway_etsy_state", query(back)["state"], path="/install/etsy")

    assert zoe.get(back).status_code == 409
    assert nothing_is_left(people)


@pytest.mark.parametrize(
    "query_", ["", "?code=x", "?state=", "?state=x&code=x", "?error=access_denied", "?state=%00&code=%00",
               "?state=é&code=" + "A" * 3000],
)  # fmt: skip
def test_a_forged_callback_is_refused(maya, etsy, people, query_):
    leave(maya)

    assert maya.get(f"/install/etsy/callback{query_}").status_code == 409
    assert nothing_is_left(people)


def test_a_wrong_code_is_refused_and_said_why(maya, etsy, people):
    state = query(leave(maya))["state"]

    answer = maya.get(f"/install/etsy/callback?state={state}&code=guessed")

    assert answer.status_code == 409
    assert "did not accept the approval" in answer.text
    assert "invalid_grant" in answer.text
    assert nothing_is_left(people)


def test_a_bad_moment_of_etsys_is_told_and_leaves_nothing(maya, etsy, people, sandbox):
    sandbox.etsy_app.token_errors = 1

    answer = connect(maya, etsy)

    assert answer.status_code == 503
    assert nothing_is_left(people)
    assert connect(maya, etsy).status_code == 303


def test_a_buyer_without_a_shop_is_refused(maya, etsy, people, monkeypatch):
    monkeypatch.setattr(etsy, "shop_id", 0)

    answer = connect(maya, etsy)

    assert answer.status_code == 409
    assert "This Etsy account has no shop" in answer.text
    assert nothing_is_left(people)


def test_the_same_shop_again_gets_the_new_tokens(maya, etsy, people, access):
    connect(maya, etsy)
    [before] = people.sql("SELECT id, installed_at FROM connections")
    etsy.revoke()
    people.sql("UPDATE connections SET state = 'action_needed', state_problem = 'connection.token_revoked'")

    connect(maya, etsy)

    [after] = people.sql("SELECT id, installed_at, credentials, state, state_problem, generation FROM connections")
    assert (after["id"], after["installed_at"]) == (before["id"], before["installed_at"])
    assert (after["state"], after["state_problem"], after["generation"]) == ("connected", None, 2)
    assert access.vault.open_mapping(bytes(after["credentials"]))["access_token"] == etsy.access_token


def test_a_shop_of_another_account_is_not_taken_over(maya, etsy, people, gateway):
    connect(maya, etsy)
    before = people.sql("SELECT account_id, credentials FROM connections")
    people.user("zoe@example.com", "Other Ltd")

    answer = connect(Person(gateway).log_in("zoe@example.com"), etsy)

    assert answer.status_code == 409
    assert people.sql("SELECT account_id, credentials FROM connections") == before


def test_a_viewer_connects_nothing(people, etsy, gateway):
    people.user("vic@example.com", role="viewer")
    viewer = Person(gateway).log_in("vic@example.com")

    for path in ("/stores/connect/etsy", "/install/etsy", "/install/etsy/callback?state=x&code=x"):
        assert viewer.get(path).status_code == 403
    assert people.sql("SELECT id FROM connect_attempts") == []


def test_a_gateway_without_an_etsy_app_says_who_mends_that(maya, access, monkeypatch):
    monkeypatch.setattr(access, "app", dataclasses.replace(access.app, etsy_keystring=""))

    assert "Etsy is not set up on this gateway" in maya.get("/install/etsy").text
    assert "Etsy is not set up on this gateway" in maya.get("/stores/connect/etsy").text


def test_the_page_shows_what_to_enter_at_etsy(maya, etsy, gateway):
    page = maya.get("/stores/connect/etsy").text

    for text in (f"{gateway}/install/etsy/callback", f"{gateway}/webhooks/etsy", "order.canceled",
                 "is not endorsed or certified by Etsy", "ETSY_WEBHOOK_SECRETS"):  # fmt: skip
        assert text in page
    assert "whsec_" in page


# --- tokens --------------------------------------------------------------------------------------------------------
@pytest.fixture
def store(maya, etsy, people):
    connect(maya, etsy)
    return people.sql("SELECT id FROM connections")[0]["id"]


def connection(access, store_id):
    with access.database.transaction() as tx:
        found = model.get(tx, store_id)
    assert found is not None
    return found


def test_a_refresh_rotates_both_tokens_and_stores_them(access, store, etsy):
    first = access.vault.open_mapping(connection(access, store).credentials)
    access.expire(store)

    fresh = access.store(connection(access, store)).credentials

    assert fresh["access_token"] == etsy.access_token != first["access_token"]
    assert fresh["refresh_token"] == etsy.refresh_token != first["refresh_token"]
    assert access.vault.open_mapping(connection(access, store).credentials) == fresh
    assert datetime.fromisoformat(fresh["expires_at"]) > datetime.now(UTC) + timedelta(minutes=55)


def test_a_slow_refresh_is_written_before_postgresql_ends_its_transaction():
    """What comes later is lost, and with it the successor of the old token, which is used up."""
    assert CONNECT_SECONDS + 2 * REFRESH_SECONDS < FROZEN_SECONDS


def test_refreshes_at_once_spend_the_refresh_token_once(access, store, etsy, monkeypatch):
    """Etsy takes each refresh token once; a second use would end the grant."""
    spent = []
    refresh = etsy.refresh
    monkeypatch.setattr(etsy, "refresh", lambda value: spent.append(value) or refresh(value))
    access.expire(store)
    got = []

    def use():
        got.append(access.store(connection(access, store)).credentials["access_token"])

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(spent) == 1
    assert set(got) == {etsy.access_token}


def test_a_sporadic_500_on_refresh_is_no_disconnect(access, store, etsy, sandbox, people):
    access.expire(store)
    sandbox.etsy_app.token_errors = 1

    with pytest.raises(Retry) as told:
        access.store(connection(access, store))

    assert told.value.problem is STORE_ERROR
    assert people.sql("SELECT state FROM connections") == [{"state": "connected"}]
    assert access.store(connection(access, store)).credentials["access_token"] == etsy.access_token


def test_only_invalid_grant_means_reconnect(access, store, etsy):
    access.expire(store)
    etsy.revoke()

    with pytest.raises(NeedsMerchant) as told:
        access.store(connection(access, store))

    assert told.value.problem is TOKEN_REVOKED
