"""All syncs: by pages, narrowed by store and kind, with who asked."""

from __future__ import annotations

import re

from backfill import pages
from tests.web.world import NOON


def _listed(page):
    return [int(one) for one in re.findall(r'<td><a href="/orders/sync/(\d+)">', page)]


def test_every_run_is_on_exactly_one_page(browser, world, maya, monkeypatch):
    monkeypatch.setattr(pages, "PAGE_SIZE", 3)
    store = world.store(maya)
    made = [world.run(maya, store, state="finished", finished_at=NOON) for _ in range(7)]

    seen, path = [], "/orders/sync/history"
    while path:
        page = browser.get(path).text
        seen.append(_listed(page))
        older = re.search(r'rel="next" href="([^"]+)"', page)
        path = older[1].replace("&amp;", "&") if older else None

    assert seen == [made[6:3:-1], made[3:0:-1], made[:1]]
    assert 'rel="prev" href="/orders/sync/history"' in page


def test_store_and_kind_narrow_the_list_and_stay_in_the_address(browser, world, maya, monkeypatch):
    monkeypatch.setattr(pages, "PAGE_SIZE", 1)
    first, second = world.store(maya, "Alder"), world.store(maya, "Birch")
    wanted = [world.run(maya, first, kind="catch_up", days=None, requested_by=None, state="finished", finished_at=NOON)
              for _ in range(2)]  # fmt: skip
    world.run(maya, first, state="finished", finished_at=NOON)
    world.run(maya, second, kind="catch_up", days=None, state="finished", finished_at=NOON)

    page = browser.get(f"/orders/sync/history?store={first}&kind=catch_up").text

    assert _listed(page) == [wanted[1]]
    assert "<bdi>Schedule</bdi>" in page
    assert f"/orders/sync/history?store={first}&amp;kind=catch_up&amp;before={wanted[1]}" in page
    assert "No sync fits these filters." in browser.get("/orders/sync/history?kind=preview").text
    assert len(_listed(browser.get("/orders/sync/history?kind=nonsense&store=x&before=y").text)) == 1


def test_the_sync_page_leads_there_and_leaves_out_catch_ups_that_found_nothing(browser, world, maya):
    store = world.store(maya)
    idle = world.run(maya, store, kind="catch_up", days=None, state="finished", finished_at=NOON, verdict="complete")
    told = [world.run(maya, store, kind="catch_up", days=None, state="finished", finished_at=NOON, **values)
            for values in ({"updated": 1}, {"removed": 1}, {"failed": 1}, {"verdict": "incomplete"})]  # fmt: skip

    page = browser.get("/orders/sync").text

    assert _listed(page) == told[::-1]
    assert '<a class="btn btn-sm" href="/orders/sync/history">All syncs</a>' in page
    assert idle in _listed(browser.get("/orders/sync/history").text)


def test_who_asked_is_told_also_when_nobody_did(browser, world, maya):
    store = world.store(maya)
    world.run(maya, store, state="finished", finished_at=NOON)
    world.run(maya, store, state="finished", finished_at=NOON, requested_by=None)
    world.run(maya, store, state="finished", finished_at=NOON, kind="preview", created=3)

    page = browser.get("/orders/sync/history").text

    assert re.findall(r'<td class="muted"><bdi>([^<]+)</bdi></td>', page) == [
        "maya@example.com", "Command line", "maya@example.com"
    ]  # fmt: skip
    assert "Preview, 7 Days" in page
    assert "3 to add, 0 to update" in page


def test_without_a_run_the_list_leads_to_sync_order(browser):
    assert "No sync yet" in browser.get("/orders/sync/history").text
