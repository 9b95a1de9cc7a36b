"""Webhook subscriptions made through Shopify's Admin API; those of the app's TOML file are invisible here.

Sheet sections 1.3 and 5.4: only API-made ones are listed, and only they are removed after 8 failures in a row.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gateway.sandbox import shopify_graphql_shape as shape

if TYPE_CHECKING:
    from gateway.sandbox.shopify import ShopifyStore

PREFIX = "gid://shopify/WebhookSubscription/"
COMPLIANCE = ("CUSTOMERS_DATA_REQUEST", "CUSTOMERS_REDACT", "SHOP_REDACT")


@dataclass(slots=True)
class Subscription:
    """One subscription of an app on one store; topic in GraphQL's capitals."""

    id: int
    topic: str
    uri: str
    created: int
    updated: int
    name: str | None = None
    filter: str | None = None
    include_fields: list[str] = field(default_factory=list)
    failures: int = 0


def topic_name(topic: str) -> str:
    """ORDERS_CREATE is orders/create in the header."""
    head, _, tail = topic.lower().partition("_")
    return f"{head}/{tail}"


def as_node(store: ShopifyStore, each: Subscription) -> dict[str, Any]:
    return {
        "__typename": "WebhookSubscription",
        "id": f"{PREFIX}{each.id}",
        "legacyResourceId": str(each.id),
        "topic": each.topic,
        "uri": each.uri,
        "format": "JSON",
        "name": each.name,
        "filter": each.filter,
        "includeFields": each.include_fields,
        "metafieldNamespaces": [],
        "apiVersion": {"handle": "2026-10", "displayName": "2026-10 (Latest)", "supported": True},
        "createdAt": shape.iso(store, each.created),
        "updatedAt": shape.iso(store, each.updated),
    }


def node(store: ShopifyStore, identifier: str) -> dict[str, Any] | None:
    each = _find(store, identifier)
    return as_node(store, each) if each else None


def listed(info: Any, store: ShopifyStore, arguments: dict[str, Any]) -> dict[str, Any]:
    """The webhookSubscriptions connection."""
    topics, uri = arguments.pop("topics", None), arguments.pop("uri", None)
    rows = [
        each
        for each in store.subscriptions.values()
        if (not topics or each.topic in topics) and (not uri or each.uri == uri)
    ]
    cursors = [shape.cursor_of(each.id, str(each.id)) for each in rows]
    arguments.pop("query", None)
    return shape.connection([as_node(store, each) for each in rows], cursors)(info, **arguments)


def create(store: ShopifyStore, *, topic: str, webhookSubscription: dict[str, Any]) -> dict[str, Any]:
    """userErrors instead of exceptions, as everywhere in Shopify's mutations."""
    uri = webhookSubscription.get("uri") or webhookSubscription.get("callbackUrl") or ""
    if not uri.startswith(("http://", "https://")):
        return _refused(["webhookSubscription", "callbackUrl"], "Address is invalid")
    if topic in COMPLIANCE:
        return _refused(["topic"], "Topic can only be subscribed in the app's configuration")
    if any(each.topic == topic and each.uri == uri for each in store.subscriptions.values()):
        return _refused(["webhookSubscription", "callbackUrl"], "Address for this topic has already been taken")
    second = store.second()
    each = Subscription(
        10**12 + store.next_item_id(), topic, uri, second, second, webhookSubscription.get("name"),
        webhookSubscription.get("filter"), list(webhookSubscription.get("includeFields") or []),
    )  # fmt: skip
    store.subscriptions[each.id] = each
    store.world.revision += 1
    return {"webhookSubscription": as_node(store, each), "userErrors": []}


def update(store: ShopifyStore, *, id: str, webhookSubscription: dict[str, Any]) -> dict[str, Any]:
    each = _find(store, id)
    if each is None:
        return _refused(["id"], "Webhook subscription does not exist")
    each.uri = webhookSubscription.get("uri") or webhookSubscription.get("callbackUrl") or each.uri
    each.name = webhookSubscription.get("name", each.name)
    each.filter = webhookSubscription.get("filter", each.filter)
    each.include_fields = list(webhookSubscription.get("includeFields") or each.include_fields)
    each.updated = store.second()
    store.world.revision += 1
    return {"webhookSubscription": as_node(store, each), "userErrors": []}


def delete(store: ShopifyStore, *, id: str) -> dict[str, Any]:
    each = _find(store, id)
    if each is None:
        message = {"field": ["id"], "message": "Webhook subscription does not exist"}
        return {"deletedWebhookSubscriptionId": None, "userErrors": [message]}
    del store.subscriptions[each.id]
    store.world.revision += 1
    return {"deletedWebhookSubscriptionId": id, "userErrors": []}


def _find(store: ShopifyStore, identifier: str) -> Subscription | None:
    number = identifier.removeprefix(PREFIX)
    return store.subscriptions.get(int(number)) if number.isdigit() else None


def _refused(path: list[str], message: str) -> dict[str, Any]:
    return {"webhookSubscription": None, "userErrors": [{"field": path, "message": message}]}
