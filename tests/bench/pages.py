"""Shopify in pages: how long a first import takes where only the query budget limits it, by the bucket of a standard
shop. The time is simulated, not slept; answers take none of it. How fast Shopify's own bulk operations are is not
measured here: nobody but Shopify can."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from backfill.bulk import PAGES_TOO_SLOW
from gateway.connections.pacing import LEFT_OF_BUCKET
from gateway.domain.problems import Retry
from gateway.domain.window import Window
from gateway.http import Answer
from gateway.platforms import REGISTRY
from gateway.platforms.base import App, StoreAccess
from gateway.platforms.shopify import bulk
from gateway.sandbox import shopify_graphql
from gateway.sandbox.shopify import ShopifyStore
from gateway.sandbox.world import World

ORDERS = 20_000
CAPACITY, RESTORE = 2000.0, 100.0
BEGINNING = datetime(2026, 9, 1, tzinfo=UTC)


class Paced:
    """Stands for gateway.http: asks the simulated shop at once, and lets its clock run until the budget allows it."""

    def __init__(self, store: ShopifyStore) -> None:
        self.store, self.now, self.calls, self.points = store, BEGINNING, 0, 0.0

    def call(self, *_: Any, json: Any, cost: float, **__: Any) -> Answer:
        wanted = min(cost + LEFT_OF_BUCKET["user"] * CAPACITY, CAPACITY)
        lacking = wanted - self.store.bucket.available(self.now.timestamp())
        self.now += timedelta(seconds=max(0.0, lacking / RESTORE))
        value = shopify_graphql.run(self.store, json["query"], json["variables"], None)
        self.calls += 1
        self.points += value["extensions"]["cost"]["actualQueryCost"] or 0
        return Answer(200, {}, _bytes(value), 0.0, self.now)


def _bytes(value: Any) -> bytes:
    return json.dumps(value).encode()


def main() -> None:
    world = World(seed=1, now=lambda: BEGINNING)
    store = world.add_store("shopify", bucket_maximum=CAPACITY, restore_per_second=RESTORE)
    assert isinstance(store, ShopifyStore)
    for number in range(ORDERS):
        store.place(quiet=True, at=BEGINNING - timedelta(seconds=2 * ORDERS - number))
    http = Paced(store)
    world.now = lambda: http.now
    access = StoreAccess(
        shop_id="1", domain=store.key, base_url="", currency="USD", time_zone="UTC",
        credentials={"access_token": "none"}, app=App(), http=http,  # type: ignore[arg-type]
    )  # fmt: skip
    listed = _listed(access, http, Window(BEGINNING - timedelta(days=7), BEGINNING))
    seconds = (http.now - BEGINNING).total_seconds()
    print(
        f"{listed} orders in pages: {http.calls} calls, {http.points:.0f} points, {seconds / 60:.0f} min of"
        f" simulated time, {listed / seconds:.1f} orders/s"
    )
    print(
        f"{http.points / listed:.2f} points an order (the gateway reckons with {bulk.POINTS_AN_ORDER}), so"
        f" {PAGES_TOO_SLOW} in pages are {PAGES_TOO_SLOW.total_seconds() * listed / seconds:.0f} orders"
    )


def _listed(access: StoreAccess, http: Paced, window: Window) -> int:
    listed, cursor = 0, None
    while True:
        try:
            page = REGISTRY["shopify"].list_page(access, window, cursor)
        except Retry as throttled:
            http.now += timedelta(seconds=throttled.after_seconds)
            continue
        listed += len(page.orders)
        cursor = page.cursor
        if cursor is None:
            return listed
