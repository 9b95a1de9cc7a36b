"""Deliveries, Store → Integrations and Settings."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from babel import dates

from gateway.web import wording
from tests.web.world import NOON
from webhooks import inbox


def rows(page: str) -> list[int]:
    return [int(found) for found in re.findall(r'class="order-no" href="/deliveries/(\d+)"', page)]


def test_deliveries_are_narrowed_by_state_store_and_topic(browser, world, maya):
    one, two = world.store(maya), world.store(maya, "Paris", "woocommerce")
    first = world.delivery(maya, one, topic="orders/create")
    second = world.delivery(maya, two, topic="order.updated", state="dead", problem="webhook.body_not_json")

    assert rows(browser.get("/deliveries").text) == [second, first]
    assert rows(browser.get("/deliveries?state=dead").text) == [second]
    assert rows(browser.get(f"/deliveries?store={one}").text) == [first]
    assert rows(browser.get("/deliveries?topic=order.updated").text) == [second]
    assert "No delivery fits" in browser.get("/deliveries?topic=none&state=dead").text


def test_without_any_the_page_says_when_they_come(browser):
    assert "No delivery yet" in browser.get("/deliveries").text


def test_deliveries_are_paged_without_gaps(browser, world, maya):
    store = world.store(maya)
    made = [world.delivery(maya, store) for _ in range(60)]

    first = browser.get("/deliveries").text
    older = re.search(r'rel="next" href="([^"]+)"', first)[1].replace("&amp;", "&")

    assert rows(first) + rows(browser.get(older).text) == made[::-1]


def test_a_delivery_shows_its_headers_without_signatures_and_secrets(browser, world, maya):
    headers = [["X-Shopify-Hmac-Sha256", "aGVsbG8="], ["X-WC-Webhook-Signature", "d29ybGQ="], ["Authorization", "B1"],
               ["Cookie", "c=2"], ["X-Api-Key", "k3"], ["X-Shopify-Topic", "orders/create"]]  # fmt: skip
    delivery = world.delivery(maya, world.store(maya), headers=headers)

    page = browser.get(f"/deliveries/{delivery}").text

    for secret in ("aGVsbG8=", "d29ybGQ=", ">B1<", "c=2", ">k3<"):
        assert secret not in page
    assert "orders/create" in page


@pytest.mark.parametrize(
    "body", [b'{"note":"\\ud800"}', b'"\\u0000"', b"\xff\xfe", b'{"n":' + b"9" * 5000 + b"}", b"[" * 5000, b""]
)
def test_a_body_of_any_kind_has_its_page(browser, world, maya, body):
    delivery = world.delivery(maya, world.store(maya), body=body, state="dead", problem="webhook.body_not_json")

    answer = browser.get(f"/deliveries/{delivery}")

    assert answer.status_code == 200
    assert "Body as received" in answer.text or not body


def test_a_body_is_shown_pretty_and_as_received(browser, world, maya):
    delivery = world.delivery(maya, world.store(maya), body='{"a":[1,"é<b>"]}'.encode())

    page = browser.get(f"/deliveries/{delivery}").text

    assert "{\n  &#34;a&#34;: [\n    1,\n    &#34;é&lt;b&gt;&#34;\n  ]\n}" in page
    assert "{&#34;a&#34;:[1,&#34;é&lt;b&gt;&#34;]}" in page


def test_of_a_large_body_only_the_beginning_is_shown(browser, world, maya):
    delivery = world.delivery(maya, world.store(maya), body=b'{"x":"' + b"y" * 400_000 + b'"}')

    page = browser.get(f"/deliveries/{delivery}").text

    assert len(page) < 300_000
    assert "390.6 KB" in page
    assert "its first 256 KB are shown" in page


def test_a_body_that_is_no_text_does_not_break_the_page(browser, world, maya):
    delivery = world.delivery(maya, world.store(maya), body=b"\xff\xfe\x00[[[[", state="dead",
                              problem="webhook.body_not_json")  # fmt: skip

    page = browser.get(f"/deliveries/{delivery}").text

    assert "A webhook&#39;s body is not JSON" in page
    assert "Replay the delivery after an update of the gateway." in page


def test_a_body_that_is_no_longer_kept_is_said_so(browser, world, maya):
    delivery = world.delivery(maya, world.store(maya))
    world.sql("DELETE FROM delivery_bodies")

    page = browser.get(f"/deliveries/{delivery}").text
    assert "No longer kept." in page
    assert "Its content is no longer kept" in page
    assert f"/deliveries/{delivery}/replay" not in page


def test_what_is_no_longer_kept_is_not_replayed(send, world, maya):
    """It stood in line for ever: there was nothing to apply it from."""
    store = world.store(maya)
    delivery = world.delivery(maya, store, state="dead")
    world.sql("DELETE FROM delivery_bodies")
    other = world.delivery(maya, store, state="dead")
    with world.database.transaction() as tx:
        day = timedelta(days=1)
        count = inbox.replay_range(tx, maya, since=datetime.now(UTC) - day, until=datetime.now(UTC) + day)

    answer = send(f"/deliveries/{delivery}/replay")

    assert answer.status_code == 422
    assert "replayed. Sync Order reads from the store" in answer.text
    assert count == 1
    assert world.sql("SELECT id, state FROM deliveries ORDER BY id") == [
        {"id": delivery, "state": "dead"},
        {"id": other, "state": "waiting"},
    ]


def test_replay_puts_the_delivery_back_in_line(send, browser, world, maya):
    delivery = world.delivery(maya, world.store(maya), state="dead", problem="webhook.body_not_json", attempts=8)

    answer = send(f"/deliveries/{delivery}/replay")

    assert answer.headers["Location"] == f"/deliveries/{delivery}"
    assert world.sql("SELECT state, attempts, problem FROM deliveries") == [
        {"state": "waiting", "attempts": 0, "problem": None}
    ]
    page = browser.get(f"/deliveries/{delivery}").text
    assert "Waiting" in page
    assert "It is about to be applied." in page


def test_a_store_says_how_its_connection_is(browser, world, maya):
    store = world.store(maya, state="action_needed", state_problem="connection.token_revoked", last_delivery_at=NOON,
                        watermark=NOON)  # fmt: skip
    world.run(maya, store, state="finished", finished_at=NOON)
    world.sql("INSERT INTO subscriptions (account_id, connection_id, topic, external_id, address, state, checked_at)"
              " VALUES (:a, :c, 'orders/create', '1', 'x', 'active', now())", a=maya.account_id, c=store)  # fmt: skip
    failure = "INSERT INTO signature_failures VALUES ('shopify', :c, date_trunc('day', now()) - :ago, :reason, :count)"
    world.sql(failure, c=store, ago=timedelta(0), reason="webhook.signature_wrong", count=3)
    world.sql(failure, c=store, ago=timedelta(days=3), reason="webhook.signature_stale", count=9)

    page = browser.get("/stores").text

    assert "<h1>Store → Integrations</h1>" in page
    for expected in ("Fern &amp; Clay UK", "Shopify", "Action needed", "Orders do not arrive until you act.",
                     "The store no longer accepts our key", "orders/create",
                     "3 × A webhook&#39;s signature does not match"):  # fmt: skip
        assert expected in page
    assert "too old" not in page


def test_a_store_tells_what_its_webhooks_missed_by_day_and_its_last_catch_up(browser, world, maya):
    store, other = world.store(maya), world.store(maya, "Etsy", "etsy")
    today = world.sql("SELECT (now() AT TIME ZONE 'UTC')::date AS today")[0]["today"]
    for ago, missed, contradicted in ((0, 12, 0), (2, 1, 3), (1, 0, 0), (7, 99, 0)):
        world.sql("INSERT INTO misses VALUES (:a, :c, :d, :m, :x)", a=maya.account_id, c=store,
                  d=today - timedelta(days=ago), m=missed, x=contradicted)  # fmt: skip
    for until in (NOON, NOON + timedelta(minutes=15)):
        run = world.run(maya, store, kind="catch_up", days=None, state="finished", finished_at=until, updated=2,
                        window_from=NOON - timedelta(hours=2), window_until=until)  # fmt: skip
    world.run(maya, store, kind="catch_up", days=None)
    world.sql("UPDATE connections SET state = 'degraded', state_problem = 'connection.webhooks_missed',"
              " state_detail = '12' WHERE id = :id", id=store)  # fmt: skip

    page = browser.get("/stores").text

    card, etsy = page[page.index(f'id="store-{store}"') :], page[page.index(f'id="store-{other}"') :]
    days = [dates.format_skeleton("MMMd", today - timedelta(days=ago), locale="en_GB") for ago in (0, 2)]
    assert f"<li>{days[0]}: 12 changes</li><li>{days[1]}: 1 change, 3 webhooks contradicted the store</li>" in card
    assert "99" not in card
    assert re.search(rf'<a href="/orders/sync/{run}"><time.*?</a>: 24 Nov 2026, 10:00 - 24 Nov 2026, 12:15, '
                     r"London time; 2 changes found", card)  # fmt: skip
    assert "Webhooks are being lost" in card
    assert "In the last 24 hours syncs found 12 changes that no webhook had brought." in card
    assert "Etsy announces few kinds of change, so most are found by syncs." in etsy


def test_settings_list_log_ins_tokens_and_users_and_revoke_a_token(browser, send, world, maya):
    world.token(maya)
    world.user("vic@example.com", role="viewer")

    page = browser.get("/settings").text
    send(f"/settings/tokens/{world.sql('SELECT id FROM api_tokens')[0]['id']}/revoke")

    for expected in ("This one", "Log out everywhere", "tests", "never used", "vic@example.com", "Viewer"):
        assert expected in page
    assert world.sql("SELECT 1 FROM api_tokens WHERE revoked_at IS NULL") == []


@pytest.mark.parametrize(
    ("code", "detail", "says"),
    [
        ("store.name_unknown", "shop.example", "under the name shop.example."),
        ("store.tls", "shop.example: certificate has expired", "to shop.example failed: certificate has expired."),
        ("store.timed_out", "shop.example: 10.0 s", "no answer from shop.example for 10.0 seconds"),
        ("store.redirects", "https://new.example/shop", "a redirect to https://new.example/shop, and keys"),
        ("store.firewall", "status 403", "in the store's place (status 403)"),
        ("keys.wrong", "woocommerce_rest_cannot_view", "refused them (woocommerce_rest_cannot_view)"),
        ("payload.not_an_order", "it is a list: [1]", "that of an order: it is a list: [1]."),
    ],
)
def test_a_stored_problem_is_told_with_its_facts(application, code, detail, says):
    with application.test_request_context():
        told = wording.problem_of(code, detail)

    assert says in told.cause
    assert "—" not in told.cause


def test_a_store_that_needs_it_leads_back_to_its_consent_page(world, maya, browser):
    world.store(maya, "Woo", "woocommerce", state="action_needed", state_problem="keys.wrong",
                base_url="https://shop.example/wp-json")  # fmt: skip
    world.store(maya, "Etsy", "etsy", state="disconnected")
    world.store(maya, "Fine", "woocommerce", base_url="https://fine.example/wp-json")

    page = browser.get("/stores").text

    links = re.findall(r'href="(/stores/\d+/reconnect)"', page)
    assert len(links) == 2
    assert [browser.get(link).headers["Location"] for link in links] == [
        "/install/etsy", "/stores/connect/woocommerce?url=https://shop.example",
    ]  # fmt: skip
    assert page.count("Reconnect") == 2


@pytest.mark.parametrize(
    ("state", "problem", "sentence", "button"),
    [
        ("connected", None, "Orders arrive as they should.", None),
        ("degraded", "connection.webhooks_missed", "Webhooks are being lost.", "Repair"),
        ("degraded", "connection.webhooks_silent", "The store has fallen silent.", "Repair"),
        ("degraded", "connection.clock_off", "This store&#39;s clock and ours differ.", "Repair"),
        ("degraded", "connection.access_runs_out", "Our access to this store runs out soon.", "Reconnect"),
        ("action_needed", "connection.token_revoked", "The store no longer accepts our key.", "Reconnect"),
        ("action_needed", "connection.permission_missing", "The store does not let us read orders.",
         "Grant permission"),
        ("action_needed", "connection.shop_frozen", "The shop is frozen or locked.", "Repair"),
        ("action_needed", "store.firewall", "A firewall turns us away.", "Repair"),
        ("disconnected", "connection.shop_gone", "The shop can&#39;t be found.", "Reconnect"),
        ("disconnected", None, "This store is not connected; its orders are kept.", "Reconnect"),
    ],
)  # fmt: skip
def test_a_state_is_one_sentence_and_one_button(world, maya, browser, state, problem, sentence, button):
    world.store(maya, state=state, state_problem=problem, state_detail="9")

    page = browser.get("/stores").text
    shown = page.partition('<div class="run-state">')[2].partition("</div>")[0]

    assert re.findall(r"<span>([^<]+)</span>", shown) == [sentence]
    found = [word for word in ("Repair", "Reconnect", "Grant permission") if word in shown]
    assert found == ([button] if button else [])
    assert ("Why, and what to do" in page) is (problem is not None)


def test_another_accounts_store_is_not_reconnected(world, maya, browser):
    theirs = world.store(world.user("eve@example.com", account="Eve's"), "Their shop", state="action_needed")

    assert browser.get(f"/stores/{theirs}/reconnect").status_code == 404


def test_every_page_says_that_a_store_needs_somebody(browser, world, maya):
    store = world.store(maya)
    theirs = world.user("eve@example.com", account="Eve's")
    world.store(theirs, "Their shop", state="action_needed")
    assert "needs you" not in browser.get("/orders").text

    world.sql("UPDATE connections SET state = 'action_needed' WHERE id = :id", id=store)

    for path in ("/orders", "/deliveries", "/settings", "/orders/sync"):
        assert "A store needs you: its orders may be late." in browser.get(path).text, path
    assert "needs you" not in browser.get("/stores").text.replace("A store that needs you", "")

    # Taken off by the platform is still somebody's business; taken off here is not.
    world.sql("UPDATE connections SET state = 'disconnected', state_problem = 'connection.shop_gone' WHERE id = :id",
              id=store)  # fmt: skip
    assert "A store needs you" in browser.get("/orders").text
    world.sql("UPDATE connections SET state_problem = NULL WHERE id = :id", id=store)
    assert "A store needs you" not in browser.get("/orders").text
