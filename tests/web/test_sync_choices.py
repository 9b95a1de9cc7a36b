"""Sync Order's other choices: in full, quiet, preview, all stores; and ranges that are told right in every zone."""

from __future__ import annotations

import re

import pytest
import time_machine

from tests.web.conftest import log_in
from tests.web.world import NOON


def _runs(world):
    return world.sql("SELECT connection_id, kind, days, deep, quiet FROM sync_runs ORDER BY connection_id, id")


def test_the_other_choices_stand_folded_below_the_button(browser, world, maya):
    world.store(maya)

    page = browser.get("/orders/sync").text

    fold = page[page.index("Start Syncing Your Stores</button>") :]
    assert re.search(r'<details class="more">\s*<summary>More choices', fold)
    assert re.search(r'<input [^>]*type="checkbox" name="deep" value="1">', fold)
    assert re.findall(r'<option value="(\w*)">', fold) == ["", "yes", "no"]
    assert 'name="preview" value="1"' in fold
    assert "All stores" not in page


def test_without_a_choice_the_first_store_that_is_connected_is_chosen(browser, world, maya):
    off = world.store(maya, "Alder", state="disconnected")
    on = world.store(maya, "Birch")
    world.store(maya, "Cedar")

    assert f'<option value="{on}" selected>' in browser.get("/orders/sync").text
    assert f'<option value="{off}" selected>' in browser.get(f"/orders/sync?store={off}").text


@pytest.mark.parametrize(
    ("announce", "earlier", "quiet"), [("", False, True), ("", True, False), ("yes", False, False), ("no", True, True)]
)
def test_what_a_sync_finds_is_announced_as_chosen_and_a_first_import_is_quiet(
    send, world, maya, announce, earlier, quiet
):
    store = world.store(maya)
    if earlier:
        world.run(maya, store, state="finished", finished_at=NOON)

    send("/orders/sync", store=store, days=14, announce=announce)

    assert _runs(world)[-1]["quiet"] is quiet


def test_every_order_in_full_is_asked_for_by_its_box(send, browser, world, maya):
    store = world.store(maya)

    page = browser.get(send("/orders/sync", store=store, days=14, deep="1").headers["Location"]).text

    assert _runs(world) == [{"connection_id": store, "kind": "manual", "days": 14, "deep": True, "quiet": True}]
    assert "14 Days, in full" in page
    assert "<dt>Announced downstream</dt><dd>no, kept quiet</dd>" in page


def test_the_choices_are_still_there_after_a_refusal(send, world, maya):
    store = world.store(maya)

    page = send("/orders/sync", store=store, days=365, deep="1", announce="no").text

    assert re.search(r'<details class="more" open>', page)
    assert re.search(r'name="deep" value="1" checked>', page)
    assert '<option value="no" selected>' in page


def test_a_preview_tells_what_would_change_and_one_click_starts_it_with_the_same_choices(send, browser, world, maya):
    store = world.store(maya)
    answer = send("/orders/sync", store=store, days=30, deep="1", announce="yes", preview="1")
    world.sql("UPDATE sync_runs SET state = 'finished', finished_at = now(), verdict = 'complete', expected = 16,"
              " created = 12, updated = 3, unchanged = 1, listed = 16")  # fmt: skip

    page = browser.get(answer.headers["Location"]).text

    line = "Preview: 12 would be added, 3 updated, 1 left as they are. Nothing was written."
    assert f'<p class="result">{line}</p>' in page
    assert "Synchronize " not in page
    assert "Missed by webhooks" not in page
    form = page[page.index('<form class="retry"') :]
    hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="(\w+)"', form[: form.index("</form>")]))
    assert hidden == {"store": str(store), "days": "30", "announce": "yes", "deep": "1"}
    send("/orders/sync", **hidden)
    assert _runs(world)[1] == {"connection_id": store, "kind": "manual", "days": 30, "deep": True, "quiet": False}


# --- all stores ------------------------------------------------------------------------------------------------
def test_all_stores_get_one_run_each_and_one_line_of_progress_each(send, browser, world, maya):
    first, second = world.store(maya, "Alder"), world.store(maya, "Birch", "woocommerce")
    world.store(maya, "Cedar", "etsy", state="disconnected")
    assert '<option value="all">All stores</option>' in browser.get("/orders/sync").text

    answer = send("/orders/sync", store="all", days=30, deep="1")

    assert [(row["connection_id"], row["days"], row["deep"]) for row in _runs(world)] == [
        (first, 30, True), (second, 30, True)
    ]  # fmt: skip
    ids = [row["id"] for row in world.sql("SELECT id FROM sync_runs ORDER BY id")]
    assert answer.headers["Location"] == f"/orders/sync/together?runs={ids[0]},{ids[1]}"
    page = browser.get(answer.headers["Location"]).text
    for run, name in zip(ids, ("Alder", "Birch"), strict=True):
        assert re.search(rf'href="/orders/sync/{run}">.*?<bdi>{name}</bdi>', page)
        assert f'<progress aria-label="Progress of {name}">' in page
    assert "1 store is not connected and was left out:" in page
    assert "<bdi>Cedar</bdi>" in page


def test_the_page_of_all_stores_follows_each_run_to_its_line_and_then_asks_no_more(browser, world, maya):
    first, second = world.store(maya, "Alder"), world.store(maya, "Birch")
    runs = [world.run(maya, first, state="finished", finished_at=NOON, verdict="complete", created=2),
            world.run(maya, second, state="running", listed=5, expected=20)]  # fmt: skip
    path = f"/orders/sync/together/progress?runs={runs[0]},{runs[1]}"

    moving = browser.get(path)
    world.sql("UPDATE sync_runs SET state = 'stopped', problem = 'connection.token_revoked' WHERE id = :r", r=runs[1])
    over = browser.get(path)

    assert (moving.status_code, over.status_code) == (200, 286)
    assert "complete, Plan execution: Total additions 2, To update 0, fail 0" in moving.text
    assert "5 of 20 orders" in moving.text
    assert "The store no longer accepts our key" in over.text


def test_previews_of_all_stores_lead_on_to_the_syncs(send, browser, world, maya):
    world.store(maya, "Alder")
    world.store(maya, "Birch")
    answer = send("/orders/sync", store="all", days=14, announce="no", preview="1")
    world.sql("UPDATE sync_runs SET state = 'finished', finished_at = now(), verdict = 'complete', expected = 0")

    page = browser.get(answer.headers["Location"]).text

    form = page[page.index('<form class="card-pad"') :]
    assert dict(re.findall(r'type="hidden" name="(\w+)" value="(\w+)"', form[: form.index("</form>")])) == {
        "store": "all", "days": "14", "announce": "no"
    }  # fmt: skip


@pytest.mark.parametrize("query", ["", "?runs=", "?runs=x", "?runs=999999", f"?runs={'9' * 40}"])
def test_a_page_of_runs_that_are_none_of_ours_is_not_there(browser, query):
    assert browser.get(f"/orders/sync/together{query}").status_code == 404


# --- ranges ----------------------------------------------------------------------------------------------------
RANGES = [
    # London's clocks go back on 25 October at 02:00: the window is 168 hours all the same.
    ("2026-10-25 12:00:00", "Europe/London", "18 Oct 2026, 13:00 - 25 Oct 2026, 12:00, London time (UTC+1, then UTC)"),
    # That day 01:30 comes twice: an hour before the change no offset is told, an hour later both are.
    ("2026-10-25 00:30:00", "Europe/London", "18 Oct 2026, 01:30 - 25 Oct 2026, 01:30, London time"),
    ("2026-10-25 01:30:00", "Europe/London", "18 Oct 2026, 02:30 - 25 Oct 2026, 01:30, London time (UTC+1, then UTC)"),
    # And forward on 29 March.
    ("2026-03-29 01:30:00", "Europe/London", "22 Mar 2026, 01:30 - 29 Mar 2026, 02:30, London time (UTC, then UTC+1)"),
    ("2026-11-24 11:30:00", "Pacific/Apia", "18 Nov 2026, 00:30 - 25 Nov 2026, 00:30, Apia time"),
    ("2026-11-24 10:30:00", "Pacific/Pago_Pago", "16 Nov 2026, 23:30 - 23 Nov 2026, 23:30, Pago Pago time"),
    ("2028-03-01 12:00:00", "UTC", "23 Feb 2028, 12:00 - 1 Mar 2028, 12:00, UTC"),
    ("2028-02-29 23:30:00", "Asia/Kolkata", "23 Feb 2028, 05:00 - 1 Mar 2028, 05:00, Kolkata time"),
    # WooCommerce shops with an offset in place of a zone: in Etc names the sign is turned round.
    ("2026-11-24 12:00:00", "Etc/GMT-2", "17 Nov 2026, 14:00 - 24 Nov 2026, 14:00, UTC+2"),
    # Lord Howe Island moves its clocks by half an hour.
    ("2026-10-05 12:00:00", "Australia/Lord_Howe",
     "28 Sept 2026, 22:30 - 5 Oct 2026, 23:00, Lord Howe time (UTC+10:30, then UTC+11)"),
]  # fmt: skip


@pytest.mark.parametrize(("moment", "zone", "told"), RANGES)
def test_a_range_is_told_by_the_stores_clock_through_changes_of_the_clock_and_leap_days(
    application, world, maya, moment, zone, told
):
    store = world.store(maya, time_zone=zone)
    with time_machine.travel(f"{moment} +0000", tick=False):
        browser = application.test_client()
        log_in(browser)
        page = browser.get(f"/orders/sync/ranges?store={store}").text

    assert f'<li class="range-7"><span class="visually-hidden">7 Days: </span>{told}</li>' in page


def test_for_all_stores_the_range_is_told_without_a_clock(browser, world, maya):
    world.store(maya, "Alder")
    world.store(maya, "Birch")

    page = browser.get("/orders/sync/ranges?store=all").text

    assert "The last 60 times 24 hours, by each store's own clock" in page


@pytest.mark.parametrize(("scopes", "is_told"), [(["read_orders"], True), (["read_orders", "read_all_orders"], False)])
def test_before_it_starts_a_sync_says_what_shopify_does_not_show(browser, world, maya, scopes, is_told):
    store = world.store(maya, scopes=scopes)
    other = world.store(maya, "Woo", "woocommerce")

    told = "Shopify shows us only orders placed in the last 60 days, as read_all_orders was not granted."
    assert (told in browser.get(f"/orders/sync?store={store}").text) is is_told
    assert (told in browser.get("/orders/sync/ranges?store=all").text) is is_told
    assert told not in browser.get(f"/orders/sync/ranges?store={other}").text
