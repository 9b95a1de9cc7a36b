"""A run's own page: what can be done with it, what it proved, and what it says where it could not."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from backfill import verdict
from tests.web.world import NOON


def _buttons(page):
    main = page[page.index("<main") : page.index("</main>")]
    return [re.sub(r"<svg.*?</svg>", "", one).strip() for one in re.findall(r"<button[^>]*>(.*?)</button>", main)]


def _finished(world, scope, store, **values):
    return world.run(scope, store, state="finished", finished_at=NOON, **{"verdict": "complete", **values})


# --- stop, resume, retry ---------------------------------------------------------------------------------------
def test_a_run_is_stopped_and_resumed_by_its_buttons(send, browser, world, maya):
    run = world.run(maya, world.store(maya), state="running", listed=5, expected=20, checkpoint="{}")
    assert _buttons(browser.get(f"/orders/sync/{run}").text) == ["Stop"]

    stopped = send(f"/orders/sync/{run}/stop")

    assert (stopped.status_code, stopped.headers["Location"]) == (303, f"/orders/sync/{run}")
    page = browser.get(f"/orders/sync/{run}").text
    assert _buttons(page) == ["Resume"]
    assert "Resume it when you like: it goes on from where it stopped." in page
    send(f"/orders/sync/{run}/stop")
    send(f"/orders/sync/{run}/resume")
    assert send(f"/orders/sync/{run}/resume").status_code == 303
    assert world.sql("SELECT state, problem FROM sync_runs") == [{"state": "queued", "problem": None}]


def test_what_did_not_stop_half_way_can_not_be_resumed(send, world, maya):
    run = _finished(world, maya, world.store(maya))

    answer = send(f"/orders/sync/{run}/resume")

    assert answer.status_code == 409
    assert "This sync can&#39;t go on" in answer.text
    assert world.sql("SELECT state FROM sync_runs")[0]["state"] == "finished"


def test_a_stopped_catch_up_is_left_to_the_next_one(send, browser, world, maya):
    store = world.store(maya)
    run = world.run(maya, store, kind="catch_up", days=None, requested_by=None, state="stopped",
                    problem="connection.token_revoked")  # fmt: skip
    world.run(maya, store, kind="catch_up", days=None, requested_by=None)

    page = browser.get(f"/orders/sync/{run}").text

    assert _buttons(page) == []
    assert "The next catch-up begins where this one began, so nothing is lost by it." in page
    assert send(f"/orders/sync/{run}/resume").status_code == 409


def test_a_run_that_the_connection_stopped_says_so_word_for_word_and_goes_on_by_retry(send, browser, world, maya):
    run = world.run(maya, world.store(maya), state="stopped", problem="connection.permission_missing")

    page = browser.get(f"/orders/sync/{run}").text

    assert 'Check your connection via <a href="/stores">Store → Integrations</a>, then retry' in page
    assert _buttons(page) == ["Retry"]
    send(f"/orders/sync/{run}/resume")
    assert world.sql("SELECT id, state FROM sync_runs") == [{"id": run, "state": "queued"}]


def test_a_run_that_was_given_up_does_not_say_that_it_goes_on_by_itself(browser, world, maya):
    run = world.run(maya, world.store(maya), state="stopped", problem="store.throttled", problem_detail="shopify:1")

    page = browser.get(f"/orders/sync/{run}").text

    assert "It goes on by itself." not in page
    assert "It was tried several times in vain, so the sync was stopped." in page
    assert _buttons(page) == ["Resume"]


def test_only_the_failed_orders_are_tried_again_by_a_run_with_its_own_line(send, browser, world, maya):
    store = world.store(maya)
    parent = _finished(world, maya, store, failed=1, created=4, days=30)
    world.failed_item(maya, parent, "5512", "payload.not_an_order", "it is not a JSON object")
    assert _buttons(browser.get(f"/orders/sync/{parent}").text) == ["Retry only the failed ones"]

    first, second = (send(f"/orders/sync/{parent}/retry-failed").headers["Location"] for _ in range(2))

    child = int(re.fullmatch(r"/orders/sync/(\d+)", first)[1])
    assert second == f"{first}?again=1"
    page = browser.get(first).text
    assert "This tries the failed orders of an earlier sync again:" in page
    assert f'<a href="/orders/sync/{parent}">30 Days, ' in page
    world.sql("UPDATE sync_runs SET state = 'finished', finished_at = :at, verdict = 'complete', created = 1"
              " WHERE id = :id", at=NOON, id=child)  # fmt: skip
    page = browser.get(first).text
    assert "Complete: each order that had failed was asked for again." in page
    line = "Synchronize 2026-11-24 12:00 complete, Plan execution: Total additions 1, To update 0, fail 0"
    assert f'href="{first}">{line}</a>' in browser.get(f"/orders/sync/{parent}").text


def test_nothing_failed_is_nothing_to_try_again(send, world, maya):
    run = _finished(world, maya, world.store(maya))

    answer = send(f"/orders/sync/{run}/retry-failed")

    assert answer.status_code == 409
    assert "There is nothing to try again" in answer.text


@pytest.mark.parametrize("what", ["stop", "resume", "retry-failed"])
def test_a_run_that_is_none_of_ours_is_not_there(send, what):
    assert send(f"/orders/sync/999999/{what}").status_code == 404


def test_the_last_answer_takes_the_stop_button_away(browser, world, maya):
    run = _finished(world, maya, world.store(maya))

    part = browser.get(f"/orders/sync/{run}/progress", headers={"HX-Request": "true"}).text

    replaced = part[part.index('<div hx-swap-oob="innerHTML:#run-actions">') :]
    assert "Stop</button>" not in replaced
    assert f'href="/orders/sync/{run}/report.csv"' in replaced


# --- waiting ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("seconds", "told"), [(45, "45 s"), (601, "11 min"), (4 * 3600 - 60, "4 h")])
def test_waiting_is_told_with_the_time_left_and_why(browser, world, maya, seconds, told):
    until = datetime.now(UTC) + timedelta(seconds=seconds)
    run = world.run(maya, world.store(maya), waiting_until=until, problem="store.throttled")

    page = browser.get(f"/orders/sync/{run}").text

    assert re.search(rf"Goes on in {told}\.|Goes on in {int(told.split()[0]) - 1} s\.", page)
    assert "The store asks us to slow down" in page


# --- what it proved --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"expected": 20}, ["Complete: every order that the store counts in this range was seen."]),
        ({"expected": None}, ["Complete: the store gives no count, so the orders were listed twice, and both agreed."]),
        ({"verdict": "incomplete", "expected": 12,
          "problem_detail": "the platform counts 12 orders, 10 were listed; each listing differed from the one before"},
         ["Incomplete: the store counts more or other orders than it listed.",
          "It counts 12 orders, 10 were listed: 2 are missing.",
          "The orders were listed several times, and each time others came."]),
        ({"verdict": "incomplete", "expected": 12,
          "problem_detail": "the platform counts 12 orders, fewer than the 13 it listed"},
         ["It counts 12 orders, fewer than the 13 it listed."]),
        ({"verdict": "incomplete", "expected": 12, "problem_detail": "a reason of tomorrow"},
         ["a reason of tomorrow"]),
        ({"verdict": "incomplete", "expected": 12, "problem_detail": "the platform counts 12 orders, 11 were listed",
          "checkpoint": json.dumps({"gaps": [["2026-11-20T10:03:07+00:00", "2026-11-20T10:03:08+00:00", 2, 1]]})},
         ["It counts 12 orders, 11 were listed: 1 is missing.",
          "Of the orders updated at 20 Nov 2026, 10:03:07", "it counts 2 and lists 1."]),
        ({"verdict": "unknown", "problem_detail": verdict.LISTED_ONCE},
         ["so many calls a day that a catch-up lists once."]),
        ({"verdict": "unknown", "problem_detail": "each listing differed from the one before"},
         ["Not proven: the store gives no exact count to compare with.",
          "The orders were listed several times, and each time others came.",
          "Orders that change while they are listed cause this: start it again at a quieter time."]),
    ],
)  # fmt: skip
def test_a_verdict_is_explained(browser, world, maya, values, told):
    run = _finished(world, maya, world.store(maya), **values)

    page = browser.get(f"/orders/sync/{run}").text

    for sentence in told:
        assert sentence in page


def test_samples_drift_misses_and_the_stores_count_are_told(browser, world, maya):
    run = _finished(world, maya, world.store(maya), expected=1234, sampled=12, drifted=2, missed=5, updated=2,
                    newer_here=1)  # fmt: skip

    page = browser.get(f"/orders/sync/{run}").text

    assert "<dt>Counted by the store</dt><dd>1234 orders</dd>" in page
    assert "12 orders that looked equal were read in full all the same; 2 differed</dd>" in page
    assert "<dt>Missed by webhooks</dt><dd>5 changes</dd>" in page
    assert "Newer here: webhooks had brought a later state" in page
    assert "2 orders had changed without a new updated time." in page


def test_orders_that_the_store_hides_or_lost_are_named_each_with_its_reason(browser, world, maya):
    store = world.store(maya)
    order = world.order(maya, store, "#1001")
    run = _finished(world, maya, store, hidden=1, removed=1, listed=2)
    world.item(maya, run, "id #1001", "hidden", problem="order.hidden")
    world.item(maya, run, "777", "removed")

    page = browser.get(f"/orders/sync/{run}").text

    assert "Orders that the store did not show" in page
    assert f'<a href="/orders/{order}"><bdi>#1001</bdi></a>' in page
    assert "Our permission does not reach it (on Shopify: orders created more than 60 days ago)." in page
    assert "Orders that are gone from the store" in page
    assert re.search(r"<bdi>777</bdi>.*?Not found in the store\.", page, re.DOTALL)


def test_who_asked_when_and_for_which_range_is_told_by_the_stores_clock(browser, world, maya):
    store = world.store(maya, time_zone="Pacific/Apia")
    run = _finished(world, maya, store, created_at=NOON, window_from=NOON - timedelta(days=7), window_until=NOON)

    page = browser.get(f"/orders/sync/{run}").text

    assert "7 Days · 18 Nov 2026, 01:00 - 25 Nov 2026, 01:00, Apia time, by updated time" in page
    assert re.search(r"<dt>Asked for</dt><dd><time [^>]*>25 Nov, 01:00</time>, <bdi>maya@example.com</bdi>", page)


# --- catch-up --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("values", "told"),
    [({}, "Nothing was missing."), ({"created": 2, "updated": 1}, "3 changes were found and saved.")],
)
def test_a_catch_up_says_from_when_to_when_and_what_it_found(browser, world, maya, values, told):
    run = _finished(world, maya, world.store(maya), kind="catch_up", days=None, requested_by=None,
                    window_from=NOON - timedelta(hours=9), **values)  # fmt: skip

    page = browser.get(f"/orders/sync/{run}").text

    assert "Catch-up · 24 Nov 2026, 03:00 - 24 Nov 2026, 12:00, London time" in page
    assert told in page
    assert "<bdi>by schedule</bdi>" in page


@pytest.mark.parametrize(
    ("days", "scopes", "is_told"), [(61, [], True), (60, [], False), (61, ["read_all_orders"], False)]
)
def test_a_catch_up_that_goes_back_further_than_the_platform_shows_says_so(browser, world, maya, days, scopes, is_told):
    run = _finished(world, maya, world.store(maya, scopes=scopes), kind="catch_up", days=None,
                    window_from=NOON - timedelta(days=days))  # fmt: skip

    page = browser.get(f"/orders/sync/{run}").text

    told = "This range is longer than the 60 days that Shopify shows: orders placed before that can't be read"
    assert (told in page.replace("&#39;", "'")) is is_told
