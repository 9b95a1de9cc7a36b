"""Shopify's webhooks: address, signature, notice. Facts: shopify.dev "HTTPS webhooks", read 2026-11."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime

from gateway.domain.problems import BODY_NOT_JSON, BODY_WITHOUT_ORDER_ID, GatewayError, Refused
from gateway.platforms import fields, signatures
from gateway.platforms.base import (
    Address,
    HookRequest,
    Ignored,
    Notice,
    OrderDeleted,
    OrderNotice,
    Payload,
    PrivacyKind,
    PrivacyRequest,
    ShopChanged,
    Uninstalled,
)

# Anchored at both ends: the documentation's own expression accepts x.myshopify.com.evil.tld.
SHOP = re.compile(r"\A[a-z0-9][a-z0-9-]*\.myshopify\.com\Z")

TOPICS = (
    "orders/create", "orders/updated", "orders/cancelled", "orders/delete", "app/uninstalled", "app/scopes_update",
    "shop/update",
)  # fmt: skip
"""What we subscribe to, in shopify.app.toml."""

_WHOLE_ORDER = frozenset(
    {
        "orders/create",
        "orders/updated",
        "orders/cancelled",
        "orders/paid",
        "orders/fulfilled",
        "orders/partially_fulfilled",
    }
)
_ABOUT_AN_ORDER = frozenset(
    {"refunds/create", "order_transactions/create", "fulfillments/create", "fulfillments/update"}
)
_PRIVACY: dict[str, PrivacyKind] = {
    "customers/data_request": "data_request",
    "customers/redact": "redact",
    "shop/redact": "shop_redact",
}
COMPLIANCE_TOPICS = tuple(_PRIVACY)


def _header(request: HookRequest, name: str) -> str:
    """Classic webhooks prefix their headers with X-Shopify-, the newer Events with Shopify-."""
    return request.headers.get(f"x-shopify-{name}") or request.headers.get(f"shopify-{name}") or ""


def address(request: HookRequest) -> Address:
    """Shop and topic come from headers that nobody signs: they choose a tenant, never a destructive action."""
    shop = _header(request, "shop-domain").lower()
    topic = _header(request, "topic")[:64]
    webhook_id = _header(request, "webhook-id")[:80]
    if not webhook_id:
        webhook_id = hashlib.blake2b(request.body, digest_size=16).hexdigest()
    return Address(
        key=shop if SHOP.match(shop) else "",
        topic=topic,
        delivery_key=f"shopify:{shop[:80]}:{topic}:{webhook_id}",
        observed_at=_moment(_header(request, "triggered-at")),
    )


def _moment(value: str) -> datetime | None:
    """Triggered-At has nanoseconds; absent or unreadable, the payload's own updated_at stands in, never our clock."""
    try:
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def verify(request: HookRequest, secrets: Sequence[str]) -> None:
    """base64(HMAC-SHA256(client secret as UTF-8, raw body)); old and new secret during a rotation."""
    given = signatures.decode(_header(request, "hmac-sha256"))
    signatures.require_match([given], request.body, [secret.encode() for secret in secrets])


def read(topic: str, body: bytes) -> Notice:
    """What the delivery says, by its topic."""
    try:
        payload = fields.as_object(body)
    except Refused as error:
        raise Refused(BODY_NOT_JSON, error.detail) from None
    if topic in _WHOLE_ORDER:
        return OrderNotice(_order_id(payload, "id"), payload)
    if topic == "orders/delete":
        return OrderDeleted(_order_id(payload, "id"))
    if topic == "orders/edited":
        # Its body is the edit, not the order.
        return OrderNotice(_order_id(payload.get("order_edit") or {}, "order_id"), None)
    if topic in _ABOUT_AN_ORDER:
        return OrderNotice(_order_id(payload, "order_id"), None)
    if topic == "app/uninstalled":
        return Uninstalled(fields.text(payload, "myshopify_domain").lower())
    if topic == "shop/update":
        return ShopChanged(fields.text(payload, "id"))
    if topic == "app/scopes_update":
        return ShopChanged("")  # its body is not published: what is granted is asked for
    if topic in _PRIVACY:
        return _privacy(_PRIVACY[topic], payload)
    return Ignored(f"topic {topic or 'missing'} is not used")


def _privacy(kind: PrivacyKind, payload: Payload) -> PrivacyRequest:
    """Sheet section 2.1: the customer may be named by an e-mail address alone."""
    customer = payload.get("customer")
    customer = customer if isinstance(customer, dict) else {}
    listed = payload.get("orders_to_redact" if kind == "redact" else "orders_requested")
    orders = tuple(str(one) for one in listed if isinstance(one, int | str)) if isinstance(listed, list) else ()
    return PrivacyRequest(
        kind,
        fields.text(payload, "shop_domain").lower(),
        orders,
        customer_id=fields.text(customer, "id"),
        email=fields.text(customer, "email"),
    )


def _order_id(payload: dict[str, object], name: str) -> str:
    try:
        return fields.identity(payload, name)
    except GatewayError as error:
        raise Refused(BODY_WITHOUT_ORDER_ID, error.detail) from None
