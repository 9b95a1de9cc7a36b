"""The Orders list and one order's page."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from gateway.orders.queries import search_query
from tests.web.world import NOON


def numbers(page: str) -> list[str]:
    return re.findall(r'class="order-no"[^>]*><bdi>([^<]*)</bdi>', page)


def link(page: str, relation: str) -> str | None:
    found = re.search(rf'rel="{relation}" href="([^"]+)"', page)
    return found[1].replace("&amp;", "&") if found else None


def test_without_a_store_the_page_leads_to_the_integrations(browser):
    page = browser.get("/orders").text

    assert "No store yet" in page
    assert 'href="/stores">Go to Store → Integrations' in page


def test_a_store_without_orders_leads_to_sync_order(browser, world, maya):
    world.store(maya)

    page = browser.get("/orders").text

    assert "No order yet" in page
    assert "no webhook yet" in page


def test_filters_that_fit_nothing_can_be_cleared(browser, world, maya):
    world.order(maya, world.store(maya))

    page = browser.get("/orders?payment=refunded&q=xyz").text

    assert "No order fits" in page
    assert 'href="/orders">Clear all filters' in page


def test_a_row_says_what_a_merchant_looks_for(browser, world, maya):
    store = world.store(maya, time_zone="America/New_York")
    world.order(maya, store, "#1001", at=NOON, total="1234.50", currency="USD", payment="partly_paid",
                fulfilment="partly_fulfilled", name="Tom Hale")  # fmt: skip

    page = browser.get("/orders").text

    row = page[page.index('<td class="c-no">') :]
    assert "24 Nov, 07:00" in row or "24 Nov 2026, 07:00" in row
    for expected in ("#1001", "Fern &amp; Clay UK", "Tom Hale", "Partly paid", "Partly fulfilled", "US$1,234.50"):
        assert expected in row


def test_the_newest_stands_first(browser, world, maya):
    store = world.store(maya)
    for number, hours in (("#1", 5), ("#2", 1), ("#3", 3)):
        world.order(maya, store, number, at=NOON - timedelta(hours=hours))

    assert numbers(browser.get("/orders").text) == ["#2", "#3", "#1"]


def test_pages_over_equal_times_show_each_order_once_in_both_directions(browser, world, maya):
    store = world.store(maya)
    for n in range(120):
        world.order(maya, store, f"#{n:03}")

    first = browser.get("/orders").text
    second = browser.get(link(first, "next")).text
    third = browser.get(link(second, "next")).text

    shown = [numbers(page) for page in (first, second, third)]
    assert [len(page) for page in shown] == [50, 50, 20]
    assert sorted(number for page in shown for number in page) == [f"#{n:03}" for n in range(120)]
    assert link(third, "next") is None
    assert numbers(browser.get(link(third, "prev")).text) == shown[1]
    back = browser.get(link(browser.get(link(third, "prev")).text, "prev")).text
    assert numbers(back) == shown[0]
    assert link(back, "prev") is None


def test_an_order_that_arrives_shifts_no_page(browser, world, maya):
    store = world.store(maya)
    for n in range(60):
        world.order(maya, store, f"#{n:02}", at=NOON - timedelta(minutes=n))
    following = link(browser.get("/orders").text, "next")

    world.order(maya, store, "#new", at=NOON + timedelta(hours=1))

    assert numbers(browser.get(following).text) == [f"#{n:02}" for n in range(50, 60)]


@pytest.mark.parametrize("cursor", ["x", "....", "byAx", "💥", "b3Vy"])
def test_a_cursor_that_is_not_ours_gives_the_first_page(browser, world, maya, cursor):
    world.order(maya, world.store(maya))

    assert numbers(browser.get("/orders", query_string={"cursor": cursor}).text) == ["#1001"]


@pytest.fixture
def mixed(world, maya):
    uk, paris = world.store(maya), world.store(maya, "Paris", "woocommerce", time_zone="Europe/Paris")
    world.order(maya, uk, "#1", payment="paid", fulfilment="fulfilled", at=datetime(2026, 11, 20, 23, 30, tzinfo=UTC))
    world.order(maya, uk, "#2", payment="pending", fulfilment="unfulfilled", at=datetime(2026, 11, 21, 8, tzinfo=UTC))
    world.order(maya, paris, "#3", payment="paid", fulfilment="unfulfilled",
                at=datetime(2026, 11, 20, 23, 30, tzinfo=UTC))  # fmt: skip
    return uk, paris


def test_filters_narrow_alone_and_together(browser, mixed):
    uk, paris = mixed

    def shown(query):
        return sorted(numbers(browser.get(f"/orders?{query}").text))

    assert shown(f"store={uk}") == ["#1", "#2"]
    assert shown("payment=paid") == ["#1", "#3"]
    assert shown("fulfilment=unfulfilled") == ["#2", "#3"]
    assert shown(f"payment=paid&fulfilment=unfulfilled&store={paris}") == ["#3"]
    assert shown("payment=nonsense&store=abc&from=32-13-2026") == ["#1", "#2", "#3"]


def test_a_day_is_a_whole_day_by_the_chosen_stores_clock(browser, mixed):
    uk, paris = mixed

    assert numbers(browser.get(f"/orders?store={uk}&from=2026-11-20&until=2026-11-20").text) == ["#1"]
    assert numbers(browser.get(f"/orders?store={paris}&from=2026-11-21&until=2026-11-21").text) == ["#3"]
    assert numbers(browser.get(f"/orders?store={paris}&until=2026-11-20").text) == []


def test_each_active_filter_is_a_chip_whose_cross_removes_only_it(browser, mixed):
    uk, _ = mixed

    page = browser.get(f"/orders?store={uk}&payment=paid&q=mug").text

    assert f'href="/orders?q=mug&amp;store={uk}" aria-label="Remove the filter Paid"' in page
    assert 'href="/orders?q=mug&amp;payment=paid" aria-label="Remove the filter Fern &amp; Clay UK"' in page


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("#1001", True), ("1001", True), ("100", True), ("ines", True), ("MOREAU ines", True), ("mor 10", True),
        ("ines@example.com", True), ("mug-moss", True), ("rm123456789gb", True), ("1002", False), ("ines hale", False),
        ("' | 1 & !", True), ("***", False), ("\\", False), ("(((", False), ("\x00", False), ("ines:*", True),
        ("inés", False), ("!ines", True), ("a" * 300, False),
    ],
)  # fmt: skip
def test_search_wants_every_word_by_its_beginning(browser, world, maya, typed, found):
    store = world.store(maya)
    world.order(maya, store, "#1001")

    answer = browser.get("/orders", query_string={"q": typed})

    assert answer.status_code == 200
    assert numbers(answer.text) == (["#1001"] if found else [])


def test_words_that_fit_very_many_orders_are_searched_the_other_way_with_the_same_result(
    browser, world, maya, monkeypatch
):
    monkeypatch.setattr("gateway.orders.queries.RARE", 2)
    store = world.store(maya)
    for n in range(5):
        world.order(maya, store, f"#{n}", at=NOON + timedelta(minutes=n), name="Tom" if n == 1 else "Ines",
                    email="tom@example.com" if n == 1 else "")  # fmt: skip

    assert numbers(browser.get("/orders?q=ines").text) == ["#4", "#3", "#2", "#0"]
    assert numbers(browser.get("/orders?q=tom").text) == ["#1"]


def test_nothing_typed_becomes_an_operator():
    assert search_query("a & b | !c:* 'd'") == "'a':* & 'b':* & 'c':* & 'd':*"
    assert search_query(" # - ") == ""


def test_names_are_text_and_keep_their_direction(browser, world, maya):
    store = world.store(maya, name="<img src=x onerror=alert(1)>")
    order = world.order(maya, store, "#<b>1</b>", name="<script>alert(1)</script>", title="يوسف الحسيني 🎉",
                        note="<i>\u202egnp</i>", tags=("\"><svg onload=alert(1)>",))  # fmt: skip

    for page in (browser.get("/orders").text, browser.get(f"/orders/{order}").text):
        for bad in ("<script>alert", "<img src=x", "<b>1", "<svg onload", "<i>"):
            assert bad not in page
    assert 'dir="auto">يوسف الحسيني 🎉' in browser.get(f"/orders/{order}").text


def test_an_order_tells_its_history_with_who_brought_it(browser, world, maya):
    store = world.store(maya)
    delivery = world.delivery(maya, store, order_external_id="id #1001", outcome="created")
    world.delivery(maya, store, order_external_id="id #1001", outcome="newer_here", topic="orders/updated")
    run = world.run(maya, store)
    order = world.order(maya, store, source_id=delivery)
    world.order(maya, store, payment="refunded", updated_at=NOON + timedelta(hours=1), source="run", source_id=run)

    page = browser.get(f"/orders/{order}").text

    history = page[page.index('id="history"') :]
    assert 'Payment: <bdi class="was">Paid</bdi> → <bdi>Refunded</bdi>' in history
    assert history.index(f'href="/orders/sync/{run}"') < history.index(f'href="/deliveries/{delivery}"')
    assert "Ignored, older than what is stored" in page


def test_an_order_shows_items_amounts_refunds_shipments_and_address(browser, world, maya):
    order = world.order(maya, world.store(maya), note="Leave it\nat the door")

    page = browser.get(f"/orders/{order}").text

    for expected in ("Stoneware mug", "MUG-MOSS", "£26.50", "£79.50", "£5.00", "£84.50", "late", "RM123456789GB",
                     "1 Rue des Lilas", "69001 Lyon", "Leave it\nat the door", "ines@example.com"):  # fmt: skip
        assert expected in page


def test_an_order_that_is_gone_from_the_store_says_so_and_leaves_the_list(browser, world, maya):
    order = world.order(maya, world.store(maya))
    world.sql("UPDATE orders SET removed_at = :at, existence_observed_at = :at", at=NOON)

    assert numbers(browser.get("/orders").text) == []
    assert "This order is no longer in the store." in browser.get(f"/orders/{order}").text


def test_an_order_whose_person_may_not_be_read_is_shown_without(browser, world, maya):
    order = world.order(maya, world.store(maya))
    world.sql("UPDATE orders SET person = NULL, person_digest = NULL, customer_name = ''")

    assert "The store does not share who ordered." in browser.get(f"/orders/{order}").text
    assert "No name" in browser.get("/orders").text


@pytest.mark.parametrize("path", ["/orders/0", "/orders/99999999999999999999999", "/orders/abc", "/orders/-1"])
def test_ids_that_can_not_be_are_not_found(browser, path):
    answer = browser.get(path)

    assert answer.status_code == 404
    assert "There is nothing here" in answer.text


def test_the_count_stops_at_its_cap(browser, world, maya, monkeypatch):
    monkeypatch.setattr("gateway.orders.queries.COUNT_CAP", 2)
    store = world.store(maya)
    for n in range(3):
        world.order(maya, store, f"#{n}")

    assert "more than 2 orders" in browser.get("/orders").text
