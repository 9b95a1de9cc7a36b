"""A Shopify shop and the app installed on it: tokens, webhooks with every header, retries with the first body.

Facts: platform sheet shopify.md (as of 2026-11-23), sections in brackets.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
import random
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any, ClassVar

from gateway.sandbox import shopify_facts as facts
from gateway.sandbox import shopify_graphql_shape, shopify_webhook_shape
from gateway.sandbox.changes import KINDS
from gateway.sandbox.deliveries import Delivery, WebhookRequest
from gateway.sandbox.orders import Order
from gateway.sandbox.shopify_bulk import Operation
from gateway.sandbox.shopify_cost import Bucket
from gateway.sandbox.shopify_subscriptions import Subscription, topic_name
from gateway.sandbox.stores import Store

if TYPE_CHECKING:
    from gateway.sandbox.world import World

TOML_TOPICS = (
    "orders/create", "orders/updated", "orders/cancelled", "orders/delete", "app/uninstalled", "app/scopes_update",
    "customers/data_request", "customers/redact", "shop/redact",
)  # fmt: skip
# 8 retries over 4 hours with growing pauses; the real pauses are not published [1.3].
RETRY_SECONDS = (60, 120, 300, 600, 1200, 2400, 3600, 6120)
REMOVED_AFTER = 8  # failures in a row, API-made subscriptions only [1.3]
ACCESS_SECONDS = 3600
REFRESH_SECONDS = 7_776_000
_HEX = "0123456789abcdef"
_TOPIC_OF = {
    "created": "orders/create", "updated": "orders/updated", "cancelled": "orders/cancelled",
    "deleted": "orders/delete",
}  # fmt: skip


@dataclass(slots=True)
class ShopifyApp:
    """The app as registered at Shopify; its client secret signs every webhook."""

    client_id: str
    client_secret: str

    @classmethod
    def made_by(cls, rng: random.Random) -> ShopifyApp:
        def hexes(length: int) -> str:
            return "".join(rng.choice(_HEX) for _ in range(length))

        return cls(hexes(32), "shpss_" + hexes(32))


@dataclass(slots=True)
class Token:
    """An access or refresh token; `expires` in the store's epoch seconds."""

    value: str
    expires: int


def sign(secret: str, body: bytes) -> str:
    """X-Shopify-Hmac-Sha256 over the raw bytes [1.2]."""
    return base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()


class ShopifyStore(Store):
    """One shop; `key` is its myshopify domain."""

    platform: ClassVar[str] = "shopify"
    kinds: ClassVar[frozenset[str]] = frozenset(KINDS) - {
        "deliver", "refund_delete", "trash", "restore", "force_delete",
    }  # fmt: skip
    first_order_id: ClassVar[int] = 6_101_000_000_000
    order_id_step: ClassVar[int] = 32768
    two_currencies: ClassVar[bool] = True

    def __init__(
        self, world: World, key: str, *, scopes: tuple[str, ...] = ("read_orders", "read_customers", "read_products"),
        protected_data: int = 2, bucket_maximum: float | None = 2000.0, restore_per_second: float = 100.0,
        **options: Any,
    ) -> None:  # fmt: skip
        options.setdefault("taxes_included", True)
        super().__init__(world, key, **options)
        self.scopes = list(scopes)
        self.protected_data = protected_data  # 2: names and addresses too, 1: customer without them, 0: none
        self.bucket = Bucket(bucket_maximum, restore_per_second)
        self.shop_id = 60_000_000_000 + self.keyed_hash("shop")
        self.subscriptions: dict[int, Subscription] = {}
        self.bulk: dict[int, Operation] = {}
        self.bulk_orders_per_second = 500.0  # Shopify publishes no figure
        self.installed = True
        self.access_tokens: list[Token] = []
        self.codes: dict[str, int] = {}  # code of an installation: until which second it can be redeemed
        self.refresh_tokens: list[Token] = []  # usable ones: the previous, then those given in its place
        self._nodes: dict[int, tuple[Any, dict[str, Any]]] = {}
        self.issue_tokens()

    def next_item_id(self) -> int:
        return 15_000_000_000_000 + super().next_item_id() * 32768

    def id_of(self, kind: str, number: int) -> int:
        return {"product": 8_000_000_000_000, "variant": 44_000_000_000_000}.get(kind, 0) + number * 32768

    def customer_since(self, order: Order) -> int:
        """When the shop first saw the buyer: nothing that any order depends on."""
        del order
        return 1_700_000_000

    def node_of(self, order: Order) -> dict[str, Any]:
        """The order's GraphQL dictionary, kept until the order or what the app may see changes."""
        state = (order.version, self.protected_data, tuple(self.scopes))
        kept = self._nodes.get(order.id)
        if kept is None or kept[0] != state:
            kept = (state, shopify_graphql_shape.order_node(self, order))
            self._nodes[order.id] = kept
        return kept[1]

    def render(self, order: Order) -> dict[str, Any]:
        """The webhook's JSON (it says more than GraphQL, about the same state)."""
        return shopify_webhook_shape.order_json(self, order)

    # -- tokens [4.4]

    def issue_tokens(self) -> dict[str, Any]:
        """A new pair after an installation: all older refresh tokens die at once, access tokens live out their hour."""
        self.refresh_tokens = []
        return self._pair()

    def _pair(self) -> dict[str, Any]:
        second = self.second()
        access = Token("shpat_" + self.token(32), second + ACCESS_SECONDS)
        refresh = Token("shprt_" + self.token(32), second + REFRESH_SECONDS)
        self.access_tokens = [each for each in self.access_tokens if each.expires > second] + [access]
        self.refresh_tokens.append(refresh)
        self.world.revision += 1
        return {
            "access_token": access.value, "scope": ",".join(self.scopes), "expires_in": ACCESS_SECONDS,
            "refresh_token": refresh.value, "refresh_token_expires_in": REFRESH_SECONDS,
        }  # fmt: skip

    def redeem(self, code: str, *, expiring: bool) -> dict[str, Any] | None:
        """A pair for a code that was given out within the last minute; without expiring=1 a token that never ends."""
        if self.codes.pop(code, 0) <= self.second() or not self.installed:
            return None
        if expiring:
            return self.issue_tokens()
        access = Token("shpat_" + self.token(32), self.second() + 10**9)
        self.access_tokens.append(access)
        return {"access_token": access.value, "scope": ",".join(self.scopes)}

    def refresh(self, value: str) -> dict[str, Any] | None:
        """A new pair for a refresh token, None when it is not usable.

        Since 2026-08-28 the previous one stays usable until a replacement is first used, so a lost answer may be
        asked for again: the list holds [previous, replacements...].
        """
        second = self.second()
        known = next((each for each in self.refresh_tokens if each.value == value and each.expires > second), None)
        if known is None or not self.installed:
            return None
        if known is not self.refresh_tokens[0]:
            self.refresh_tokens = [known]  # a replacement is used: the one before it and its siblings are dead
        return self._pair()

    def token_is_valid(self, value: str) -> bool:
        second = self.second()
        return self.installed and any(each.value == value and each.expires > second for each in self.access_tokens)

    def expire_access_tokens(self) -> None:
        self.access_tokens = []
        self.world.revision += 1

    def uninstall(self) -> None:
        """The token is dead before app/uninstalled arrives [2]."""
        self.access_tokens, self.refresh_tokens, self.installed = [], [], False
        self.subscriptions.clear()
        self.notify("app/uninstalled", shopify_webhook_shape.shop_json(self))

    def install(self) -> dict[str, Any]:
        self.installed = True
        return self.issue_tokens()

    def grant_scopes(self, scopes: list[str]) -> None:
        """app/scopes_update; its body is from memory in the sheet [2]."""
        previous, self.scopes = self.scopes, list(scopes)
        updated = self.local(self.second()).isoformat()
        body = {"id": self.shop_id, "previous": previous, "current": self.scopes, "updated_at": updated}
        self.notify("app/scopes_update", body)

    # -- webhooks [1]

    def tell(self, order: Order, events: tuple[str, ...]) -> None:
        topics = [_TOPIC_OF[event] for event in events if event in _TOPIC_OF]
        if not topics:
            return
        body: dict[str, Any] = {"id": order.id} if "orders/delete" in topics else self.render(order)
        event_id = facts.random_uuid(self)
        for topic in topics:
            self.notify(topic, body, order=order, event_id=event_id)

    def notify(
        self, topic: str, body: dict[str, Any], *, order: Order | None = None, event_id: str | None = None
    ) -> None:
        """Queue one topic to all its subscriptions; body and Triggered-At are fixed now [1.3]."""
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
        event_id = event_id or facts.random_uuid(self)
        targets: list[tuple[int | str, str, str | None]] = []
        if topic in TOML_TOPICS:
            targets.append(("toml", f"{self.world.gateway_url}/webhooks/shopify", None))
        for each in self.subscriptions.values():
            if topic_name(each.topic) == topic:
                targets.append((each.id, each.uri, each.name))
        for subscription, url, name in targets:
            message = facts.random_uuid(self)
            headers = self._headers(topic, message, event_id, name, order)
            self.world.enqueue(
                self, topic=topic, order_id=order.id if order else None, url=url, subscription=subscription,
                body=text, headers=[list(pair) for pair in headers], message=message,
            )  # fmt: skip

    def _headers(
        self, topic: str, message: str, event_id: str, name: str | None, order: Order | None
    ) -> list[tuple[str, str]]:
        headers = [
            ("Content-Type", "application/json"),
            ("User-Agent", "Shopify-Captain-Hook"),
            ("Accept", "*/*"),
            ("Accept-Encoding", "gzip;q=1.0,deflate;q=0.6,identity;q=0.3"),
            ("X-Shopify-Topic", topic),
            ("X-Shopify-Shop-Domain", self.key),
            ("X-Shopify-API-Version", "2026-10"),
            ("X-Shopify-Webhook-Id", message),
            ("X-Shopify-Event-Id", event_id),
            (
                "X-Shopify-Triggered-At",
                self.now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z",
            ),  # nanoseconds
        ]
        if order is not None:
            headers += [("X-Shopify-Order-Id", str(order.id)), ("X-Shopify-Test", str(order.test).lower())]
        if name:
            headers.append(("X-Shopify-Name", name))
        return headers

    def build(self, delivery: Delivery) -> WebhookRequest | None:
        body = (delivery.body or "").encode()
        headers = [(name, value) for name, value in delivery.headers]
        headers.insert(5, ("X-Shopify-Hmac-Sha256", sign(self.world.shopify_app.client_secret, body)))
        return WebhookRequest(
            delivery.url, "POST", headers, body, delivery.topic, delivery.order_id, self.platform, self.key,
            delivery.attempt, delivery.id, timeout_seconds=5.0,
        )  # fmt: skip

    def settle(self, delivery: Delivery, status: int | None) -> None:
        """Any 2xx is success; else up to 8 retries with the first body to the first address [1.3]."""
        made_by_api = isinstance(delivery.subscription, int)
        subscription = self.subscriptions.get(int(delivery.subscription)) if made_by_api else None
        if status is not None and 200 <= status < 300:
            if subscription is not None:
                subscription.failures = 0
            return
        if subscription is not None:
            subscription.failures += 1
            if subscription.failures >= REMOVED_AFTER:
                del self.subscriptions[subscription.id]
        if delivery.attempt <= len(RETRY_SECONDS):
            delivery.due = self.world.now().timestamp() + RETRY_SECONDS[delivery.attempt - 1]
            delivery.attempt += 1
            self.world.put(delivery)

    # -- what others see

    def describe(self) -> dict[str, Any]:
        second = self.second()
        access = self.access_tokens[-1] if self.access_tokens else None
        return {
            "platform": self.platform,
            "name": self.name,
            "shop_id": self.shop_id,
            "domain": self.key,
            "url": f"https://{self.key}",
            "time_zone": self.time_zone,
            "currency": self.currency,
            "credentials": {
                "access_token": access.value if access else None,
                "refresh_token": self.refresh_tokens[-1].value if self.refresh_tokens else None,
                "expires_in": max(0, access.expires - second) if access else 0,
                "scope": ",".join(self.scopes),
            },
        }

    def secrets_to_json(self) -> dict[str, Any]:
        return {
            "scopes": self.scopes,
            "protected_data": self.protected_data,
            "bucket": [self.bucket.maximum, self.bucket.restore_per_second],
            "shop_id": self.shop_id,
            "installed": self.installed,
            "access_tokens": [dataclasses.asdict(each) for each in self.access_tokens],
            "refresh_tokens": [dataclasses.asdict(each) for each in self.refresh_tokens],
            "subscriptions": [dataclasses.asdict(each) for each in self.subscriptions.values()],
        }

    def secrets_from_json(self, saved: dict[str, Any]) -> None:
        self.scopes, self.protected_data = saved["scopes"], saved["protected_data"]
        self.bucket = Bucket(*saved["bucket"])
        self.shop_id, self.installed = saved["shop_id"], saved["installed"]
        self.access_tokens = [Token(**each) for each in saved["access_tokens"]]
        self.refresh_tokens = [Token(**each) for each in saved["refresh_tokens"]]
        self.subscriptions = {each["id"]: Subscription(**each) for each in saved["subscriptions"]}
