"""WooCommerce's subscriptions: one webhook for each order topic, made and found by REST."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.platforms.base import StoreAccess, Subscription, Tokens
from gateway.platforms.woocommerce.client import call

TOPICS = ("order.created", "order.updated", "order.deleted", "order.restored")


def list_subscriptions(access: StoreAccess) -> list[Subscription]:
    """Every webhook of the shop, other apps' too: whoever repairs compares the address."""
    rows = call(access, "GET", "webhooks", params={"per_page": "100"}).json()
    return [_subscription(row) for row in rows]


def subscribe(access: StoreAccess, address: str, secret: str) -> list[Subscription]:
    """Make what is missing and switch on what is not active; `secret` is [A-Za-z0-9] only (sheet fact 1)."""
    ours = {row.topic: row for row in list_subscriptions(access) if row.address == address}
    result = []
    for topic in TOPICS:
        there = ours.get(topic)
        if there is None:
            wish = {"name": f"Order gateway {topic}", "topic": topic, "delivery_url": address, "secret": secret}
            result.append(_subscription(call(access, "POST", "webhooks", json=wish).json()))
        else:
            # The secret is never shown again, so it is set again: what we verify with is what it signs with.
            wish = {"status": "active", "secret": secret}
            result.append(_subscription(call(access, "PUT", f"webhooks/{there.external_id}", json=wish).json()))
    return result


def unsubscribe(access: StoreAccess, ids: Sequence[str]) -> None:
    for identity in ids:
        call(access, "DELETE", f"webhooks/{identity}", params={"force": "true"})


def refresh(access: StoreAccess) -> Tokens | None:
    """WooCommerce's keys don't expire."""
    return None


def _subscription(row: dict[str, object]) -> Subscription:
    return Subscription(str(row["id"]), str(row["topic"]), str(row["delivery_url"]), str(row["status"]))
