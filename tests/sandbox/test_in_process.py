"""The sandbox behind requests without a socket, as property tests use it."""

from __future__ import annotations

from datetime import timedelta

import pytest
import requests

from gateway.sandbox.in_process import InProcessAdapter
from gateway.sandbox.server import create_app
from gateway.sandbox.world import World
from tests.sandbox.conftest import Clock, Shopify, Woo


@pytest.fixture
def session(world: World) -> requests.Session:
    made = requests.Session()
    made.mount("http://sandbox.test", InProcessAdapter(create_app(world)))
    return made


def test_requests_reads_lists_and_headers(session: requests.Session, woo: Woo) -> None:
    for _ in range(3):
        woo.store.place(quiet=True)
    keys = (woo.store.consumer_key, woo.store.consumer_secret)

    answer = session.get(f"{woo.store.api}/orders", params={"per_page": 2, "orderby": "id"}, auth=keys, timeout=5)

    assert (answer.status_code, len(answer.json())) == (200, 2)
    assert answer.headers["x-wp-total"] == "3"
    assert answer.headers["Date"] == "Tue, 24 Nov 2026 09:30:00 GMT"


def test_requests_posts_json_and_forms(session: requests.Session, shopify: Shopify, world: World) -> None:
    base = f"http://sandbox.test/shopify/{shopify.store.key}/admin"
    token = {"X-Shopify-Access-Token": shopify.store.access_tokens[-1].value}
    form = {
        "client_id": world.shopify_app.client_id,
        "client_secret": world.shopify_app.client_secret,
        "grant_type": "refresh_token",
        "refresh_token": shopify.store.refresh_tokens[0].value,
    }

    asked = session.post(f"{base}/api/2026-10/graphql.json", json={"query": "{shop{name}}"}, headers=token, timeout=5)
    renewed = session.post(f"{base}/oauth/access_token", data=form, timeout=5)

    assert asked.json()["data"] == {"shop": {"name": "Fern & Clay"}}
    assert renewed.json()["access_token"].startswith("shpat_")


def test_a_cut_connection_and_a_slow_answer_need_no_time(
    session: requests.Session, woo: Woo, world: World, clock: Clock
) -> None:
    world.sleep = clock.move
    keys = (woo.store.consumer_key, woo.store.consumer_secret)
    before = clock()

    woo.store.faults.set({"cut": 1, "slow": 2})
    with pytest.raises(requests.exceptions.ConnectionError):
        session.get(f"{woo.store.api}/orders", auth=keys, timeout=5)

    assert clock() - before == timedelta(seconds=2)
