"""The whole story over HTTP, with real processes: connect, push, sync, look, replay; and what the logs say of it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from gateway.sandbox.captures import captures, listed_orders
from gateway.vault import Vault
from tests.processes import KEYS, PASSWORD, TOKEN, System, running, until

LINE = (
    r"Synchronize \d{4}-\d\d-\d\d \d\d:\d\d complete, Plan execution:"
    r" Total additions (\d+), To update (\d+), fail (\d+)"
)
PLATFORMS = ("shopify", "woocommerce", "etsy")
MARKED = {"first": "Marktestperson", "last": "Zebrafink", "note": "Geheimnotizwort"}
"""Words that stand nowhere else: wherever they are found, they came from these orders."""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, server_url: str, template_name: str) -> Iterator[System]:
    """One system for all of this file's tests, with a worker."""
    from tests.conftest import _copy

    with _copy(server_url, template_name) as url, running(url, tmp_path_factory.mktemp("system"), "--empty") as system:
        system.start_worker()
        until(system.is_ready, "web, worker and database are ready")
        yield system


def test_an_order_goes_from_each_platform_to_the_pages_and_the_api(system: System) -> None:
    for platform in PLATFORMS:
        system.sandbox(platform, "orders", person=[MARKED["first"], MARKED["last"]])
    second = int(time.time())
    # Two changes within one second are a tie, which another read settles a while later: not this test's business.
    until(lambda: int(time.time()) > second, "the next second began")
    for platform in PLATFORMS:
        system.sandbox(platform, "change", kind="ship")
        system.sandbox(platform, "flush")
    until(lambda: all(system.stored(p) == system.truth(p) for p in PLATFORMS), "what was pushed is stored as it is")

    browser = system.log_in()
    page = browser.get(f"{system.url}/orders", timeout=10).text
    listed = system.api.get(f"{system.url}/api/v1/orders", timeout=10).json()["orders"]
    assert len(listed) == 3
    for order in listed:
        assert order["number"] in page
        one = browser.get(f"{system.url}/orders/{order['id']}", timeout=10)
        assert one.status_code == 200
        assert MARKED["last"] in one.text
    assert MARKED["last"] in page
    deliveries = browser.get(f"{system.url}/deliveries", timeout=10)
    assert (deliveries.status_code, "order.created" in deliveries.text) == (200, True)


def test_sync_order_finds_what_no_webhook_brought_and_says_so_word_for_word(system: System) -> None:
    for platform in PLATFORMS:
        system.sandbox(platform, "orders", count=3, quiet=True, person=[MARKED["first"], MARKED["last"]])
        run_id = system.start_sync(platform)
        run = system.finished(run_id)
        told = system.api.get(f"{system.url}/api/v1/sync-runs/{run_id}", timeout=10).json()
        page = system.log_in().get(f"{system.url}/orders/sync/{run_id}", timeout=10).text

        line = re.search(LINE, page)
        assert line is not None
        assert [int(number) for number in line.groups()] == [run["created"], run["updated"], run["failed"]]
        assert told["result"] == line.group(0)
        assert run["created"] + _created_by_catch_up(system, platform) >= 3
        assert system.stored(platform) == system.truth(platform)


def test_all_stores_are_previewed_then_synchronised_and_each_report_adds_up(system: System) -> None:
    for platform in PLATFORMS:
        system.sandbox(platform, "orders", count=2, quiet=True, person=[MARKED["first"], MARKED["last"]])

    asked = {"days": 14, "deep": True}
    runs_url = f"{system.url}/api/v1/sync-runs"
    for body in ({**asked, "preview": True}, asked):
        started = system.api.post(f"{runs_url}/all-stores", json=body, timeout=10).json()["sync_runs"]
        assert len(started) == 3
        for run in started:
            system.finished(run["id"])
            report = system.api.get(f"{runs_url}/{run['id']}/report", timeout=10)
            told = report.json()
            assert len(told["orders"]) == told["run"]["counters"]["listed"]
            for outcome in ("created", "updated", "unchanged", "newer_here", "failed"):
                counted = sum(order["outcome"] == outcome for order in told["orders"])
                assert counted == told["run"]["counters"][outcome]
            assert MARKED["last"] not in report.text
    previewed = "SELECT count(*) FROM changes c JOIN sync_runs r ON r.id = c.source_id AND c.source = 'run'"
    assert system.scalar(f"{previewed} WHERE r.kind = 'preview'") == 0
    assert all(system.stored(platform) == system.truth(platform) for platform in PLATFORMS)


def test_by_hand_from_the_command_line(system: System) -> None:
    store_id = str(system.stores["woocommerce"][0])

    said = system.command(["sync", "start", store_id, "--days", "14"])

    assert re.fullmatch(LINE, said.splitlines()[0])


def test_one_delivery_sent_twenty_times_at_once_is_one(system: System) -> None:
    address, secret = _door(system)
    capture = next(capture for capture in captures() if "X-WC-Webhook-Topic" in capture.headers)
    before = system.scalar("SELECT count(*) FROM deliveries")

    def post(_: int) -> int:
        return requests.post(address, data=capture.body, headers=capture.signed(secret), timeout=20).status_code

    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(post, range(20))) == [200] * 20

    assert system.scalar("SELECT count(*) FROM deliveries") == before + 1


def test_what_a_real_store_sent_is_on_the_orders_page(system: System) -> None:
    store_id, _ = system.stores["woocommerce"]
    system.command(["sandbox", "replay-captures", "--store", str(store_id)])
    until(
        lambda: not system.scalar("SELECT count(*) FROM deliveries WHERE state = 'waiting'"), "what was sent is applied"
    )

    shown = {}
    browser = system.log_in()
    page = browser.get(f"{system.url}/orders?store={store_id}", timeout=10).text
    for order in system.api.get(f"{system.url}/api/v1/orders?store_id={store_id}", timeout=10).json()["orders"]:
        shown[order["external_id"]] = order
    for listed in listed_orders():
        order = shown[str(listed["id"])]
        assert order["number"] == listed["number"]
        assert order["total"] == listed["total"]
        assert f">{listed['number']}<" in page


@pytest.mark.parametrize(
    ("how", "status"),
    [("wrong", 401), ("absent", 401), ("not base64", 401), ("another store's door", 404), ("GET", 405), ("PUT", 405)],
)
def test_what_is_not_vouched_for_gets_a_clear_answer_and_is_not_stored(system: System, how: str, status: int) -> None:
    address, secret = _door(system)
    capture = next(capture for capture in captures() if "X-WC-Webhook-Topic" in capture.headers)
    headers = capture.signed(secret)
    body = capture.body.replace(b"processing", b"completed") + b" "
    before = system.scalar("SELECT count(*) FROM deliveries")
    if how == "wrong":
        headers["X-WC-Webhook-Signature"] = "A" * 43 + "="
    elif how == "absent":
        del headers["X-WC-Webhook-Signature"]
    elif how == "not base64":
        headers["X-WC-Webhook-Signature"] = "%%% this is not base64 %%%"
    elif how == "another store's door":
        address = address[:-4] + "none"
    method = how if how in ("GET", "PUT") else "POST"

    answer = requests.request(method, address, data=body, headers=headers, timeout=10)

    assert answer.status_code == status
    assert json.loads(answer.content)["title"]
    assert system.scalar("SELECT count(*) FROM deliveries") == before


def test_bodies_of_any_framing_are_taken_or_refused_with_their_reason(system: System) -> None:
    address, secret = _door(system)
    capture = [capture for capture in captures() if "X-WC-Webhook-Topic" in capture.headers][-1]
    headers = capture.signed(secret)
    before = system.scalar("SELECT count(*) FROM deliveries")

    chunked = requests.post(address, data=iter([capture.body[:100], capture.body[100:]]), headers=headers, timeout=10)
    too_long = requests.post(address, data=b"x" * (11 * 2**20), headers=headers, timeout=30)

    assert chunked.status_code == 200
    assert too_long.status_code == 413
    assert system.scalar("SELECT count(*) FROM deliveries") <= before + 1


def test_no_log_holds_a_secret_or_a_person(system: System) -> None:
    """Runs last: all that the tests above did is in the logs by now, with refusals, crashes and retries."""
    system.sandbox("woocommerce", "faults", **{"5xx": 1, "429": 1})
    system.finished(system.start_sync("woocommerce", days=30))
    requests.get(f"{system.url}/orders?q={MARKED['last']}", timeout=10)
    browser = system.log_in()
    assert browser.get(f"{system.url}/orders?q={MARKED['last']}", timeout=10).status_code == 200
    logged = system.said("web", "worker")
    assert "run.finished" in logged  # they do say something

    emails = {row["email"] for row in system.rows("SELECT person->>'email' AS email FROM orders") if row["email"]}
    streets = {
        row["line1"] for row in system.rows("SELECT person->'shipping'->>'line1' AS line1 FROM orders") if row["line1"]
    }
    vault = Vault(KEYS)
    secrets = {PASSWORD, TOKEN, *KEYS.split(":")[1:]}
    for row in system.rows("SELECT credentials, hook_secrets FROM connections"):
        credentials = vault.open_mapping(bytes(row["credentials"]))
        secrets |= {value for name, value in credentials.items() if name != "expires_at"}
        secrets |= set(vault.open_list(bytes(row["hook_secrets"])))
    assert len(emails) >= 3
    assert len(streets) >= 3
    assert len(secrets) >= 6
    found = [word for word in {*MARKED.values(), *emails, *streets, *secrets} if word and word in logged]
    assert found == []


def _created_by_catch_up(system: System, platform: str) -> int:
    return int(
        system.scalar(
            "SELECT coalesce(sum(created), 0) FROM sync_runs WHERE kind = 'catch_up' AND connection_id = %(id)s",
            id=system.stores[platform][0],
        )
    )


def _door(system: System) -> tuple[str, str]:
    """Where the WooCommerce store's webhooks go, and its secret."""
    row = system.rows("SELECT key, hook_secrets FROM connections WHERE platform = 'woocommerce'")[0]
    return f"{system.url}/webhooks/woocommerce/{row['key']}", Vault(KEYS).open_list(bytes(row["hook_secrets"]))[0]
