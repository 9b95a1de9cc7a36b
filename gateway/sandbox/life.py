"""The demo's three stores: what happened in them before, and how they go on by themselves."""

from __future__ import annotations

import random
import threading
from datetime import datetime, timedelta

from gateway.sandbox.changes import ChangeRefused
from gateway.sandbox.stores import Store
from gateway.sandbox.world import World

HISTORY_DAYS = 70
ORDERS_BEFORE = {"shopify": 78, "woocommerce": 64, "etsy": 46}
PAUSE_SECONDS = (20.0, 40.0)


def open_empty_stores(world: World) -> None:
    """One store a platform."""
    world.add_store("shopify", time_zone="Europe/London", currency="GBP")
    world.add_store("woocommerce", time_zone="America/New_York", currency="EUR", tax_percent="19")
    world.add_store("etsy", time_zone="Europe/Berlin", currency="EUR", tax_percent="19")


def open_demo_stores(world: World) -> None:
    """One store a platform, each with weeks of orders behind it; nothing is told about the past."""
    open_empty_stores(world)
    for store in world.stores.values():
        write_history(store, ORDERS_BEFORE[store.platform])


def write_history(store: Store, count: int) -> None:
    """That many orders over the last weeks, some older than 60 days, with everything that is odd among them."""
    rng = store.rng
    now = store.now()
    span = timedelta(days=HISTORY_DAYS)
    ages = sorted((rng.random() ** 1.3 * span for _ in range(count)), reverse=True)
    odd = _odd_orders(store)
    places = dict(zip(sorted(rng.sample(range(count), len(odd))), odd, strict=True))
    for index, age in enumerate(ages):
        features, kinds = places.get(index, ({}, _usual(store, rng)))
        at = now - age
        order = store.place(at=at, quiet=True, **features)
        for kind in kinds:
            latest = now - timedelta(seconds=rng.randrange(30, 600))
            at = max(at, min(at + timedelta(minutes=rng.randrange(1, 2600)), latest))
            _try(store, order.id, kind, at)


def _usual(store: Store, rng: random.Random) -> list[str]:
    kinds = rng.choice([[], [], ["ship"], ["ship"], ["ship", "refund"], ["note"], ["address", "ship"], ["cancel"]])
    if store.platform == "etsy" and "ship" in kinds and rng.random() < 0.6:
        return [*kinds, "deliver"]
    return kinds


def _odd_orders(store: Store) -> list[tuple[dict[str, object], list[str]]]:
    """Features to place an order with, and what happens to it afterwards."""
    odd: list[tuple[dict[str, object], list[str]]] = [
        ({"guest": True}, []),  # no name, no e-mail, no address
        ({"email": ""}, ["ship"]),
        ({"person": ("נועה", "לוי"), "note": "שלום, נא להתקשר לפני המשלוח"}, ["ship"]),
        ({"person": ("Chloé", "D’Arcy \U0001f98a"), "note": "Happy \U0001f382 day!"}, []),
        ({"currency": "JPY", "person": ("さくら", "田中")}, ["ship"]),
        ({"lines": 3}, ["edit"]),  # a line with nothing left of it
        ({"lines": 3}, ["ship_part"]),
        ({"lines": 2}, ["refund"]),
        ({"lines": 2}, ["refund", "refund"]),
        ({"paid": False}, ["cancel"]),
        ({"paid": False}, []),
        ({}, ["cancel"]),
        ({"coupon": True, "lines": 4}, ["ship"]),
    ]
    if store.platform == "shopify":
        odd += [
            ({"source": "pos", "email": ""}, ["ship"]),
            ({"tags": ["gift", "bulk, odd"]}, []),
            ({"test": True}, []),
            ({"lines": 2}, ["edit", "ship"]),
        ]
    if store.platform == "woocommerce":
        odd += [({}, ["status"]), ({}, ["trash"]), ({}, ["trash", "restore"]), ({"lines": 1}, ["meta"])]
    return odd


def _try(store: Store, order_id: int, kind: str, at: datetime) -> None:
    if kind not in store.kinds:
        return
    try:
        store.change(order_id, kind, at=at, quiet=True)
    except ChangeRefused:
        return


class Life:
    """A thread in which each store gets an order or a change every half minute or so."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = random.Random()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sandbox-life", daemon=True)
        self._next: dict[tuple[str, str], float] = {}

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(timeout=2)

    def _run(self) -> None:
        while not self._stopping.wait(1.0):
            now = self._world.now().timestamp()
            for key, store in list(self._world.stores.items()):
                due = self._next.setdefault(key, now + self._rng.uniform(5.0, PAUSE_SECONDS[1]))
                if now >= due:
                    self._next[key] = now + self._rng.uniform(*PAUSE_SECONDS)
                    live_once(store, self._rng)


def live_once(store: Store, rng: random.Random) -> None:
    """One small thing happens in the store."""
    luck = rng.random()
    try:
        if luck < 0.4:
            store.place(paid=rng.random() < 0.85)
        elif luck < 0.43:
            store.change(kind="trash" if "trash" in store.kinds else "delete" if "delete" in store.kinds else "note")
        elif luck < 0.47 and "status" in store.kinds:
            store.change(kind="status")
        else:
            store.change()
    except ChangeRefused:
        store.place()
