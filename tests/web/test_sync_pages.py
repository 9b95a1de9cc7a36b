"""Sync Order: the exact words, the run's page while it moves and when it ended."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
import time_machine

from tests.web.world import NOON


def test_the_way_to_sync_order_is_the_action_menu_of_orders(browser, world, maya):
    world.store(maya)

    page = browser.get("/orders").text

    menu = page[page.index('<details class="menu menu-end"') :]
    assert re.search(r"<summary[^>]*>Action<", menu)
    assert re.search(r'<a href="/orders/sync"><svg.*?</svg>Sync Order</a>', menu)


def test_the_form_has_exactly_these_words_and_seven_days_chosen(browser, world, maya):
    world.store(maya)

    page = browser.get("/orders/sync").text

    assert re.search(r'<label[^>]*for="store">Your Store \*</label>', page)
    assert re.search(r"<legend[^>]*>Sync Time \*</legend>", page)
    assert re.findall(r'<label for="days-\d+">([^<]+)</label>', page) == ["7 Days", "14 Days", "30 Days", "60 Days"]
    assert re.findall(r'value="(\d+)" required checked', page) == ["7"]
    assert "Start Syncing Your Stores</button>" in page
    assert "Fern &amp; Clay UK (Shopify)</option>" in page


@time_machine.travel("2026-11-24 12:00:30 +0000", tick=False)
def test_the_range_is_told_by_the_stores_own_clock_and_zone(browser, world, maya):
    store = world.store(maya, time_zone="America/New_York", skew_ms=3_600_000)

    page = browser.get(f"/orders/sync/ranges?store={store}").text

    assert "17 Nov 2026, 06:00 - 24 Nov 2026, 06:00, New York time" in page
    assert "25 Sept 2026, 07:00 - 24 Nov 2026, 06:00, New York time (UTC-4, then UTC-5)" in page


def test_starting_leads_to_the_runs_own_page_and_a_second_start_to_the_same(send, browser, world, maya):
    store = world.store(maya)

    first = send("/orders/sync", store=store, days=7).headers["Location"]
    second = send("/orders/sync", store=store, days=7).headers["Location"]

    assert re.fullmatch(r"/orders/sync/\d+", first)
    assert second == f"{first}?again=1"
    assert "being synchronised already" in browser.get(second).text
    assert len(world.sql("SELECT 1 FROM sync_runs")) == 1


def test_another_window_waits_in_line_and_says_for_which(send, browser, world, maya):
    store = world.store(maya)
    running = world.run(maya, store, state="running", days=30)

    page = browser.get(send("/orders/sync", store=store, days=7).headers["Location"]).text

    assert "One sync of a store runs at a time." in page
    assert f'href="/orders/sync/{running}">the one before it' in page


@pytest.mark.parametrize("fields", [{}, {"store": "x", "days": "7"}, {"store": "999999", "days": "7"}])
def test_a_store_that_is_none_of_ours_is_refused_on_the_form(send, world, maya, fields):
    world.store(maya)

    answer = send("/orders/sync", **fields)

    assert answer.status_code in (404, 409)
    assert "Start Syncing Your Stores" in answer.text


def test_a_window_that_is_no_choice_is_refused(send, world, maya):
    answer = send("/orders/sync", store=world.store(maya), days=365)

    assert answer.status_code == 409
    assert "This window can&#39;t be synced" in answer.text
    assert world.sql("SELECT 1 FROM sync_runs") == []


def test_a_disconnected_store_says_so_and_links_to_the_integrations(send, world, maya):
    store = world.store(maya, state="disconnected", state_problem="connection.token_revoked")

    answer = send("/orders/sync", store=store, days=7)

    assert answer.status_code == 409
    assert 'Check your connection via <a href="/stores">Store → Integrations</a>, then retry.' in answer.text


def test_a_running_run_shows_its_counts_and_asks_again_each_second(browser, world, maya):
    run = world.run(maya, world.store(maya), state="running", listed=212, expected=341, created=38)

    page = browser.get(f"/orders/sync/{run}").text
    part = browser.get(f"/orders/sync/{run}/progress", headers={"HX-Request": "true"})

    assert f'hx-get="/orders/sync/{run}/progress" hx-trigger="every 1s"' in page
    assert '<progress aria-label="Progress of the sync" max="341" value="212">' in page
    assert part.status_code == 200
    assert "212 of 341 orders" in part.text


def test_the_last_answer_ends_the_asking(browser, world, maya):
    run = world.run(maya, world.store(maya), state="finished", finished_at=NOON, verdict="complete")

    part = browser.get(f"/orders/sync/{run}/progress", headers={"HX-Request": "true"})
    page = browser.get(f"/orders/sync/{run}").text

    assert part.status_code == 286
    assert "hx-get" not in page
    assert "<progress" not in page


def test_whoever_was_logged_out_meanwhile_is_led_to_the_log_in(application, world, maya):
    run = world.run(maya, world.store(maya), state="running")

    answer = application.test_client().get(f"/orders/sync/{run}/progress", headers={"HX-Request": "true"})

    assert (answer.status_code, answer.headers["HX-Redirect"]) == (401, "/login")


def test_the_result_line_is_word_for_word_and_by_the_stores_clock(browser, world, maya):
    store = world.store(maya, time_zone="Asia/Tokyo")
    run = world.run(maya, store, state="finished", finished_at=NOON - timedelta(hours=2, minutes=30), created=12,
                    updated=3, unchanged=41, newer_here=5, removed=6, hidden=7, verdict="complete",
                    expected=74)  # fmt: skip

    page = browser.get(f"/orders/sync/{run}").text

    line = "Synchronize 2026-11-24 18:30 complete, Plan execution: Total additions 12, To update 3, fail 0"
    assert f'<p class="result">{line}</p>' in page
    for count, label in ((41, "unchanged"), (5, "newer here"), (6, "removed"), (7, "hidden")):
        assert f"<dt>{label}</dt><dd>{count}</dd>" in page
    assert "Complete: every order that the store counts in this range was seen." in page


def test_each_failed_order_is_listed_with_its_reason(browser, world, maya):
    store = world.store(maya)
    order = world.order(maya, store, "#1001")
    run = world.run(maya, store, state="finished", finished_at=NOON, failed=2, verdict="complete")
    world.failed_item(maya, run, "id #1001", "payload.field", "total: a text of 4 characters is not an amount")
    world.failed_item(maya, run, "5512", "payload.not_an_order", "it is not a JSON object")

    page = browser.get(f"/orders/sync/{run}").text

    assert f'<a href="/orders/{order}"><bdi>#1001</bdi></a>' in page
    assert "The platform sent total in a form that is not known: a text of 4 characters is not an amount." in page
    assert "<bdi>5512</bdi>" in page
    assert "What the platform sent is not an order" in page


def test_a_run_that_the_connection_stopped_leads_to_the_integrations_and_can_be_retried(browser, world, maya):
    run = world.run(maya, world.store(maya), state="stopped", problem="connection.token_revoked")

    page = browser.get(f"/orders/sync/{run}").text

    assert "The store no longer accepts our key" in page
    assert 'Check your connection via <a href="/stores">Store → Integrations</a>, then retry.' in page
    assert "Retry</button>" in page


def test_an_incomplete_run_says_what_is_missing(browser, world, maya):
    run = world.run(maya, world.store(maya), state="finished", finished_at=NOON, verdict="incomplete",
                    problem_detail="the platform counts 12 orders, 11 were listed")  # fmt: skip

    page = browser.get(f"/orders/sync/{run}").text

    assert "Incomplete: the store counts more or other orders than it listed." in page
    assert "It counts 12 orders, 11 were listed: 1 is missing." in page
    assert "What was listed is saved. Start it again in a few minutes" in page


def test_the_history_tells_who_asked_when_and_what_came_of_it(browser, world, maya):
    store = world.store(maya)
    world.run(maya, store, state="finished", finished_at=NOON, created=2, verdict="complete", days=14)
    world.run(maya, store, state="finished", finished_at=NOON, kind="catch_up", days=None, requested_by=None,
              updated=1)  # fmt: skip

    page = browser.get("/orders/sync").text

    for expected in ("14 Days", "2 added, 0 updated, 0 failed", "maya@example.com", "Catch-up", "Schedule"):
        assert expected in page


def test_without_a_store_the_form_leads_to_the_integrations(browser):
    assert "Connect a store first" in browser.get("/orders/sync").text
