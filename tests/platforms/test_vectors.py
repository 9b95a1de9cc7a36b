"""Published and computed vectors: Shopify's signatures and samples, Etsy's seventeen webhooks."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gateway.platforms import REGISTRY
from gateway.platforms.base import HookRequest, Ignored, OrderNotice, SignatureRejected

FIXTURES = Path(__file__).parent / "fixtures"
ETSY = json.loads((FIXTURES / "etsy" / "vectors.json").read_text())
SHOPIFY = [
    row for row in json.loads((FIXTURES / "shopify" / "hmac_vectors.json").read_text()) if row["kind"] == "webhook"
]


def test_there_are_seventeen_etsy_vectors() -> None:
    assert len(ETSY["vectors"]) == 17


@pytest.mark.parametrize("vector", ETSY["vectors"], ids=lambda vector: vector["name"])
def test_etsy_vectors_do_as_they_say(vector: dict[str, Any]) -> None:
    headers = {
        "webhook-id": vector["id"],
        "webhook-timestamp": str(vector["timestamp"]),
        "webhook-signature": vector["signature"],
    }
    now = datetime.fromtimestamp(ETSY["now_for_tests"], UTC)
    request = HookRequest("/webhooks/etsy", headers, vector["body"].encode(), now)
    # wrong_secret was signed with another secret than the one that we know.
    secret = ETSY["vectors"][0]["secret"]

    if vector["expect"] == "reject":
        with pytest.raises(SignatureRejected):
            REGISTRY["etsy"].verify(request, [secret])
        return
    REGISTRY["etsy"].verify(request, [secret])
    notice = REGISTRY["etsy"].read("notice", request.body)
    if vector["expect"].startswith("accept"):
        assert notice == OrderNotice("54321", None, shop="12345")
    else:
        assert isinstance(notice, Ignored)


@pytest.mark.parametrize("vector", SHOPIFY, ids=lambda vector: vector["secret"])
def test_shopify_vectors_verify(vector: dict[str, Any]) -> None:
    request = HookRequest(
        "/webhooks/shopify", {"x-shopify-hmac-sha256": vector["hmac_b64"]}, vector["body"].encode(),
        datetime(2026, 11, 24, tzinfo=UTC),
    )  # fmt: skip

    REGISTRY["shopify"].verify(request, [vector["secret"]])
    with pytest.raises(SignatureRejected):
        REGISTRY["shopify"].verify(request, [vector["secret"] + "x"])


def test_shopifys_sample_order_has_the_right_amounts() -> None:
    payload = json.loads((FIXTURES / "shopify" / "webhook_orders_sample_820982911946154508.json").read_text())
    order = REGISTRY["shopify"].normalise(payload, kind="webhook")

    assert order.external_id == "820982911946154508"
    assert order.core.number == "#9999"
    assert (order.core.total, order.core.current_total) == (
        Decimal(payload["total_price"]), Decimal(payload["current_total_price"]),
    )  # fmt: skip
    assert [line.title for line in order.core.lines] == [line["title"] for line in payload["line_items"]]
    assert order.person is not None
    assert order.person.email == payload["email"]


def test_shopifys_refunded_order_has_the_right_amounts() -> None:
    payload = json.loads((FIXTURES / "shopify" / "rest_order_450789469_2026-07.json").read_text())
    order = REGISTRY["shopify"].normalise(payload.get("order", payload), kind="webhook")

    assert order.core.number == "#1001"
    assert order.core.total == Decimal("598.94")
    assert order.core.refunded_total == Decimal("209.00")
    assert order.core.payment_status == "partly_refunded"
    assert order.core.shipments[0].tracking_number == "1Z1234512345123456"
