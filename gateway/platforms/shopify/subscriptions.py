"""Webhooks made through the Admin API, for a gateway whose app has no shopify.app.toml (SHOPIFY_API_WEBHOOKS).

By default they are declared with the app, and none is made here: the same topic in both places is delivered twice
(sheet section 1.4). Those of the file are invisible to the API, which lists only what this app made through it; and
only what was made through it is removed by Shopify after eight failures in a row, so it is audited.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from gateway.domain.problems import STORE_REQUEST_REFUSED, Refused
from gateway.platforms.base import StoreAccess, Subscription
from gateway.platforms.shopify import queries
from gateway.platforms.shopify.client import ask
from gateway.platforms.shopify.hooks import TOPICS

_PREFIX = "gid://shopify/WebhookSubscription/"
_ENUM = {topic.upper().replace("/", "_"): topic for topic in TOPICS}
"""ORDERS_CREATE → orders/create."""

LIST_COST, CHANGE_COST = 105.0, 10.0


def list_subscriptions(access: StoreAccess) -> list[Subscription]:
    """Those that were made through the API; none where they are declared with the app."""
    if not access.app.shopify_api_webhooks:
        return []
    found: list[Subscription] = []
    after: str | None = None
    while True:
        data, _, answer = ask(access, queries.SUBSCRIPTIONS, {"after": after}, cost=LIST_COST)
        connection = data.get("webhookSubscriptions")
        if not isinstance(connection, dict) or not isinstance(connection.get("nodes"), list):
            raise answer.not_json("it is not a list of webhooks")
        found += [_subscription(node) for node in connection["nodes"] if isinstance(node, dict)]
        info = connection.get("pageInfo") or {}
        if not info.get("hasNextPage"):
            return found
        after = info.get("endCursor")


def subscribe(access: StoreAccess, address: str, secret: str) -> list[Subscription]:
    """Make what is missing, mend what leads elsewhere, take doubles away; gives those that stand then.

    Ours are those whose address ends in our path: another host before it means that the gateway moved. The compliance
    topics can't be made this way at all (sheet section 2.1).
    """
    if not access.app.shopify_api_webhooks:
        return []
    ours: dict[str, list[Subscription]] = {topic: [] for topic in TOPICS}
    extra: list[str] = []
    for row in list_subscriptions(access):
        if urlsplit(row.address).path.rstrip("/") == urlsplit(address).path:
            ours[row.topic].append(row) if row.topic in ours else extra.append(row.external_id)
    result = []
    for name, topic in _ENUM.items():
        there = sorted(ours[topic], key=lambda row: row.address != address)
        extra += [row.external_id for row in there[1:]]
        wish = {"uri": address, "format": "JSON"}
        if not there:
            result.append(_changed(access, queries.SUBSCRIBE, {"topic": name, "wish": wish}))
        elif there[0].address != address:
            id_ = _PREFIX + there[0].external_id
            result.append(_changed(access, queries.RESUBSCRIBE, {"id": id_, "wish": wish}))
        else:
            result.append(there[0])
    unsubscribe(access, extra)
    return result


def unsubscribe(access: StoreAccess, ids: Sequence[str]) -> None:
    """Take them off; one that is gone already is no failure."""
    for identity in ids if access.app.shopify_api_webhooks else ():
        ask(access, queries.UNSUBSCRIBE, {"id": _PREFIX + identity}, cost=CHANGE_COST)


def _changed(access: StoreAccess, mutation: str, variables: Mapping[str, Any]) -> Subscription:
    data, _, answer = ask(access, mutation, variables, cost=CHANGE_COST)
    payload = next(iter(data.values()), None)
    if not isinstance(payload, dict):
        raise answer.not_json("it is not a webhook")
    if errors := payload.get("userErrors"):
        why = "; ".join(str(error.get("message"))[:120] for error in errors)
        raise Refused(STORE_REQUEST_REFUSED, why, status=answer.status, why=why)
    if not isinstance(payload.get("webhookSubscription"), dict):
        raise answer.not_json("it is not a webhook")
    return _subscription(payload["webhookSubscription"])


def _subscription(node: Mapping[str, Any]) -> Subscription:
    topic = str(node.get("topic"))
    # What is listed is switched on: Shopify removes one that fails, it never pauses it.
    return Subscription(
        str(node.get("id")).removeprefix(_PREFIX), _ENUM.get(topic, topic.lower()), str(node.get("uri")), "active"
    )
