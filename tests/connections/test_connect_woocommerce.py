"""A WooCommerce shop becomes connected: through its consent page and by pasted keys, over real HTTP on both sides."""

from __future__ import annotations

import dataclasses
import re
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from gateway.connections import attempts, connect_woocommerce, model
from gateway.domain.problems import NeedsMerchant
from gateway.domain.window import Window
from gateway.platforms import REGISTRY
from gateway.platforms.woocommerce.find import PLAIN, Site
from tests.connections.conftest import Person

TOPICS = ["order.created", "order.deleted", "order.restored", "order.updated"]
CALLBACK = "/install/woocommerce/callback"


def to_consent_page(person, shop):
    """The owner, sent off and logged in at the shop: the consent page's address and text."""
    sent = person.post("/stores/connect/woocommerce", url=shop.url)
    assert sent.status_code == 303, sent.text
    url = sent.headers["Location"]
    login = person.get(url)
    if login.status_code == 200:  # logged in at the shop already
        return url, login.text
    at_login = person.session.post(login.headers["Location"], data={"login": "1"}, allow_redirects=False, timeout=30)
    page = person.get(at_login.headers["Location"])
    assert page.status_code == 200, page.text
    return url, page.text


def press(person, page, kind):
    link = re.search(rf'href="([^"]+)"[^>]*wc-auth-{kind}', page)
    return person.get(link[1].replace("&amp;", "&"))


def state_of(url):
    return parse_qs(urlsplit(url).query)["user_id"][0]


def keys_of(shop, scope="read_write"):
    key, secret = shop.make_keys(scope)
    return {"key_id": 3, "consumer_key": key, "consumer_secret": secret, "key_permissions": scope}


def hooks(shop):
    return sorted((hook.topic, hook.status) for hook in shop.webhooks.values())


def nothing_is_left(people, shop):
    return people.sql("SELECT id FROM connections") == [] and shop.webhooks == {}


# --- the way through -----------------------------------------------------------------------------------------------
def test_the_owner_approves_and_the_store_is_connected(maya, shop, people, access, gateway):
    url, page = to_consent_page(maya, shop)

    approved = press(maya, page, "approve")
    back = maya.get(approved.headers["Location"])

    assert url.startswith(f"{shop.url}/wc-auth/v1/authorize?")
    asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    assert asked["scope"] == "read_write"
    assert asked["callback_url"] == gateway + CALLBACK
    assert re.fullmatch(r"[A-Za-z0-9]{43}", asked["user_id"])
    assert "Order Gateway" in page
    assert "Create webhooks" in page
    assert back.status_code == 303, back.text
    [store] = people.sql("SELECT * FROM connections")
    assert back.headers["Location"] == f"/stores?connected={store['id']}#store-{store['id']}"
    assert (store["state"], store["state_problem"], store["name"], store["currency"], store["time_zone"]) == (
        "connected", None, shop.name, "EUR", "Europe/Berlin",
    )  # fmt: skip
    assert hooks(shop) == [(topic, "active") for topic in TOPICS]
    assert {hook.delivery_url for hook in shop.webhooks.values()} == {f"{gateway}/webhooks/woocommerce/{store['key']}"}
    [secret] = {hook.secret for hook in shop.webhooks.values()}
    assert re.fullmatch(r"[A-Za-z0-9]{50}", secret)
    assert access.vault.open_list(bytes(store["hook_secrets"])) == [secret]
    assert not any(hook.pending_delivery for hook in shop.webhooks.values()), "each ping was answered exactly 200"
    assert store["catch_up_wanted_at"] is not None, "the first catch-up is asked for"
    assert people.sql("SELECT keys FROM connect_attempts") == [{"keys": None}]
    assert "is connected.</b>" in maya.get(back.headers["Location"]).text


def test_the_new_keys_are_the_ones_in_use(maya, shop, people, access):
    press_all(maya, shop)

    [store] = people.sql("SELECT credentials FROM connections")
    kept = access.vault.open_mapping(bytes(store["credentials"]))
    assert kept == {"consumer_key": next(iter(shop.keys)), "consumer_secret": next(iter(shop.keys.values()))[0]}


def press_all(person, shop):
    """Through the whole flow; the last answer."""
    _, page = to_consent_page(person, shop)
    return person.get(press(person, page, "approve").headers["Location"])


def test_a_webhook_arrives_right_after(maya, shop, people):
    press_all(maya, shop)

    shop.place()

    for _ in range(100):
        rows = people.sql("SELECT topic, state FROM deliveries")
        if rows:
            break
        shop.world.wait(0.05)
    assert {row["topic"] for row in rows} <= {"order.created", "order.updated"}


def test_denied_means_nothing_and_can_be_begun_again(maya, shop, people):
    _, page = to_consent_page(maya, shop)

    denied = press(maya, page, "deny")

    assert denied.status_code == 409
    assert "The access was not approved" in denied.text
    assert nothing_is_left(people, shop)
    assert press_all(maya, shop).status_code == 303


def test_coming_back_twice_connects_once(maya, shop, people):
    _, page = to_consent_page(maya, shop)
    back = press(maya, page, "approve").headers["Location"]
    assert maya.get(back).status_code == 303

    again = maya.get(back)

    assert again.status_code == 409
    assert "This connection attempt is over" in again.text
    assert len(people.sql("SELECT id FROM connections")) == 1
    assert len(shop.webhooks) == 4


def test_back_before_the_keys_says_so_and_the_page_may_be_loaded_again(maya, shop, people, gateway):
    url, _ = to_consent_page(maya, shop)
    back = f"/stores/connect/woocommerce/return?success=1&user_id={state_of(url)}"

    early = maya.get(back)
    handed = requests.post(gateway + CALLBACK, json={**keys_of(shop), "user_id": state_of(url)}, timeout=30)
    later = maya.get(back)

    assert early.status_code == 503
    assert "keys have not arrived" in early.text
    assert handed.status_code == 200
    assert later.status_code == 303
    assert len(people.sql("SELECT id FROM connections")) == 1


# --- callbacks that are not the shop's -----------------------------------------------------------------------------
@pytest.mark.parametrize("state", ["", "x", "A" * 43, "' OR 1=1 --", "\x00" * 43, "é" * 43, "A" * 5000])
def test_a_forged_callback_is_refused(gateway, shop, people, state):
    answer = requests.post(gateway + CALLBACK, json={**keys_of(shop), "user_id": state}, timeout=30)

    assert answer.status_code == 409
    assert people.sql("SELECT id FROM connections") == []


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"user_id": {"a": 1}}', b'{"user_id": ["x"]}', b"[" * 10_000,
     b'{"user_id": "' + b"A" * 20_000 + b'"}', b"user_id=x&consumer_key=ck_1"],
)  # fmt: skip
def test_a_callback_that_is_no_callback_is_refused(gateway, body):
    for kind in ("application/json", "application/x-www-form-urlencoded", "text/plain", ""):
        answer = requests.post(gateway + CALLBACK, data=body, headers={"Content-Type": kind}, timeout=30)

        assert answer.status_code == 409


def test_a_second_callback_does_not_replace_the_first_ones_keys(maya, shop, people, gateway, access):
    url, _ = to_consent_page(maya, shop)
    first, second = keys_of(shop), keys_of(shop)

    answers = [
        requests.post(gateway + CALLBACK, json={**pair, "user_id": state_of(url)}, timeout=30).status_code
        for pair in (first, second)
    ]
    maya.get(f"/stores/connect/woocommerce/return?success=1&user_id={state_of(url)}")

    assert answers == [200, 409]
    [store] = people.sql("SELECT credentials FROM connections")
    assert access.vault.open_mapping(bytes(store["credentials"]))["consumer_key"] == first["consumer_key"]


def test_a_form_is_taken_as_well_as_json(maya, shop, gateway):
    url, _ = to_consent_page(maya, shop)

    answer = requests.post(gateway + CALLBACK, data={**keys_of(shop), "user_id": state_of(url)}, timeout=30)

    assert answer.status_code == 200


def test_an_attempt_expires(maya, shop, people, gateway):
    url, _ = to_consent_page(maya, shop)
    people.sql("UPDATE connect_attempts SET expires_at = now() - interval '1 second'")

    handed = requests.post(gateway + CALLBACK, json={**keys_of(shop), "user_id": state_of(url)}, timeout=30)
    back = maya.get(f"/stores/connect/woocommerce/return?success=1&user_id={state_of(url)}")

    assert (handed.status_code, back.status_code) == (409, 409)
    assert nothing_is_left(people, shop)


def test_keys_that_nobody_came_back_for_are_forgotten(maya, shop, people, gateway, access):
    url, _ = to_consent_page(maya, shop)
    requests.post(gateway + CALLBACK, json={**keys_of(shop), "user_id": state_of(url)}, timeout=30)

    with access.database.transaction() as tx:
        early = attempts.forget_expired(tx, now=datetime.now(UTC))
        late = attempts.forget_expired(tx, now=datetime.now(UTC) + timedelta(hours=2))

    assert (early, late) == (0, 1)
    assert people.sql("SELECT 1 FROM connect_attempts") == []


def test_another_persons_browser_does_not_finish_the_flow(maya, shop, people, gateway):
    """Whoever is talked into approving somebody else's flow does not give their shop away."""
    people.user("zoe@example.com", "Other Ltd")
    zoe = Person(gateway).log_in("zoe@example.com")
    _, page = to_consent_page(maya, shop)
    back = press(maya, page, "approve").headers["Location"]

    stolen = zoe.get(back)
    stranger = Person(gateway).get(back)

    assert stolen.status_code == 409
    assert stranger.status_code == 302
    assert stranger.headers["Location"].startswith("/login?next=")
    assert nothing_is_left(people, shop)


def test_a_viewer_connects_nothing(people, shop, gateway):
    people.user("vic@example.com", role="viewer")
    viewer = Person(gateway).log_in("vic@example.com")

    for answer in (
        viewer.get("/stores/connect"),
        viewer.post("/stores/connect/woocommerce", url=shop.url),
        viewer.post("/stores/connect/woocommerce/keys", url=shop.url, **pasted(shop)),
    ):
        assert answer.status_code == 403
    assert nothing_is_left(people, shop)
    assert people.sql("SELECT id FROM connect_attempts") == []


# --- by keys -------------------------------------------------------------------------------------------------------
def pasted(shop, **changed):
    return {"consumer_key": shop.consumer_key, "consumer_secret": shop.consumer_secret, **changed}


def paste(person, shop, url=None, **changed):
    return person.post("/stores/connect/woocommerce/keys", url=url or shop.url, **pasted(shop, **changed))


def test_pasted_keys_connect_the_store(maya, shop, people):
    answer = paste(maya, shop, url=f"{shop.url}/wp-admin/admin.php?page=wc-settings")

    assert answer.status_code == 303, answer.text
    assert hooks(shop) == [(topic, "active") for topic in TOPICS]
    assert people.sql("SELECT state FROM connections") == [{"state": "connected"}]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"consumer_key": "ck_" + "0" * 40}, "The shop does not accept these keys"),
        ({"consumer_secret": "cs_" + "0" * 40}, "The shop does not accept these keys"),
        ({"consumer_key": "hello"}, "These can&#39;t be WooCommerce&#39;s keys"),
        ({"consumer_secret": ""}, "These can&#39;t be WooCommerce&#39;s keys"),
        ({"consumer_key": "ck_\r\nX: 1"}, "These can&#39;t be WooCommerce&#39;s keys"),
    ],
)
def test_keys_that_do_not_open_the_shop_leave_nothing_behind(maya, shop, people, wrong, says):
    answer = paste(maya, shop, **wrong)

    assert answer.status_code == 422
    assert says in answer.text
    assert shop.consumer_secret not in answer.text
    assert nothing_is_left(people, shop)


def test_read_only_keys_are_told_and_leave_nothing_behind(maya, shop, people):
    answer = paste(maya, shop, consumer_key=shop.read_only_key, consumer_secret=shop.read_only_secret)

    assert answer.status_code == 422
    assert "The keys may read, but not write" in answer.text
    assert nothing_is_left(people, shop)


def test_keys_of_another_shop_are_refused(maya, shop, sandbox, people):
    other = sandbox.add_store("woocommerce", "other-shop")

    assert paste(maya, shop, url=other.url).status_code == 422
    assert nothing_is_left(people, shop)
    assert other.webhooks == {}


def test_a_shop_that_breaks_in_the_middle_leaves_nothing_behind(maya, shop, people, monkeypatch):
    """The third webhook can't be made: the two before it are taken away again."""
    made = shop.subscribe

    def breaks(**given):
        if len(shop.webhooks) == 2:
            raise RuntimeError("out of memory")
        return made(**given)

    monkeypatch.setattr(shop, "subscribe", breaks)

    answer = paste(maya, shop)

    assert answer.status_code == 503
    assert nothing_is_left(people, shop)
    monkeypatch.undo()
    assert paste(maya, shop).status_code == 303


def test_a_host_that_strips_the_authorization_header_gets_the_keys_as_a_query(maya, shop, people, access):
    shop.strips_authorization = True

    assert paste(maya, shop).status_code == 303

    [store] = people.sql("SELECT credentials FROM connections")
    assert access.vault.open_mapping(bytes(store["credentials"]))["auth"] == "query"
    assert len(shop.webhooks) == 4


def test_a_shop_over_plain_http_gets_signed_calls(maya, shop, people, access):
    shop.is_ssl = False  # sheet fact 11: Basic and keys in the query are 401 there

    assert paste(maya, shop).status_code == 303

    [row] = people.sql("SELECT id, credentials FROM connections")
    assert access.vault.open_mapping(bytes(row["credentials"]))["auth"] == "signed"
    assert hooks(shop) == [(topic, "active") for topic in TOPICS]
    order = shop.place()
    with access.database.transaction() as tx:
        connection = model.get(tx, row["id"])
    store = access.store(connection)
    assert [look.external_id for look in REGISTRY["woocommerce"].fetch_orders(store, [str(order.id)])] == [
        str(order.id)
    ]
    plain = dataclasses.replace(store, base_url=f"{shop.url}{PLAIN}")
    assert [head.external_id for head in REGISTRY["woocommerce"].list_heads(plain, _last_day(), None).heads] == [
        str(order.id)
    ]
    wrong = dataclasses.replace(store, credentials={**store.credentials, "consumer_secret": "cs_" + "0" * 40})
    with pytest.raises(NeedsMerchant):
        list(REGISTRY["woocommerce"].fetch_orders(wrong, [str(order.id)]))


def _last_day():
    until = datetime.now(UTC) + timedelta(minutes=1)
    return Window(until.replace(microsecond=0) - timedelta(days=1), until.replace(microsecond=0))


def test_a_host_that_caches_the_api_gets_queries_that_never_repeat(maya, shop, people, access):
    shop.caches_rest = True

    assert paste(maya, shop).status_code == 303

    [store] = people.sql("SELECT credentials FROM connections")
    assert access.vault.open_mapping(bytes(store["credentials"]))["fresh"] == "query"


# --- the same shop twice -------------------------------------------------------------------------------------------
def test_the_same_shop_again_renews_its_keys_and_keeps_everything_else(maya, shop, people, access):
    paste(maya, shop)
    [before] = people.sql("SELECT id, key, hook_secrets, installed_at FROM connections")

    answer = press_all(maya, shop)

    assert answer.headers["Location"].startswith(f"/stores?connected={before['id']}#")
    [after] = people.sql("SELECT id, key, hook_secrets, installed_at, credentials, generation FROM connections")
    assert {name: after[name] for name in before} == before
    assert after["generation"] == 2
    assert access.vault.open_mapping(bytes(after["credentials"]))["consumer_key"] != shop.consumer_key
    assert hooks(shop) == [(topic, "active") for topic in TOPICS]


def test_a_shop_under_the_name_it_had_before_is_the_same(maya, shop, people):
    """localhost and 127.0.0.1 stand for two names of one shop; its webhooks tell that it moved."""
    paste(maya, shop)
    [before] = people.sql("SELECT id, key FROM connections")
    moved_to = shop.url.replace("127.0.0.1", "localhost")
    people.sql("UPDATE connections SET base_url = 'http://127.0.0.1:9/wp-json', domain = 'old.example'")

    answer = paste(maya, shop, url=moved_to)

    assert answer.status_code == 303, answer.text
    [after] = people.sql("SELECT id, key, base_url, domain, aliases FROM connections")
    assert (after["id"], after["key"]) == (before["id"], before["key"])
    assert after["base_url"] == moved_to + "/wp-json"
    assert after["aliases"] == ["old.example"]
    assert len(shop.webhooks) == 4


def test_a_copy_of_a_shop_that_still_lives_is_a_shop_of_its_own(maya, shop, people):
    """A staging copy brings the webhooks along; the shop at the old address still answers."""
    paste(maya, shop)

    answer = paste(maya, shop, url=shop.url.replace("127.0.0.1", "localhost"))

    assert answer.status_code == 303
    assert len(people.sql("SELECT id FROM connections")) == 2


def test_a_failed_renewal_leaves_the_old_connection_as_it_was(maya, shop, people):
    paste(maya, shop)
    columns = "id, credentials, base_url, generation, state, name"
    before = people.sql(f"SELECT {columns} FROM connections")

    answer = paste(maya, shop, consumer_key=shop.read_only_key, consumer_secret=shop.read_only_secret)

    assert answer.status_code == 422
    assert people.sql(f"SELECT {columns} FROM connections") == before
    assert hooks(shop) == [(topic, "active") for topic in TOPICS]


def test_a_shop_of_another_account_is_not_taken_over(maya, shop, people, gateway):
    paste(maya, shop)
    people.user("zoe@example.com", "Other Ltd")
    zoe = Person(gateway).log_in("zoe@example.com")

    answer = paste(zoe, shop)

    assert answer.status_code == 422
    assert "This store is connected to another account" in answer.text
    assert len(people.sql("SELECT id FROM connections")) == 1


# --- where the form leads ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("javascript:alert(1)", "This can&#39;t be the address of a shop"),
        ("https://user:pw@shop.example", "This can&#39;t be the address of a shop"),
        ("", "This can&#39;t be the address of a shop"),
        ("https://no-such-shop.test", "The store&#39;s address is not known on the internet"),
    ],
)
def test_what_is_no_shop_is_told_on_the_form(maya, people, typed, says):
    answer = maya.post("/stores/connect/woocommerce", url=typed)

    assert answer.status_code in (422, 503)
    assert says in answer.text
    assert people.sql("SELECT id FROM connect_attempts") == []


def test_what_was_typed_comes_back_escaped(maya):
    answer = maya.post("/stores/connect/woocommerce", url='"><script>alert(1)</script>')

    assert "<script>alert" not in answer.text


def test_the_form_lets_the_browser_go_on_to_the_shop(maya):
    policy = maya.get("/stores/connect/woocommerce").headers["Content-Security-Policy"]

    assert "form-action 'self' https:" in policy
    assert "frame-ancestors 'none'" in policy


def test_a_public_gateway_without_https_says_why_the_consent_page_can_not_work(maya, shop, people, access, monkeypatch):
    monkeypatch.setattr(access, "allow_private", False)
    monkeypatch.setattr(access, "public_url", "http://gateway.example")

    answer = maya.post("/stores/connect/woocommerce", url=shop.url)

    assert answer.status_code == 422
    assert "The approval page needs a gateway with https" in answer.text


def test_a_real_shop_hands_keys_to_https_only_also_where_private_shops_are_allowed(maya, people, access, monkeypatch):
    """Its own error page would be all that its owner saw (capture woocommerce-pairs/18-wc-auth/6)."""
    found = Site("https://shop.example", "https://shop.example/wp-json", "Shop", "UTC")
    monkeypatch.setattr(connect_woocommerce.sites, "find", lambda *_, **__: found)

    answer = maya.post("/stores/connect/woocommerce", url="https://shop.example")

    assert access.allow_private
    assert answer.status_code == 422
    assert "The approval page needs a gateway with https" in answer.text


def test_another_sites_form_begins_nothing(maya, shop, people, gateway):
    answer = maya.session.post(
        f"{gateway}/stores/connect/woocommerce", data={"url": shop.url}, allow_redirects=False, timeout=30
    )

    assert answer.status_code == 400
    assert people.sql("SELECT id FROM connect_attempts") == []
