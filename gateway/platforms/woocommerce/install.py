"""WooCommerce's consent page and subscriptions: one webhook for each order topic, made and mended by REST."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote, urlencode, urlsplit

from gateway.domain.problems import GatewayError
from gateway.platforms.base import StoreAccess, Subscription, Tokens
from gateway.platforms.woocommerce.client import call

TOPICS = ("order.created", "order.updated", "order.deleted", "order.restored")
APP_NAME = "Order Gateway"
PER_PAGE = 100


def consent_address(home: str, *, state: str, return_url: str, callback_url: str) -> str:
    """Where the shop's owner approves. The state travels as user_id, and its keys come to callback_url.

    The URLs must hold nothing that needs escaping: `%20` or `%2B` in a callback makes the flow fail (sheet fact 14).
    """
    query = {
        "app_name": APP_NAME, "scope": "read_write", "user_id": state, "return_url": return_url,
        "callback_url": callback_url,
    }  # fmt: skip
    return f"{home}/wc-auth/v1/authorize?{urlencode(query, quote_via=quote)}"


def list_subscriptions(access: StoreAccess) -> list[Subscription]:
    """Every webhook of the shop, other apps' too: whoever repairs compares the address."""
    found: list[Subscription] = []
    for page in range(1, 21):
        params = {"per_page": str(PER_PAGE), "page": str(page), "orderby": "id", "order": "asc"}
        answer = call(access, "GET", "webhooks", params=params)
        rows = answer.json()
        if not isinstance(rows, list):
            raise answer.not_json("it is not a list of webhooks")
        found.extend(_subscription(row) for row in rows)
        if len(rows) < PER_PAGE:
            break
    return found


def subscribe(access: StoreAccess, address: str, secret: str) -> list[Subscription]:
    """Make what is missing, mend what is wrong, take doubles away; gives the four that stand then.

    Ours are those whose address ends in our unguessable path, whatever host stands before it: the gateway may have
    moved. Webhooks of other apps are left alone. `secret` is [A-Za-z0-9] only (sheet fact 1); it is never shown again,
    so it is set again: what we verify with is what the shop signs with. What was made is taken away again on failure.
    """
    ours: dict[str, list[Subscription]] = {topic: [] for topic in TOPICS}
    extra: list[str] = []
    for row in list_subscriptions(access):
        if is_ours(row.address, address):
            ours[row.topic].append(row) if row.topic in ours else extra.append(row.external_id)
    result, made = [], []
    try:
        for topic in TOPICS:
            there = sorted(ours[topic], key=lambda row: (row.state == "disabled", row.address != address))
            if there and there[0].state != "disabled":
                wish = {"status": "active", "secret": secret, "delivery_url": address}
                result.append(_made(access, "PUT", f"webhooks/{there[0].external_id}", wish))
                extra.extend(row.external_id for row in there[1:])
                continue
            # Switching a disabled one on leaves its count at six, and the next failure would disable it again (capture
            # woocommerce-pairs/17): a new one begins at nought.
            wish = {"name": f"{APP_NAME} {topic}", "topic": topic, "delivery_url": address, "secret": secret}
            fresh = _made(access, "POST", "webhooks", wish)
            made.append(fresh.external_id)
            result.append(fresh)
            extra.extend(row.external_id for row in there)
    except GatewayError:
        _forget(access, made)
        raise
    unsubscribe(access, extra)
    return result


def is_ours(given: str, address: str) -> bool:
    """Whether a webhook leads to this very connection: by its path, which holds the connection's unguessable key."""
    try:
        return urlsplit(given).path.rstrip("/").endswith(urlsplit(address).path)
    except ValueError:
        return False


def unsubscribe(access: StoreAccess, ids: Sequence[str]) -> None:
    for identity in ids:
        call(access, "DELETE", f"webhooks/{identity}", params={"force": "true"})


def _forget(access: StoreAccess, ids: Sequence[str]) -> None:
    """Take back as far as it goes; what stays is found by the next attempt, since its address is ours."""
    try:
        unsubscribe(access, ids)
    except GatewayError:
        return


def refresh(access: StoreAccess) -> Tokens | None:
    """WooCommerce's keys don't expire."""
    return None


def _made(access: StoreAccess, method: str, path: str, wish: dict[str, str]) -> Subscription:
    answer = call(access, method, path, json=wish)
    row = answer.json()
    if not isinstance(row, dict) or "id" not in row:
        raise answer.not_json("it is not a webhook")
    return _subscription(row)


def _subscription(row: dict[str, object]) -> Subscription:
    return Subscription(str(row.get("id")), str(row.get("topic")), str(row.get("delivery_url")), str(row.get("status")))
