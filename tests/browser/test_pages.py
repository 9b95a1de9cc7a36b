"""The pages in a real browser: the merchant's way to a sync, a phone, no script, and axe in light and dark."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright
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
def chrome(chromium_path: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path, args=["--no-sandbox"])
        yield browser
        browser.close()


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
    made.paths = [  # type: ignore[attr-defined] # what this file's tests walk
        "/orders", "/orders?payment=paid&q=x", f"/orders/{order}", "/orders/sync", f"/orders/sync/{running}",
        f"/orders/sync/{finished}", f"/orders/sync/{stopped}", "/stores", "/deliveries", f"/deliveries/{delivery}",
        f"/deliveries/{dead}", "/settings", "/nothing", "/api/docs",
    ]  # fmt: skip
    return made


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


def test_no_page_scrolls_sideways_on_a_phone(chrome, address, world):
    page = open_page(chrome, address, viewport={"width": 390, "height": 800})

    for width in (390, 320):
        page.set_viewport_size({"width": width, "height": 800})
        for path in world.paths:
            page.goto(path)
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
