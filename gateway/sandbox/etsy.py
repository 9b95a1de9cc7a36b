"""An Etsy shop and the app: one endpoint and one signing secret for all shops, thin notices of four events.

Facts: platform sheet etsy.md (2026-11-24), sections in brackets. No live call to Etsy was ever made for it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from gateway.sandbox import etsy_shapes as shapes
from gateway.sandbox.changes import KINDS
from gateway.sandbox.deliveries import Delivery, WebhookRequest
from gateway.sandbox.orders import Order
from gateway.sandbox.stores import Store

if TYPE_CHECKING:
    from gateway.sandbox.world import World

RETRY_SECONDS = (5, 300, 1800, 7200, 18000, 36000, 36000)  # after the first attempt [1]
ACCESS_SECONDS = 3600
REFRESH_SECONDS = 90 * 86400
_EVENT_OF = {
    "paid": "order.paid", "cancelled": "order.canceled", "shipped": "order.shipped", "delivered": "order.delivered",
}  # fmt: skip
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


@dataclass(slots=True)
class EtsyApp:
    """The registered app; limits count per key and so over all shops [4]. None switches a limit off."""

    keystring: str
    shared_secret: str
    webhook_secret: str
    per_second: int | None = 10
    per_day: int | None = 10_000
    token_errors: int = 0
    """So many more times the token endpoint answers 500, as it does now and then [2]."""
    _calls: deque[float] = field(default_factory=deque)

    @classmethod
    def made_by(cls, rng: random.Random) -> EtsyApp:
        def text(length: int, letters: str) -> str:
            return "".join(rng.choice(letters) for _ in range(length))

        secret = "whsec_" + base64.b64encode(rng.randbytes(24)).decode()
        return cls(text(24, _LETTERS[:26] + "0123456789"), text(10, _LETTERS[:26] + "0123456789"), secret)

    def allow(self, now: float) -> float:
        """0 when a call may be made (and it is counted), else the seconds to wait; the second's limit comes first."""
        while self._calls and self._calls[0] <= now - 86400:
            self._calls.popleft()
        if self.per_second is not None and self._within(now, 1.0) >= self.per_second:
            return 1.0
        if self.per_day is not None and len(self._calls) >= self.per_day:
            return max(1.0, self._calls[0] + 86400 - now)
        self._calls.append(now)
        return 0.0

    def _within(self, now: float, seconds: float) -> int:
        count = 0
        for at in reversed(self._calls):
            if at <= now - seconds:
                break
            count += 1
        return count

    def headers(self, now: float) -> dict[str, str]:
        """The four limits as they stand after a call."""
        per_second, per_day = self.per_second or 10**6, self.per_day or 10**9
        return {
            "x-limit-per-second": str(per_second),
            "x-remaining-this-second": str(max(0, per_second - self._within(now, 1.0))),
            "x-limit-per-day": str(per_day),
            "x-remaining-today": str(max(0, per_day - len(self._calls))),
        }

    def to_json(self) -> dict[str, Any]:
        return {
            "keystring": self.keystring, "shared_secret": self.shared_secret,
            "webhook_secret": self.webhook_secret, "per_second": self.per_second, "per_day": self.per_day,
        }  # fmt: skip


def sign(secret: str, message: str, timestamp: int, body: bytes) -> str:
    """webhook-signature as Standard Webhooks has it [1, vector 1]."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{message}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()


class EtsyStore(Store):
    """One shop; `key` is its shop id in digits."""

    platform: ClassVar[str] = "etsy"
    kinds: ClassVar[frozenset[str]] = frozenset(KINDS) - {
        "delete", "trash", "restore", "force_delete", "refund_delete", "edit", "status", "meta", "ship_part",
    }  # fmt: skip
    first_order_id: ClassVar[int] = 3_601_000_001
    order_id_step: ClassVar[int] = 17

    def __init__(
        self, world: World, key: str, *, refund_moves_time: bool = True, read_delay_seconds: float = 0.0,
        buyer_email_granted: bool = False, canceled_by_default: bool = False, bounds_inclusive: bool = True,
        notice_style: str = "plain", **options: Any,
    ) -> None:  # fmt: skip
        options.setdefault("taxes_included", True)
        super().__init__(world, key, **options)
        self.shop_id = int(key)
        self.user_id = 700_000_000 + self.shop_id % 100_000_000
        # In 2022 a refund did not move updated_timestamp; whether it does today is unknown [3].
        self.refund_moves_time = refund_moves_time
        self.read_delay_seconds = read_delay_seconds
        self.buyer_email_granted = buyer_email_granted
        # The was_canceled trap: omitted means false, with a plan to make it mean all [3].
        self.canceled_by_default = canceled_by_default
        self.bounds_inclusive = bounds_inclusive  # undocumented, so both must be survived [6]
        # "plain"; "upper": ORDER_PAID and the shop id as a string [1]; "bare": a signature without "v1,";
        # "two": one of another secret before the valid one, as while a secret is being rotated.
        self.notice_style = notice_style
        self.access_token = ""
        self.access_expires = 0
        self.refresh_token = ""
        self.refresh_expires = 0
        self._receipts: dict[int, tuple[Any, bytes]] = {}
        self.new_tokens()

    def next_item_id(self) -> int:
        return 4_200_000_000 + super().next_item_id()

    def id_of(self, kind: str, number: int) -> int:
        return {"product": 1_500_000_000, "variant": 19_000_000_000}.get(kind, 0) + number

    # -- shapes

    def render(self, order: Order) -> dict[str, Any]:
        return shapes.receipt(self, order)

    def body_of(self, order: Order) -> bytes:
        """The receipt's JSON, kept until the order changes."""
        state = (order.version, self.buyer_email_granted)
        kept = self._receipts.get(order.id)
        if kept is None or kept[0] != state:
            text = json.dumps(self.render(order), ensure_ascii=False, separators=(",", ":"))
            kept = (state, text.encode())
            self._receipts[order.id] = kept
        return kept[1]

    # -- tokens [2]

    def new_tokens(self) -> dict[str, Any]:
        """A new pair, as after a consent; the old ones stop working."""
        second = self.second()
        self.access_token = f"{self.user_id}.{self.token(64, _LETTERS)}"
        self.refresh_token = f"{self.user_id}.{self.token(64, _LETTERS)}"
        self.access_expires, self.refresh_expires = second + ACCESS_SECONDS, second + REFRESH_SECONDS
        self.world.revision += 1
        return {
            "access_token": self.access_token, "token_type": "Bearer", "expires_in": ACCESS_SECONDS,
            "refresh_token": self.refresh_token,
        }  # fmt: skip

    def refresh(self, value: str) -> dict[str, Any] | None:
        """Every refresh gives a new refresh token; a stale one is refused (None)."""
        if not value or value != self.refresh_token or self.refresh_expires <= self.second():
            return None
        return self.new_tokens()

    def expire_access_tokens(self) -> None:
        self.access_expires = 0
        self.world.revision += 1

    def revoke(self) -> None:
        """What a password change of the seller does."""
        self.access_token = self.refresh_token = ""
        self.world.revision += 1

    # -- webhooks [1]

    def tell(self, order: Order, events: tuple[str, ...]) -> None:
        for event in events:
            if event in _EVENT_OF:
                self.notify(_EVENT_OF[event], order)

    def notify(self, event: str, order: Order) -> None:
        """Queue a thin notice: no order data in it."""
        url = f"https://openapi.etsy.com/v3/application/shops/{self.shop_id}/receipts/{order.id}"
        body = {"event_type": event, "resource_url": url, "shop_id": self.shop_id}
        if self.notice_style == "upper":
            body |= {"event_type": event.upper().replace(".", "_"), "shop_id": str(self.shop_id)}
        self.world.enqueue(
            self, topic=event, order_id=order.id, url=f"{self.world.gateway_url}/webhooks/etsy",
            body=json.dumps(body, separators=(",", ":")), message=f"msg_{self.token(27, _LETTERS)}",
        )  # fmt: skip

    def build(self, delivery: Delivery) -> WebhookRequest | None:
        body = (delivery.body or "").encode()
        # The timestamp is the attempt's, from Etsy's sender, so a late retry still is within the tolerance.
        timestamp = int(self.now().timestamp())
        signature = sign(self.world.etsy_app.webhook_secret, delivery.message, timestamp, body)
        if self.notice_style == "bare":
            signature = signature.removeprefix("v1,")
        elif self.notice_style == "two":
            other = "whsec_" + base64.b64encode(b"a secret on its way out").decode()
            signature = f"{sign(other, delivery.message, timestamp, body)} {signature}"
        headers = [
            ("Content-Type", "application/json"),
            ("User-Agent", "Svix-Webhooks/1.75.0"),
            ("Accept", "*/*"),
            ("webhook-id", delivery.message),
            ("webhook-timestamp", str(timestamp)),
            ("webhook-signature", signature),
        ]
        return WebhookRequest(
            delivery.url, "POST", headers, body, delivery.topic, delivery.order_id, self.platform, self.key,
            delivery.attempt, delivery.id, timeout_seconds=15.0,
        )  # fmt: skip

    def settle(self, delivery: Delivery, status: int | None) -> None:
        if status is not None and 200 <= status < 300:
            return
        if delivery.attempt <= len(RETRY_SECONDS):
            delivery.due = self.world.now().timestamp() + RETRY_SECONDS[delivery.attempt - 1]
            delivery.attempt += 1
            self.world.put(delivery)

    # -- what others see

    def describe(self) -> dict[str, Any]:
        return {
            "platform": self.platform,
            "name": self.name,
            "shop_id": self.shop_id,
            "domain": f"etsy.com/shop/{self.shop_id}",
            "url": f"https://www.etsy.com/shop/{self.shop_id}",
            "time_zone": self.time_zone,
            "currency": self.currency,
            "credentials": {
                "access_token": self.access_token,
                "refresh_token": self.refresh_token,
                "expires_in": max(0, self.access_expires - self.second()),
                "user_id": self.user_id,
                "shop_id": self.shop_id,
                "scope": "transactions_r shops_r",
            },
        }

    def secrets_to_json(self) -> dict[str, Any]:
        return {
            "read_delay_seconds": self.read_delay_seconds,
            "buyer_email_granted": self.buyer_email_granted,
            "canceled_by_default": self.canceled_by_default,
            "bounds_inclusive": self.bounds_inclusive,
            "notice_style": self.notice_style,
            "tokens": [self.access_token, self.access_expires, self.refresh_token, self.refresh_expires],
        }

    def secrets_from_json(self, saved: dict[str, Any]) -> None:
        self.read_delay_seconds = saved["read_delay_seconds"]
        self.buyer_email_granted = saved["buyer_email_granted"]
        self.canceled_by_default = saved["canceled_by_default"]
        self.bounds_inclusive, self.notice_style = saved["bounds_inclusive"], saved["notice_style"]
        self.access_token, self.access_expires, self.refresh_token, self.refresh_expires = saved["tokens"]
