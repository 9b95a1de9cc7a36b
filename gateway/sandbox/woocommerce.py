"""A WooCommerce store: its keys, its subscriptions, and webhooks with every habit that was captured.

Facts: platform sheet woocommerce.md (WooCommerce 11.0.1, captured 2026-11-23) and the golden pairs of 2026-11-24.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from gateway.sandbox import woocommerce_shapes as shapes
from gateway.sandbox.changes import KINDS
from gateway.sandbox.deliveries import Delivery, WebhookRequest
from gateway.sandbox.orders import Order
from gateway.sandbox.stores import Store

if TYPE_CHECKING:
    from gateway.sandbox.world import World

TOPICS = ("order.created", "order.updated", "order.deleted", "order.restored")
STATUSES = (
    "pending", "processing", "on-hold", "completed", "cancelled", "refunded", "failed", "checkout-draft",
)  # fmt: skip
FAILURES_ALLOWED = 6  # capture pairs 17: the seventh failure in a row disables; the count stays at 6
USER_AGENT = "WooCommerce/11.0.1 Hookshot (WordPress/7.0.4)"
_TOPIC_OF = {
    "created": "order.created", "updated": "order.updated", "trashed": "order.deleted", "restored": "order.restored",
}  # fmt: skip
_ENTITIES = (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&#039;", "'"), ("&#39;", "'"), ("&amp;", "&"))


@dataclass(slots=True)
class Webhook:
    """One subscription, as the store keeps it."""

    id: int
    name: str
    topic: str
    delivery_url: str
    secret: str
    created: int
    modified: int
    status: str = "active"
    failure_count: int = 0
    pending_delivery: bool = True


def sign(secret: str, body: bytes) -> str:
    """X-WC-Webhook-Signature; the secret's HTML entities are decoded first (sheet fact 1)."""
    for entity, character in _ENTITIES:
        secret = secret.replace(entity, character)
    return base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()


class WooStore(Store):
    """One WordPress with WooCommerce; `key` is its folder in the sandbox's address."""

    platform: ClassVar[str] = "woocommerce"
    kinds: ClassVar[frozenset[str]] = frozenset(KINDS) - {"deliver"}
    first_order_id: ClassVar[int] = 1401

    def __init__(
        self, world: World, key: str, *, decimals: int = 2, plugin_statuses: tuple[str, ...] = ("awaiting-pickup",),
        **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(world, key, **options)
        self.decimals = decimals
        self.plugin_statuses = tuple(plugin_statuses)
        self.consumer_key = "ck_" + self.token(40)
        self.consumer_secret = "cs_" + self.token(40)
        self.read_only_key = "ck_" + self.token(40)
        self.read_only_secret = "cs_" + self.token(40)
        self.keys: dict[str, tuple[str, str]] = {}
        """Keys that the consent page made: consumer key → (secret, scope)."""
        self.strips_authorization = False
        self.nonces: set[str] = set()
        self.is_ssl = True  # what WordPress believes: a proxy ends TLS before it, whatever the sandbox itself speaks
        """A host that takes the Authorization header away before PHP sees it."""
        self.caches_rest = False
        """A host whose page cache answers the REST API too, unless a query is new."""
        self.cached: dict[str, tuple[bytes, str]] = {}
        self.salt = self.token(64)
        self.webhooks: dict[int, Webhook] = {}
        self._rendered: dict[int, tuple[int, bytes]] = {}

    @property
    def url(self) -> str:
        """The store's home address."""
        return f"{self.world.base_url}/woocommerce/{self.key}"

    @property
    def api(self) -> str:
        return f"{self.url}/wp-json/wc/v3"

    def make_keys(self, scope: str) -> tuple[str, str]:
        """A new pair with the scope read, write or read_write."""
        key, secret = "ck_" + self.token(40), "cs_" + self.token(40)
        self.keys[key] = (secret, scope)
        self.world.revision += 1
        return key, secret

    def pairs(self) -> dict[str, tuple[str, str]]:
        """Every valid consumer key with its secret and scope."""
        return {
            self.consumer_key: (self.consumer_secret, "read_write"),
            self.read_only_key: (self.read_only_secret, "read"),
            **self.keys,
        }

    def next_refund_id(self) -> int:
        return self.next_order_id()  # capture pairs 03: refunds take their numbers from the orders' row.

    def change(self, order_id: int | None = None, kind: str | None = None, **details: Any) -> Order:
        # WooCommerce has no other plain deletion than the trash.
        return super().change(order_id, "trash" if kind == "delete" else kind, **details)

    # -- shapes

    def render(self, order: Order) -> dict[str, Any]:
        return shapes.order_json(self, order)

    def body_of(self, order: Order) -> bytes:
        """The order's JSON, kept until the order changes."""
        kept = self._rendered.get(order.id)
        if kept is None or kept[0] != order.version:
            kept = (order.version, shapes.encode(self.render(order)))
            self._rendered[order.id] = kept
        return kept[1]

    # -- webhooks

    def subscribe(self, *, name: str, topic: str, delivery_url: str, secret: str, status: str = "active") -> Webhook:
        """Register a webhook and send its ping: at once where there is a sender, else with the next collect()."""
        with self.world.lock:
            hook = self._add_webhook(name, topic, delivery_url, secret, status)
        if status == "active":
            self._ping(hook, at_once=True)
        return hook

    def _add_webhook(self, name: str, topic: str, delivery_url: str, secret: str, status: str) -> Webhook:
        self._sequence["webhook"] += 1
        second = self.second()
        hook = Webhook(
            self._sequence["webhook"], name, topic, delivery_url, secret, second, second, status=status,
        )  # fmt: skip
        self.webhooks[hook.id] = hook
        self.world.revision += 1
        return hook

    def _ping(self, hook: Webhook, *, at_once: bool = False) -> None:
        if not at_once or self.world.send_now is None:
            self.world.enqueue(self, topic="ping", order_id=None, url=hook.delivery_url, subscription=hook.id)
            return
        # Sheet fact 3: the ping arrives during the REST create, which does not mind its answer.
        delivery = Delivery(0, self.platform, self.key, "ping", None, hook.delivery_url, 0.0, hook.id)
        request = self._ping_request(delivery)
        status = self.world.send_now(request)
        with self.world.lock:
            self.world.note(self, delivery, status, "sent" if status == 200 else "failed", request.headers)
            self.settle(delivery, status)

    def tell(self, order: Order, events: tuple[str, ...]) -> None:
        for event in events:
            topic = _TOPIC_OF.get(event)
            for hook in list(self.webhooks.values()):
                if topic == hook.topic and hook.status == "active":
                    self._queue(hook, order)

    def _queue(self, hook: Webhook, order: Order) -> None:
        # Sheet fact 5: waiting deliveries of one order and webhook coalesce; the payload is built at delivery.
        if not self.world.waits(self, hook.id, order.id):
            self.world.enqueue(self, topic=hook.topic, order_id=order.id, url=hook.delivery_url, subscription=hook.id)

    def build(self, delivery: Delivery) -> WebhookRequest | None:
        hook = self.webhooks.get(int(delivery.subscription))
        if hook is None or hook.status != "active":
            return None
        if delivery.topic == "ping":
            return self._ping_request(delivery)
        order = self.orders.get(delivery.order_id or 0)
        if hook.topic == "order.deleted":
            body = shapes.encode({"id": delivery.order_id})
        elif order is not None and order.exists:
            body = self.body_of(order)
        else:
            body = shapes.encode(shapes.INVALID_ID)  # capture pairs 12/10: well signed, but an error object
        resource, _, event = hook.topic.partition(".")
        headers = [
            ("User-Agent", USER_AGENT),
            ("Accept", "*/*"),
            ("Accept-Encoding", "deflate, gzip, br, zstd"),
            ("Content-Type", "application/json"),
            ("X-WC-Webhook-Source", self.url + "/"),
            ("X-WC-Webhook-Topic", hook.topic),
            ("X-WC-Webhook-Resource", resource),
            ("X-WC-Webhook-Event", event),
            ("X-WC-Webhook-Signature", sign(hook.secret, body)),
            ("X-WC-Webhook-ID", str(hook.id)),
            ("X-WC-Webhook-Delivery-ID", self._delivery_id(hook.id)),
            ("Connection", "close"),
        ]
        return self._request(delivery, headers, body)

    def _delivery_id(self, webhook_id: int) -> str:
        # Sheet fact 4: hash(webhook id + unix second), so it repeats within a second.
        text = f"{webhook_id}{self.second()}".encode()
        return hmac.new(self.salt.encode(), text, hashlib.md5).hexdigest()

    def _ping_request(self, delivery: Delivery) -> WebhookRequest:
        # capture 0001: form-encoded, unsigned, no X-WC headers, Connection before Content-Type.
        headers = [
            ("User-Agent", USER_AGENT),
            ("Accept", "*/*"),
            ("Accept-Encoding", "deflate, gzip, br, zstd"),
            ("Connection", "close"),
            ("Content-Type", "application/x-www-form-urlencoded"),
        ]
        return self._request(delivery, headers, f"webhook_id={delivery.subscription}".encode())

    def _request(self, delivery: Delivery, headers: list[tuple[str, str]], body: bytes) -> WebhookRequest:
        return WebhookRequest(
            delivery.url, "POST", headers, body, delivery.topic, delivery.order_id, self.platform, self.key,
            delivery.attempt, delivery.id, timeout_seconds=60.0,
        )  # fmt: skip

    def settle(self, delivery: Delivery, status: int | None) -> None:
        """No retries at all; 200 to 302 is success, the 7th failure in a row disables (sheet fact 6)."""
        hook = self.webhooks.get(int(delivery.subscription))
        if hook is None:
            return
        if delivery.topic == "ping":
            if status == 200:  # exactly; 202, 204 and 302 leave it pending (sheet fact 3)
                hook.pending_delivery = False
            return
        if status is not None and 200 <= status <= 302:
            hook.failure_count = 0
        elif hook.failure_count >= FAILURES_ALLOWED:
            hook.status, hook.modified = "disabled", self.second()
        else:
            hook.failure_count += 1
        if hook.pending_delivery and hook.status == "active":
            self._ping(hook)

    # -- what others see

    def describe(self) -> dict[str, Any]:
        return {
            "platform": self.platform,
            "name": self.name,
            "shop_id": self.key,
            "domain": self.url.partition("//")[2],
            "url": self.url,
            "time_zone": self.time_zone,
            "currency": self.currency,
            "credentials": {"consumer_key": self.consumer_key, "consumer_secret": self.consumer_secret},
        }

    def secrets_to_json(self) -> dict[str, Any]:
        return {
            "decimals": self.decimals,
            "plugin_statuses": list(self.plugin_statuses),
            "keys": [self.consumer_key, self.consumer_secret, self.read_only_key, self.read_only_secret],
            "made_keys": {key: list(pair) for key, pair in self.keys.items()},
            "salt": self.salt,
            "webhooks": [dataclasses.asdict(hook) for hook in self.webhooks.values()],
        }

    def secrets_from_json(self, saved: dict[str, Any]) -> None:
        self.decimals = saved["decimals"]
        self.plugin_statuses = tuple(saved["plugin_statuses"])
        self.consumer_key, self.consumer_secret, self.read_only_key, self.read_only_secret = saved["keys"]
        self.keys = {key: (pair[0], pair[1]) for key, pair in saved.get("made_keys", {}).items()}
        self.salt = saved["salt"]
        self.webhooks = {hook["id"]: Webhook(**hook) for hook in saved["webhooks"]}
