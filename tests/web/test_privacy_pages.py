"""Settings → Privacy: finding whom to erase, erasing, exports, and who may."""

from __future__ import annotations

from gateway.connections import privacy
from tests.web.conftest import csrf_of, log_in


def test_an_owner_finds_a_customer_whole_and_erases_them(application, browser, send, world, maya):
    store = world.store(maya)
    mine = world.order(maya, store, "#1001", name="Ida Zebrafink", email="ida@example.com")
    other = world.order(maya, store, "#1002", name="Fida Zebra", email="fida@example.com")

    page = browser.get("/settings/privacy", query_string={"store": store, "q": "IDA@example.com"}).text
    assert 'value="id #1001"' in page
    assert 'value="id #1002"' not in page
    assert send("/settings/privacy", store=store, kind="redact", order="id #1001").status_code == 302
    privacy.fulfil_all(application.extensions["access"], None, store)

    page = browser.get("/settings/privacy").text
    assert "Erase a customer" in page
    assert "maya@example.com" in page
    order = browser.get(f"/orders/{mine}").text
    assert "Erased on" in order
    assert "Zebrafink" not in order
    assert "Fida Zebra" in browser.get(f"/orders/{other}").text


def test_what_is_held_can_be_downloaded_by_its_account_alone(application, browser, send, world, maya):
    store = world.store(maya)
    world.order(maya, store, "#1001", name="Ida Zebrafink", email="ida@example.com")
    send("/settings/privacy", store=store, kind="data_request", order="id #1001")
    privacy.fulfil_all(application.extensions["access"], None, store)
    (request,) = world.sql("SELECT id FROM privacy_requests")

    answer = browser.get(f"/settings/privacy/{request['id']}/export")

    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert answer.json["orders"][0]["person"]["email"] == "ida@example.com"
    world.user("eve@example.com", account="Eve's")
    stranger = application.test_client()
    log_in(stranger, "eve@example.com")
    assert stranger.get(f"/settings/privacy/{request['id']}/export").status_code == 404


def test_only_owners_see_and_do_it(application, world, maya):
    viewer = world.user("vic@example.com", role="viewer")
    store = world.store(viewer)
    client = application.test_client()
    log_in(client, "vic@example.com")
    token = csrf_of(client.get("/settings").text)

    assert client.get("/settings/privacy").status_code == 403
    form = {"csrf_token": token, "store": store, "kind": "redact", "order": "1"}
    assert client.post("/settings/privacy", data=form).status_code == 403
    assert "Privacy" not in client.get("/settings").text
    assert world.sql("SELECT 1 FROM privacy_requests") == []


def test_another_accounts_store_is_not_there(send, world):
    theirs = world.store(world.user("eve@example.com", account="Eve's"))

    assert send("/settings/privacy", store=theirs, kind="redact", order="1").status_code == 404
    assert world.sql("SELECT 1 FROM privacy_requests") == []


def test_the_command_erases_and_says_what(application, world, maya):
    store = world.store(maya)
    world.order(maya, store, "#1001", name="Ida Zebrafink", email="ida@example.com")
    run = application.test_cli_runner().invoke

    assert "Say whom" in run(args=["erase", str(store)]).output
    assert "No stored order" in run(args=["erase", str(store), "--email", "nobody@example.com", "--yes"]).output
    said = run(args=["erase", str(store), "--order", "#1001", "--yes"])

    assert said.exit_code == 0, said.output
    assert "Erased: 1 orders" in said.output
    assert world.sql("SELECT person FROM orders")[0]["person"] is None
