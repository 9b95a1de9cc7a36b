"""The world of the simulation: its stores, its one queue of webhooks, and the truth that tests compare with.

No threads, sockets or clocks of its own: `World(seed=1, now=clock)` is deterministic, `collect()` gives the requests
that are due and sends nothing. The process (server.py, sender.py) adds the rest around it.
"""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from gateway.sandbox.changes import ChangeRefused
from gateway.sandbox.deliveries import Delivery, WebhookRequest
from gateway.sandbox.etsy import EtsyApp, EtsyStore
from gateway.sandbox.shopify import ShopifyApp, ShopifyStore
from gateway.sandbox.stores import Store
from gateway.sandbox.woocommerce import WooStore

__all__ = ["ChangeRefused", "Store", "WebhookRequest", "World"]

PLATFORMS: dict[str, type[Store]] = {"shopify": ShopifyStore, "woocommerce": WooStore, "etsy": EtsyStore}
GATEWAY_URL = "http://127.0.0.1:8000"
BASE_URL = "http://127.0.0.1:8001"
HOLD_SECONDS = 30.0  # a webhook held for reordering leaves after that even when none came after it


def utc_now() -> datetime:
    """The real time: what a world goes by unless it is given another clock."""
    return datetime.now(UTC)


class World:
    """Everything that is simulated; all public methods may be called from any thread."""

    def __init__(
        self,
        seed: int | None = None,
        now: Callable[[], datetime] = utc_now,
        *,
        gateway_url: str = GATEWAY_URL,
        base_url: str = BASE_URL,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.seed = secrets.randbits(64) if seed is None else seed
        self.now = now
        self.sleep = sleep  # how a slow answer takes its time; tests move their clock instead
        self.gateway_url = gateway_url.rstrip("/")
        self.base_url = base_url.rstrip("/")
        self.lock = threading.RLock()
        self.rng = random.Random(f"{self.seed}/world")
        self.shopify_app = ShopifyApp.made_by(self.rng)
        self.etsy_app = EtsyApp.made_by(self.rng)
        self.etsy_codes: dict[str, Any] = {}  # codes that the consent page gave out, for a minute
        self.stores: dict[tuple[str, str], Store] = {}
        self.queue: list[Delivery] = []
        self.in_flight: dict[int, Delivery] = {}
        self.send_now: Callable[[WebhookRequest], int | None] | None = None
        self.said = ""  # what the page says happened last
        self.revision = 0  # rises whenever the state file should be written again
        self.last_delivery = 0
        self._waiting: Counter[tuple[str, str, int | str, int | None]] = Counter()
        self._woken = threading.Event()

    # -- stores

    def add_store(self, platform: str, key: str | None = None, **options: Any) -> Store:
        """Open a store; its key is the shop's domain (Shopify), name (WooCommerce) or shop id (Etsy)."""
        made = PLATFORMS[platform]
        number = sum(1 for existing, _ in self.stores if existing == platform)
        default = {
            "shopify": "fern-and-clay.myshopify.com" if not number else f"fern-and-clay-{number + 1}.myshopify.com",
            "woocommerce": f"fernandclay{number + 1 if number else ''}",
            "etsy": str(41234567 + number),
        }[platform]
        with self.lock:
            store = made(self, key or default, **options)
            if (platform, store.key) in self.stores:
                raise ValueError(f"there is a {platform} store {store.key} already")
            self.stores[platform, store.key] = store
            self.revision += 1
        return store

    def store(self, platform: str, key: str) -> Store | None:
        return self.stores.get((platform, key))

    def of(self, platform: str) -> list[Store]:
        return [store for (each, _), store in self.stores.items() if each == platform]

    # -- webhooks

    def enqueue(self, store: Store, **fields: Any) -> Delivery:
        """Queue a webhook of the store, due now (plus its delay fault)."""
        with self.lock:
            self.last_delivery += 1
            due = fields.pop("due", self.now().timestamp()) + store.faults.delay_seconds
            delivery = Delivery(self.last_delivery, store.platform, store.key, due=due, **fields)
            self.put(delivery)
        self.wake()
        return delivery

    def put(self, delivery: Delivery) -> None:
        """Queue a delivery again, as it is."""
        self.queue.append(delivery)
        self._waiting[_whose(delivery)] += 1
        self.revision += 1

    def waits(self, store: Store, subscription: int | str, order_id: int) -> bool:
        """Whether a delivery of that subscription about that order is queued already."""
        return self._waiting[store.platform, store.key, subscription, order_id] > 0

    def collect(self, *, release_held: bool = False) -> list[WebhookRequest]:
        """Take the webhooks that are due now out of the queue, built as they leave; nothing is sent."""
        with self.lock:
            now = self.now().timestamp()
            due = [each for each in self.queue if each.due <= now]
            if not due:
                return []
            self.queue = [each for each in self.queue if each.due > now]
            self._waiting.subtract(_whose(each) for each in due)
            requests: list[WebhookRequest] = []
            for store in self.stores.values():
                mine = [each for each in due if (each.platform, each.store) == (store.platform, store.key)]
                requests += self._leave(store, mine, now, release_held)
            self.revision += 1
            return requests

    def _leave(self, store: Store, due: list[Delivery], now: float, release_held: bool) -> list[WebhookRequest]:
        requests: list[WebhookRequest] = []
        due = self._reordered(store, due, now, release_held)
        for delivery in due:
            if delivery.topic != "ping" and store.faults.take("lose"):
                self.note(store, delivery, None, "lost", [])
                continue
            request = store.build(delivery)
            if request is None:
                continue
            self.in_flight[delivery.id] = delivery
            requests.append(request)
            if store.faults.take("duplicate"):
                requests.append(request)
        return requests

    def _reordered(self, store: Store, due: list[Delivery], now: float, release_held: bool) -> list[Delivery]:
        wanted = store.faults.reorder
        if wanted <= 0 or not due:
            return due
        first, rest = due[:wanted], due[wanted:]
        for delivery in first:
            delivery.held_until = delivery.held_until or now + HOLD_SECONDS
        if len(first) < wanted and not release_held and now < min(each.held_until for each in first):
            for delivery in first:
                self.put(delivery)
            return rest
        store.faults.reorder = 0
        return first[::-1] + rest

    def record(self, request: WebhookRequest, status: int | None) -> None:
        """Learn what the gateway answered to a collected request (None: no answer at all)."""
        with self.lock:
            store = self.stores.get((request.platform, request.store))
            delivery = self.in_flight.pop(request.delivery, None)
            if store is None:
                return
            happened = "sent" if status is not None and 200 <= status < 300 else "failed"
            self.note(store, delivery or _echo(request), status, happened, request.headers)
            if delivery is not None:
                store.settle(delivery, status)
            self.revision += 1
        self.wake()

    def note(
        self,
        store: Store,
        delivery: Delivery,
        status: int | None,
        happened: str,
        headers: Iterable[tuple[str, str]],
    ) -> None:
        """Write what became of a delivery into the store's log and counts."""
        store.counts["pings" if delivery.topic == "ping" else happened] += 1
        store.log.append(
            {
                "time": self.now().isoformat(),
                "topic": delivery.topic,
                "order_id": delivery.order_id,
                "url": delivery.url,
                "attempt": delivery.attempt,
                "status": status,
                "outcome": happened,
                "headers": [list(header) for header in headers],
            }
        )

    def waiting(self, store: Store | None = None) -> int:
        """How many webhooks (of that store) are due or on their way at this moment."""
        with self.lock:
            now = self.now().timestamp()
            due = [*self.in_flight.values(), *(each for each in self.queue if each.due <= now)]
            return sum(1 for each in due if store is None or (each.platform, each.store) == (store.platform, store.key))

    def retry_now(self, store: Store | None = None) -> None:
        """Make every waiting retry and delayed webhook (of that store) due now."""
        with self.lock:
            now = self.now().timestamp()
            for each in self.queue:
                if store is None or (each.platform, each.store) == (store.platform, store.key):
                    each.due = min(each.due, now)
        self.wake()

    def wake(self) -> None:
        self._woken.set()

    def wait(self, seconds: float) -> None:
        """Sleep until something was queued, at most that long."""
        self._woken.wait(seconds)
        self._woken.clear()


def _whose(delivery: Delivery) -> tuple[str, str, int | str, int | None]:
    return delivery.platform, delivery.store, delivery.subscription, delivery.order_id


def _echo(request: WebhookRequest) -> Delivery:
    return Delivery(
        request.delivery, request.platform, request.store, request.topic, request.order_id, request.url, 0.0,
        attempt=request.attempt,
    )  # fmt: skip
