"""The pages in a real browser: the merchant's way to a sync, a phone, no script, and axe in light and dark."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page
from werkzeug.serving import WSGIRequestHandler, make_server

import app as composition
from gateway.domain.clock import now
from tests.web.conftest import settings
from tests.web.world import PASSWORD, World

pytestmark = [
    pytest.mark.browser,
    # Playwright leaves its pipes to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class _Quiet(WSGIRequestHandler):
    def log(self, *_args: Any) -> None:
        pass


@pytest.fixture(scope="session")
def application(database_url: str):
    made = composition.create_app(settings(database_url))
    yield made
    made.extensions["database"].close()
    made.extensions["access"].database.close()


@pytest.fixture(scope="session")
def address(application) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def world(application, clean_database: str) -> World:
    made = World(application.extensions["database"], application.extensions["access"].payloads)
    maya = made.user()
    store = made.store(maya, last_delivery_at=now())
    delivery = made.delivery(maya, store, order_external_id="id #1001", outcome="created")
    dead = made.delivery(maya, store, state="dead", problem="webhook.body_not_json", body=b"<html>")
    names = ("Ines Moreau", "يوسف الحسيني", "Lucía Fernández-Gutiérrez de la Torre y Sánchez", "W" * 70)
    order = 0
    for n, name in enumerate(names):
        order = made.order(maya, store, f"#100{n}", at=now() - timedelta(hours=n), name=name, source_id=delivery,
                           title="A very long title of an item " * 4, payment=("paid", "pending", "failed")[n % 3],
                           fulfilment=("partly_fulfilled", "unfulfilled", "cancelled")[n % 3])  # fmt: skip
    made.order(maya, store, "#1003", updated_at=now(), at=now(), payment="refunded", source_id=delivery)
    running = made.run(maya, store, state="running", listed=212, expected=341, created=38, days=30)
    finished = made.run(maya, store, state="finished", finished_at=now(), created=12, updated=3, failed=1,
                        verdict="complete", days=14)  # fmt: skip
    made.failed_item(maya, finished, "5512", "payload.field", "total: a text of 4 characters is not an amount")
    stopped = made.run(maya, store, state="stopped", problem="connection.token_revoked", days=60)
    preview = made.run(maya, store, kind="preview", state="finished", finished_at=now(), created=12, updated=3,
                       verdict="complete", expected=15)  # fmt: skip
    incomplete = made.run(maya, store, state="finished", finished_at=now(), verdict="incomplete", expected=12, hidden=1,
                          removed=1, failed=1, sampled=3, drifted=1, parent_id=finished, kind="retry", days=None,
                          problem_detail="the platform counts 12 orders, 11 were listed")  # fmt: skip
    made.item(maya, incomplete, "7" * 60, "hidden", problem="order.hidden")
    made.item(maya, incomplete, "777", "removed")
    made.failed_item(maya, incomplete, "5512", "payload.field", "total: a text of 4 characters is not an amount")
    caught_up = made.run(maya, store, kind="catch_up", days=None, requested_by=None, state="finished", updated=2,
                         finished_at=now(), verdict="complete", window_from=now().replace(microsecond=0)
                         - timedelta(days=61), window_until=now().replace(microsecond=0))  # fmt: skip
    made.store(maya, "Etsy shop with a rather long name that goes on", "etsy", state="disconnected")
    made.sql("INSERT INTO misses VALUES (:a, :c, (now() AT TIME ZONE 'UTC')::date, 12, 3)", a=maya.account_id, c=store)
    made.paths = [  # type: ignore[attr-defined] # what this file's tests walk
        "/orders", "/orders?payment=paid&q=x", f"/orders/{order}", "/orders/sync", f"/orders/sync/{running}",
        f"/orders/sync/{finished}", f"/orders/sync/{stopped}", f"/orders/sync/{preview}",
        f"/orders/sync/{incomplete}", f"/orders/sync/{caught_up}", "/orders/sync/history",
        "/orders/sync/history?kind=retry", f"/orders/sync/together?runs={running},{finished},{stopped},{preview}",
        "/stores", "/deliveries", f"/deliveries/{delivery}",
        f"/deliveries/{dead}", "/settings", "/nothing", "/api/docs",
    ]  # fmt: skip
    return made


def unfold(page: Page) -> None:
    """Open what is folded away, so that it is looked at too."""
    page.evaluate("document.querySelectorAll('details.more').forEach(fold => { fold.open = true })")


def open_page(chrome: Browser, address: str, **options: Any) -> Page:
    """A page of a merchant who has just logged in."""
    page = chrome.new_context(base_url=address, **options).new_page()
    page.goto("/login")
    page.fill("#email", "maya@example.com")
    page.fill("#password", PASSWORD)
    page.click("button")
    page.wait_for_url("**/orders")
    return page


def test_a_merchant_finds_sync_order_starts_it_watches_it_and_reads_the_result(chrome, address, world):
    world.sql("DELETE FROM sync_runs")
    page = open_page(chrome, address)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))

    page.locator(".sidebar").get_by_role("link", name="Orders", exact=True).click()
    page.get_by_text("Action", exact=True).click()
    page.locator(".menu-end").get_by_role("link", name="Sync Order").click()
    assert page.get_by_label("7 Days").is_checked()
    page.get_by_text("14 Days", exact=True).click()
    page.get_by_role("button", name="Start Syncing Your Stores").click()
    page.wait_for_url(re.compile(r"/orders/sync/\d+$"))
    page.get_by_text("Starts as soon as a worker is free.").wait_for()
    world.sql("UPDATE sync_runs SET state = 'running', listed = 5, expected = 20")
    page.get_by_text("5 of 20 orders").wait_for()
    world.sql("UPDATE sync_runs SET state = 'finished', finished_at = '2026-11-24 09:30+00', created = 12, updated = 3,"
              " verdict = 'complete'")  # fmt: skip
    line = "Synchronize 2026-11-24 09:30 complete, Plan execution: Total additions 12, To update 3, fail 0"
    page.locator(".result", has_text=line).wait_for()

    assert page.locator("#said").inner_text() == line
    assert complaints == []
    page.context.close()


def test_a_merchant_previews_starts_stops_and_resumes(chrome, address, world):
    world.sql("DELETE FROM run_items")
    world.sql("DELETE FROM sync_runs")
    page = open_page(chrome, address)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    over = "UPDATE sync_runs SET state = 'finished', finished_at = now(), verdict = 'complete', expected = 15,"

    page.goto("/orders/sync")
    assert not page.get_by_role("button", name="Preview").is_visible()
    page.get_by_text("More choices").click()
    page.get_by_label("Read every order in full").check()
    page.get_by_role("button", name="Preview").click()
    page.get_by_text("Starts as soon as a worker is free.").wait_for()
    world.sql(over + " created = 12, updated = 3")
    page.get_by_text("Preview: 12 would be added, 3 updated, 0 left as they are. Nothing was written.").first.wait_for()
    page.get_by_role("button", name="Start this sync").click()
    page.get_by_text("7 Days, in full").first.wait_for()
    stop = page.get_by_role("button", name="Stop")
    stop.focus()
    world.sql("UPDATE sync_runs SET listed = 7, state = 'running' WHERE state = 'queued'")
    page.get_by_text("7 orders so far").wait_for()
    assert stop.evaluate("button => button === document.activeElement")
    page.keyboard.press("Enter")
    page.get_by_text("This sync was stopped").wait_for()
    page.get_by_role("button", name="Resume").click()
    page.get_by_text("Starts as soon as a worker is free.").wait_for()
    world.sql(over + " created = 12 WHERE state = 'queued'")
    page.locator(".result", has_text="complete, Plan execution: Total additions 12").wait_for()
    assert not stop.is_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Report (CSV)").click()
    assert re.fullmatch(r"sync-\d+\.csv", download.value.suggested_filename)
    assert complaints == []
    page.context.close()


def test_all_stores_are_started_by_one_click_and_followed_on_one_page(chrome, address, world):
    world.sql("DELETE FROM run_items")
    world.sql("DELETE FROM sync_runs")
    world.sql("UPDATE connections SET state = 'connected', name = platform")
    page = open_page(chrome, address)

    page.goto("/orders/sync")
    page.get_by_label("Your Store *").select_option("All stores")
    page.get_by_text("The last 7 times 24 hours, by each store's own clock").wait_for()
    page.get_by_role("button", name="Start Syncing Your Stores").click()
    page.wait_for_url(re.compile(r"/orders/sync/together"))
    assert page.locator(".rows progress").count() == 2
    world.sql("UPDATE sync_runs SET state = 'finished', finished_at = now(), verdict = 'complete', created = 4")
    page.get_by_text("Total additions 4").nth(1).wait_for()

    assert page.locator("#said").inner_text() == "All of them are over."
    page.context.close()


def test_no_page_scrolls_sideways_on_a_phone(chrome, address, world):
    page = open_page(chrome, address, viewport={"width": 390, "height": 800})

    for width in (390, 320):
        page.set_viewport_size({"width": width, "height": 800})
        for path in world.paths:
            page.goto(path)
            unfold(page)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{path} at {width} px"
    page.goto("/orders")
    assert page.locator(".tabbar").is_visible()
    for summary in page.locator("details.menu > summary").all():
        summary.click()
        box = page.locator("details.menu[open] .menu-panel").bounding_box()
        assert box
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 320
        page.keyboard.press("Escape")
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(chrome, address, world, scheme):
    axe = Axe()
    page = chrome.new_context(base_url=address, color_scheme=scheme).new_page()
    page.goto("/login")
    assert axe.run(page).response["violations"] == []
    page.context.close()
    page = open_page(chrome, address, color_scheme=scheme)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))

    for path in world.paths:
        page.goto(path)
        unfold(page)
        found = axe.run(page).response["violations"]
        told = [(one["id"], node["html"], node["any"][:1]) for one in found for node in one["nodes"][:3]]
        assert told == [], path
    assert [text for text in complaints if "404" not in text] == []
    page.context.close()


def test_everything_can_be_read_and_started_without_script(chrome, address, world):
    world.sql("DELETE FROM sync_runs")
    page = open_page(chrome, address, java_script_enabled=False)

    page.locator("summary", has_text="Payment").click()
    page.locator(".menu-panel").get_by_role("link", name="Pending").click()
    assert page.locator(".order-no").all_inner_texts() == ["#1001"]
    page.get_by_role("link", name="Remove the filter Pending").click()
    page.locator("summary", has_text="Action").click()
    page.locator(".menu-end").get_by_role("link", name="Sync Order").click()
    page.get_by_role("button", name="Start Syncing Your Stores").click()
    assert page.get_by_role("link", name="Refresh").is_visible()
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url("**/login")
    page.context.close()
