"""What every simulated store has: a clock of its own, orders, subscriptions, faults and a log of deliveries."""

from __future__ import annotations

import random
import zlib
from collections import Counter, deque
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar
from zoneinfo import ZoneInfo

from gateway.sandbox import changes, orders
from gateway.sandbox.deliveries import Delivery, WebhookRequest
from gateway.sandbox.faults import Faults
from gateway.sandbox.orders import Order

if TYPE_CHECKING:
    from gateway.sandbox.world import World


class Store:
    """One shop on one platform; the platforms' modules say what it shows and what it tells."""

    platform: ClassVar[str] = ""
    kinds: ClassVar[frozenset[str]] = frozenset()
    first_order_id: ClassVar[int] = 1000
    order_id_step: ClassVar[int] = 1
    two_currencies: ClassVar[bool] = False  # amounts in the shop's currency, and what the buyer saw beside

    def __init__(
        self,
        world: World,
        key: str,
        *,
        name: str = "Fern & Clay",
        time_zone: str = "UTC",
        currency: str = "EUR",
        skew_seconds: float = 0.0,
        tax_percent: str = "20",
        taxes_included: bool = False,
        first_order_id: int | None = None,
    ) -> None:
        self.world = world
        self.key = key
        self.name = name
        self.time_zone = time_zone
        self.zone = ZoneInfo(time_zone)
        self.currency = currency
        self.skew = timedelta(seconds=skew_seconds)
        self.tax_percent = tax_percent
        self.tax_title = "VAT"
        self.taxes_included = taxes_included
        self.refund_moves_time = True
        self.faults = Faults()
        self.orders: dict[int, Order] = {}
        self.log: deque[dict[str, Any]] = deque(maxlen=2000)
        self.counts: Counter[str] = Counter()
        self.rng = random.Random(f"{world.seed}/{self.platform}/{key}")
        self._first_order_id = first_order_id or type(self).first_order_id
        self._sequence: Counter[str] = Counter()
        self._clock_override: datetime | None = None
        self._sorted: dict[str, tuple[list[tuple[int, int]], list[Order]]] = {}

    # -- time

    def now(self) -> datetime:
        """The store's own clock: the world's, plus its skew."""
        return self._clock_override or self.world.now() + self.skew

    def second(self) -> int:
        """The store's clock in whole epoch seconds."""
        return int(self.now().timestamp())

    @property
    def seconds_offset(self) -> float:
        """How far the store's clock is ahead of the world's."""
        return self.skew.total_seconds()

    def local(self, second: int) -> datetime:
        return datetime.fromtimestamp(second, self.zone)

    @staticmethod
    def utc(second: int) -> datetime:
        return datetime.fromtimestamp(second, UTC)

    # -- names

    def next_order_id(self) -> int:
        self._sequence["order"] += 1
        return self._first_order_id + (self._sequence["order"] - 1) * self.order_id_step

    def next_number(self) -> int:
        self._sequence["number"] += 1
        return 1000 + self._sequence["number"]

    def next_item_id(self) -> int:
        self._sequence["item"] += 1
        return self._sequence["item"]

    def next_refund_id(self) -> int:
        return self.next_item_id()

    def id_of(self, kind: str, number: int) -> int:
        """The platform's number for something that is not simulated further (product, variant, customer)."""
        return number

    def token(self, length: int, alphabet: str = "0123456789abcdef") -> str:
        """A secret of the simulation: reproducible with a seed, unguessable with the process's random one."""
        return "".join(self.rng.choice(alphabet) for _ in range(length))

    # -- what happens

    def place(self, *, at: datetime | None = None, quiet: bool = False, **features: Any) -> Order:
        """Place an order and tell it, unless quiet.

        Features: lines, currency, paid, guest, person=(first, last), email, source ("web", "pos"), note, tags,
        coupon, test.
        """
        with self.world.lock:
            self._clock_override = at
            try:
                order = changes.new_order(self, self.rng, features=features)
                self.orders[order.id] = order
                self.touched()
                if not quiet:
                    self.tell(order, ("created", "updated", *(("paid",) if order.paid else ())))
            finally:
                self._clock_override = None
        self.world.wake()
        return order

    def change(
        self, order_id: int | None = None, kind: str | None = None, *, at: datetime | None = None,
        quiet: bool = False, **details: Any,
    ) -> Order:  # fmt: skip
        """Let something happen to an order (a random thing, or a random order, where none is named)."""
        with self.world.lock:
            order = self._pick(order_id)
            kind = kind or self.rng.choice(changes.possible(self, order) or ["note"])
            self._clock_override = at
            try:
                effect = changes.apply(self, order, kind, self.rng, details)
                order.version += 1
                if effect.moves_time:
                    order.updated = max(order.updated, self.second())
                self.touched()
                if not quiet:
                    self.tell(order, effect.events)
            finally:
                self._clock_override = None
        self.world.wake()
        return order

    def _pick(self, order_id: int | None) -> Order:
        if order_id is not None:
            if order_id not in self.orders:
                raise changes.ChangeRefused(f"there is no order {order_id}")
            return self.orders[order_id]
        candidates = [order for order in self.orders.values() if changes.possible(self, order)]
        if not candidates:
            raise changes.ChangeRefused("there is no order to change; place one first")
        return self.rng.choice(candidates[-40:])

    def touched(self) -> None:
        """Forget the sorted lists; they are made again by the next reader."""
        self._sorted.clear()

    def sorted_by(self, what: str) -> tuple[list[tuple[int, int]], list[Order]]:
        """All existing orders by (created | updated | id, id), with their keys for bisecting."""
        if what not in self._sorted:
            alive = [order for order in self.orders.values() if order.exists]
            keys = sorted((getattr(order, what), order.id) for order in alive)
            self._sorted[what] = (keys, [self.orders[order_id] for _, order_id in keys])
        return self._sorted[what]

    # -- what the platforms' modules say

    def tell(self, order: Order, events: tuple[str, ...]) -> None:
        """Queue the webhooks that this platform sends for these events."""
        raise NotImplementedError

    def build(self, delivery: Delivery) -> WebhookRequest | None:
        """The request of a delivery that is due now; None when it is not sent after all."""
        raise NotImplementedError

    def settle(self, delivery: Delivery, status: int | None) -> None:
        """Learn what the gateway answered (None: no answer): retries, disabling, pings."""
        raise NotImplementedError

    def render(self, order: Order) -> dict[str, Any]:
        """The order as the platform's API shows it in full."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """The store with its credentials, for GET /sandbox/api/stores."""
        raise NotImplementedError

    def secrets_to_json(self) -> dict[str, Any]:
        """What the platform's module keeps beside the orders (tokens, subscriptions, switches)."""
        raise NotImplementedError

    def secrets_from_json(self, saved: dict[str, Any]) -> None:
        raise NotImplementedError

    # -- truth

    def truth(self) -> list[dict[str, Any]]:
        """Every order that ever was, as it really is now."""
        with self.world.lock:
            return [
                {
                    "id": order.id,
                    "exists": order.exists,
                    "trashed": order.trashed,
                    "created_at": self.utc(order.created).isoformat(),
                    "updated_at": self.utc(order.updated).isoformat(),
                    "order": self.render(order) if order.exists else None,
                }
                for order in self.orders.values()
            ]

    # -- a source that goes back

    def snapshot(self) -> list[dict[str, Any]]:
        """The orders as they are, for go_back."""
        with self.world.lock:
            return [orders.to_json(order) for order in self.orders.values()]

    def go_back(self, snapshot: list[dict[str, Any]]) -> None:
        """Become what the snapshot says, older times included, as after a restored backup; nothing is told.

        Orders placed since are gone (their look-up answers as for any that never was).
        """
        with self.world.lock:
            newest = max((order.version for order in self.orders.values()), default=0)
            restored = {each["id"]: orders.from_json(each) for each in snapshot}
            for order in restored.values():
                order.version = newest + 1  # what was rendered of the later state may not be shown again
            self.orders = restored
            self.touched()
            self.world.revision += 1

    # -- state file

    def to_json(self) -> dict[str, Any]:
        return {
            "platform": self.platform,
            "key": self.key,
            "options": {
                "name": self.name, "time_zone": self.time_zone, "currency": self.currency,
                "skew_seconds": self.seconds_offset, "tax_percent": self.tax_percent,
                "taxes_included": self.taxes_included, "first_order_id": self._first_order_id,
            },
            "sequence": dict(self._sequence),
            "counts": dict(self.counts),
            "faults": self.faults.as_json(),
            "refund_moves_time": self.refund_moves_time,
            "orders": [orders.to_json(order) for order in self.orders.values()],
            "platform_state": self.secrets_to_json(),
        }  # fmt: skip

    def from_json(self, saved: dict[str, Any]) -> None:
        self._sequence.update(saved["sequence"])
        self.counts.update(saved["counts"])
        self.faults.set(saved["faults"])
        self.refund_moves_time = saved["refund_moves_time"]
        self.orders = {order["id"]: orders.from_json(order) for order in saved["orders"]}
        self.secrets_from_json(saved["platform_state"])
        # Not the numbers it started with again: later orders should differ from those already there.
        self.rng.seed(f"{self.world.seed}/{self.platform}/{self.key}/{self._sequence['item']}")
        self.touched()

    def keyed_hash(self, *parts: object) -> int:
        """A small number that is the same whenever the same is asked."""
        return zlib.crc32(repr((self.platform, self.key, *parts)).encode())
