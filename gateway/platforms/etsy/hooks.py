"""Etsy's webhooks: one endpoint an app, thin notices in Standard Webhooks form. Facts: the Etsy sheet, section 1."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence

from gateway.domain.problems import (
    BODY_NOT_JSON,
    SIGNATURE_MALFORMED,
    SIGNATURE_MISSING,
    SIGNATURE_STALE,
    GatewayError,
    Refused,
)
from gateway.platforms import fields, signatures
from gateway.platforms.base import Address, HookRequest, Ignored, Notice, OrderNotice, SignatureRejected

TOLERANCE_SECONDS = 300

_EVENTS = frozenset({"order.paid", "order.canceled", "order.shipped", "order.delivered"})
_RESOURCE = re.compile(r"\Ahttps://(?:openapi|api)\.etsy\.com/v3/application/shops/(\d{1,19})/receipts/(\d{1,19})/?\Z")


def address(request: HookRequest) -> Address:
    """The headers name neither shop nor event: the drain loop finds both in the body."""
    return Address(key="", topic="notice", delivery_key=f"etsy:{request.headers.get('webhook-id', '')[:200]}")


def verify(request: HookRequest, secrets: Sequence[str]) -> None:
    """base64(HMAC-SHA256(key, id.timestamp.body)), "v1," before it or not, several separated by spaces."""
    identity = request.headers.get("webhook-id", "")
    timestamp = request.headers.get("webhook-timestamp", "")
    header = request.headers.get("webhook-signature", "")
    if not identity or not timestamp or not header:
        raise SignatureRejected(SIGNATURE_MISSING)
    try:
        age = request.received_at.timestamp() - int(timestamp)
    except ValueError:
        raise SignatureRejected(SIGNATURE_MALFORMED) from None
    if abs(age) > TOLERANCE_SECONDS:
        raise SignatureRejected(SIGNATURE_STALE)
    given = []
    for token in header.split()[:10]:
        version, comma, value = token.partition(",")
        if comma and version != "v1":
            continue
        try:
            given.append(signatures.decode(value if comma else token))
        except SignatureRejected:
            continue
    if not given:
        raise SignatureRejected(SIGNATURE_MALFORMED)
    message = f"{identity}.{timestamp}.".encode() + request.body
    signatures.require_match(given, message, [_key(secret) for secret in secrets])


def _key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        return secret.encode()


def read(topic: str, body: bytes) -> Notice:
    """Shop and receipt, from the two ids of the resource's address. The address itself is never fetched."""
    try:
        payload = fields.as_object(body)
    except Refused as error:
        raise Refused(BODY_NOT_JSON, error.detail) from None
    try:
        # ORDER_PAID is reported from real payloads too.
        event = fields.text(payload, "event_type").lower().replace("_", ".")
        shop = fields.text(payload, "shop_id")
        resource = _RESOURCE.match(fields.text(payload, "resource_url"))
    except GatewayError as error:
        raise Refused(BODY_NOT_JSON, error.detail) from None
    if event not in _EVENTS:
        return Ignored(f"event {event[:60] or 'missing'} is not about an order that we follow")
    if resource is None:
        return Ignored("its address is not that of a receipt at Etsy")
    if shop and shop != resource[1]:
        return Ignored("it names two different shops, as the portal's sample does")
    return OrderNotice(resource[2], None, shop=resource[1])
