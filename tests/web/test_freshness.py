"""Etsy's content is shown for a day after it was read, and is read again in good time."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gateway.domain.clock import now
from gateway.orders import freshness


@pytest.fixture
def shop(world, maya):
    return world.store(maya, "Etsy shop", "etsy")


def an_order(world, scope, store, number, hours, **values):
    """An order that was read so many hours ago."""
    order = world.order(scope, store, number, at=values.pop("at", now() - timedelta(days=2)), **values)
    world.sql("UPDATE orders SET core_observed_at = :at WHERE id = :id", at=now() - timedelta(hours=hours), id=order)
    return order


def test_an_etsy_order_tells_as_of_when_it_is(world, maya, shop, browser):
    order = an_order(world, maya, shop, "3601", 23)

    assert "as of" in browser.get("/orders").text
    page = browser.get(f"/orders/{order}").text
    assert "as of" in page
    assert "Too old to be shown" not in page


def test_nothing_of_etsys_older_than_a_day_is_shown(world, maya, shop, browser):
    order = an_order(world, maya, shop, "3601", 25, name="Ines Moreau")

    listed, page = browser.get("/orders").text, browser.get(f"/orders/{order}").text

    assert "Read more than a day ago" in listed
    assert "Too old to be shown" in page
    found = browser.get("/settings/privacy", query_string={"store": shop, "q": "3601"}).text
    for shown in (listed, page, found):
        assert "Ines Moreau" not in shown
        assert "3601" in shown


def test_etsys_trademark_is_named_wherever_its_content_is_shown(world, maya, browser):
    own = world.order(maya, world.store(maya), "#1001")
    notice = "The term &#39;Etsy&#39; is a trademark of Etsy, Inc."
    for path in ("/orders", f"/orders/{own}", "/stores"):
        assert notice not in browser.get(path).text.replace("'", "&#39;"), path

    theirs = an_order(world, maya, world.store(maya, "Etsy shop", "etsy"), "3601", 1)
    for path in ("/orders", f"/orders/{theirs}", "/stores"):
        assert notice in browser.get(path).text.replace("'", "&#39;"), path
    assert notice not in browser.get(f"/orders/{own}").text.replace("'", "&#39;")


def test_other_platforms_orders_have_no_such_age(world, maya, browser):
    order = an_order(world, maya, world.store(maya), "#1001", 999, name="Ines Moreau")

    assert "Ines Moreau" in browser.get("/orders").text
    assert "Ines Moreau" in browser.get(f"/orders/{order}").text


def test_a_person_may_ask_for_it_again(world, maya, shop, browser, send):
    order = an_order(world, maya, shop, "3601", 25)

    answer = send(f"/orders/{order}/read-again")

    assert answer.status_code == 303
    assert "It is being read again" in browser.get(answer.headers["Location"]).text
    assert len(world.sql("SELECT 1 FROM rereads WHERE connection_id = :id", id=shop)) == 1


def test_the_api_tells_as_of_when_an_order_is(world, maya, shop, api):
    an_order(world, maya, shop, "3601", 2)

    [order] = api("/orders").json["orders"]

    assert order["as_of"].endswith("Z")


def test_what_comes_near_its_age_is_read_again_once(world, maya, shop, database):
    soon = an_order(world, maya, shop, "3601", 21)
    an_order(world, maya, shop, "3602", 2)
    an_order(world, maya, shop, "3603", 50, at=now() - timedelta(days=61))
    an_order(world, maya, world.store(maya), "#1001", 99)
    gone = world.store(maya, "gone", "etsy", state="disconnected")
    an_order(world, maya, gone, "3604", 99)

    with database.transaction() as tx:
        asked = [freshness.freshen(tx, now=now()) for _ in range(2)]

    assert asked == [1, 0]
    assert world.sql("SELECT external_id FROM rereads") == world.sql(
        "SELECT external_id FROM orders WHERE id = :id", id=soon
    )
