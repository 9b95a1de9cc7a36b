"""Every platform's webhooks: what is accepted, what is refused, what is read. A new platform joins by REGISTRY."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gateway.domain.problems import (
    BODY_NOT_JSON,
    BODY_WITHOUT_ORDER_ID,
    SIGNATURE_MALFORMED,
    SIGNATURE_MISSING,
    SIGNATURE_WRONG,
    Refused,
)
from gateway.platforms import REGISTRY
from gateway.platforms.base import (
    Address,
    HookRequest,
    Ignored,
    OrderDeleted,
    OrderNotice,
    Ping,
    PrivacyRequest,
    SignatureRejected,
    Uninstalled,
)

NOW = datetime(2026, 11, 24, 8, 0, 0, 250000, tzinfo=UTC)
SECRET, OTHER = "whsec_" + base64.b64encode(b"one secret of tests").decode(), "whsec_b3RoZXI="
SIGNATURE_HEADER = {
    "shopify": "x-shopify-hmac-sha256",
    "woocommerce": "x-wc-webhook-signature",
    "etsy": "webhook-signature",
}
BODIES = {
    "shopify": b'{"id":1,"note":"\xe2\x9d\xa4 \\u00e9" }\n',
    "woocommerce": b'{"id":1,"customer_note":"\xe2\x9d\xa4 \\u00e9" }\n',
    "etsy": b'{"event_type": "order.paid", "shop_id": 5,'
    b' "resource_url": "https://openapi.etsy.com/v3/application/shops/5/receipts/1"}\n',
}


def _b64(key: bytes, message: bytes) -> str:
    return base64.b64encode(hmac.digest(key, message, "sha256")).decode()


def _shopify(body: bytes, secret: str) -> HookRequest:
    headers = {
        "x-shopify-topic": "orders/create",
        "x-shopify-shop-domain": "a-shop.myshopify.com",
        "x-shopify-webhook-id": "w-1",
        "x-shopify-triggered-at": "2026-11-24T07:59:59.123456789Z",
        "x-shopify-hmac-sha256": _b64(secret.encode(), body),
    }
    return HookRequest("/webhooks/shopify", headers, body, NOW)


def _woocommerce(body: bytes, secret: str) -> HookRequest:
    headers = {
        "x-wc-webhook-topic": "order.created",
        "x-wc-webhook-delivery-id": "d-1",
        "x-wc-webhook-signature": _b64(secret.encode(), body),
    }
    return HookRequest("/webhooks/woocommerce/key-1", headers, body, NOW)


def _etsy(body: bytes, secret: str) -> HookRequest:
    timestamp = str(int(NOW.timestamp()))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    headers = {
        "webhook-id": "m-1",
        "webhook-timestamp": timestamp,
        "webhook-signature": "v1," + _b64(key, f"m-1.{timestamp}.".encode() + body),
    }
    return HookRequest("/webhooks/etsy", headers, body, NOW)


SIGNED: dict[str, Callable[[bytes, str], HookRequest]] = {
    "shopify": _shopify, "woocommerce": _woocommerce, "etsy": _etsy,
}  # fmt: skip


@pytest.fixture(params=sorted(REGISTRY))
def platform(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _signed(platform: str) -> HookRequest:
    return SIGNED[platform](BODIES[platform], SECRET)


def _with(request: HookRequest, **headers: str) -> HookRequest:
    return replace(request, headers={**request.headers, **{k.replace("_", "-"): v for k, v in headers.items()}})


def test_a_signed_request_is_accepted(platform: str) -> None:
    REGISTRY[platform].verify(_signed(platform), [SECRET])


def test_old_and_new_secret_are_accepted_during_a_rotation(platform: str) -> None:
    REGISTRY[platform].verify(_signed(platform), [OTHER, SECRET])
    REGISTRY[platform].verify(SIGNED[platform](BODIES[platform], OTHER), [SECRET, OTHER])


@pytest.mark.parametrize("place", [0, 7, -1])
def test_one_flipped_bit_of_the_body_is_refused(platform: str, place: int) -> None:
    request = _signed(platform)
    body = bytearray(request.body)
    body[place] ^= 1

    with pytest.raises(SignatureRejected) as refused:
        REGISTRY[platform].verify(replace(request, body=bytes(body)), [SECRET])

    assert refused.value.problem is SIGNATURE_WRONG


def test_the_same_json_written_otherwise_is_refused(platform: str) -> None:
    request = _signed(platform)
    rewritten = json.dumps(json.loads(request.body)).encode()

    with pytest.raises(SignatureRejected):
        REGISTRY[platform].verify(replace(request, body=rewritten), [SECRET])


@pytest.mark.parametrize(
    ("signature", "problem"),
    [
        ("", SIGNATURE_MISSING),
        ("not base64 !", SIGNATURE_MALFORMED),
        ("v1,é", SIGNATURE_MALFORMED),
        ("AAAA", SIGNATURE_MALFORMED),
        (base64.b64encode(b"x" * 32).decode(), SIGNATURE_WRONG),
    ],
)
def test_a_bad_signature_is_refused_with_its_reason(platform: str, signature: str, problem: object) -> None:
    header = SIGNATURE_HEADER[platform]

    with pytest.raises(SignatureRejected) as refused:
        REGISTRY[platform].verify(
            replace(_signed(platform), headers={**_signed(platform).headers, header: signature}), [SECRET]
        )

    assert refused.value.problem is problem


def test_another_secret_and_no_secret_are_refused(platform: str) -> None:
    for secrets in ([OTHER], []):
        with pytest.raises(SignatureRejected):
            REGISTRY[platform].verify(_signed(platform), secrets)


def test_the_address_does_not_depend_on_what_the_body_says(platform: str) -> None:
    address = REGISTRY[platform].address
    one, two = address(_signed(platform)), address(SIGNED[platform](b"not json \xff", SECRET))

    assert isinstance(one, Address)
    assert isinstance(two, Address)
    assert (one.key, one.topic, one.observed_at) == (two.key, two.topic, two.observed_at)


def test_the_same_request_has_the_same_delivery_key(platform: str) -> None:
    assert REGISTRY[platform].address(_signed(platform)) == REGISTRY[platform].address(_signed(platform))


def test_unknown_topics_are_ignored_with_a_reason(platform: str) -> None:
    body = b'{"event_type":"order.teleported"}' if platform == "etsy" else b'{"id":1}'
    notice = REGISTRY[platform].read("orders/teleported", body)

    assert isinstance(notice, Ignored)
    assert notice.reason


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b'"text"', b"\xff\xfe", b"{", b"null", b"1"])
def test_a_body_that_is_not_an_object_is_refused_with_its_reason(platform: str, body: bytes) -> None:
    topic = {"shopify": "orders/create", "woocommerce": "order.created", "etsy": "notice"}[platform]

    with pytest.raises(Refused) as refused:
        REGISTRY[platform].read(topic, body)

    assert refused.value.problem is BODY_NOT_JSON


@pytest.mark.parametrize("body", [b"{}", b'{"id":null}', b'{"id":""}', b'{"id":0}', b'{"id":[1]}', b'{"id":true}'])
@pytest.mark.parametrize(("platform", "topic"), [("shopify", "orders/create"), ("woocommerce", "order.created")])
def test_an_order_without_an_id_is_refused_with_its_reason(platform: str, topic: str, body: bytes) -> None:
    with pytest.raises(Refused) as refused:
        REGISTRY[platform].read(topic, body)

    assert refused.value.problem is BODY_WITHOUT_ORDER_ID


# --- Shopify ---------------------------------------------------------------------------------------------------
def test_shopify_reads_the_newer_header_family_too() -> None:
    request = _signed("shopify")
    newer = replace(request, headers={k.removeprefix("x-"): v for k, v in request.headers.items()})

    REGISTRY["shopify"].verify(newer, [SECRET])
    assert REGISTRY["shopify"].address(newer) == REGISTRY["shopify"].address(request)


def test_shopify_takes_the_time_of_the_trigger_and_never_ours() -> None:
    address = REGISTRY["shopify"].address
    given, absent = address(_signed("shopify")), address(_with(_signed("shopify"), x_shopify_triggered_at=""))

    assert isinstance(given, Address)
    assert isinstance(absent, Address)
    assert given.observed_at == datetime(2026, 11, 24, 7, 59, 59, 123456, tzinfo=UTC)
    assert absent.observed_at is None


@pytest.mark.parametrize(
    "shop", ["a.myshopify.com.evil.tld", "evil.tld/a.myshopify.com", "-a.myshopify.com", "a.myshopify.com\n", "", "x"]
)
def test_shopify_takes_only_a_shops_own_domain(shop: str) -> None:
    address = REGISTRY["shopify"].address(_with(_signed("shopify"), x_shopify_shop_domain=shop))

    assert isinstance(address, Address)
    assert address.key == ""


@pytest.mark.parametrize(
    ("topic", "body", "notice"),
    [
        ("orders/delete", b'{"id":820982911946154508}', OrderDeleted("820982911946154508")),
        ("orders/edited", b'{"order_edit":{"id":1,"order_id":7}}', OrderNotice("7", None)),
        ("refunds/create", b'{"id":1,"order_id":7}', OrderNotice("7", None)),
        ("app/uninstalled", b'{"myshopify_domain":"A.myshopify.com"}', Uninstalled("a.myshopify.com")),
        (
            "customers/redact",
            b'{"shop_domain":"a.myshopify.com"}',
            PrivacyRequest("redact", "a.myshopify.com"),
        ),
        (
            "customers/redact",
            b'{"shop_domain":"a.myshopify.com","customer":{"id":191167,"email":"j@example.com","phone":null},'
            b'"orders_to_redact":[299938,280263]}',
            PrivacyRequest("redact", "a.myshopify.com", ("299938", "280263"), "191167", "j@example.com"),
        ),
        (
            "customers/data_request",
            b'{"shop_domain":"a.myshopify.com","customer":{"email":"j@example.com"},"orders_requested":[7],'
            b'"data_request":{"id":9999}}',
            PrivacyRequest("data_request", "a.myshopify.com", ("7",), "", "j@example.com"),
        ),
        ("shop/redact", b'{"shop_domain":"a.myshopify.com"}', PrivacyRequest("shop_redact", "a.myshopify.com")),
    ],
)
def test_shopify_topics_become_notices(topic: str, body: bytes, notice: object) -> None:
    assert REGISTRY["shopify"].read(topic, body) == notice


# --- WooCommerce -----------------------------------------------------------------------------------------------
def test_woocommerces_ping_is_a_ping() -> None:
    headers = {"content-type": "application/x-www-form-urlencoded", "user-agent": "WooCommerce/11.0.1 Hookshot"}

    assert (
        REGISTRY["woocommerce"].address(HookRequest("/webhooks/woocommerce/k", headers, b"webhook_id=1", NOW)) == Ping()
    )


def test_an_unsigned_request_with_a_topic_is_no_ping() -> None:
    request = HookRequest("/webhooks/woocommerce/k", {"x-wc-webhook-topic": "order.created"}, b"webhook_id=1", NOW)

    assert isinstance(REGISTRY["woocommerce"].address(request), Address)
    with pytest.raises(SignatureRejected):
        REGISTRY["woocommerce"].verify(request, [SECRET])


# --- Etsy ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seconds", [301, -301, 86_400])
def test_etsys_signed_time_must_be_near(seconds: int) -> None:
    request = replace(_signed("etsy"), received_at=NOW + timedelta(seconds=seconds))

    with pytest.raises(SignatureRejected):
        REGISTRY["etsy"].verify(request, [SECRET])


def test_etsys_signature_covers_id_and_time() -> None:
    for changed in ({"webhook_id": "m-2"}, {"webhook_timestamp": str(int(NOW.timestamp()) + 1)}):
        with pytest.raises(SignatureRejected):
            REGISTRY["etsy"].verify(_with(_signed("etsy"), **changed), [SECRET])


def test_hmac_is_over_bytes() -> None:
    """The helper of this file signs what the platforms sign: guarded by one published vector."""
    expected = "B23tXN681gZ0qIWNRrgtzBE9XSDo5yaUu6wfmhu3a7g="

    assert (
        base64.b64encode(hmac.new(b"test_secret_key", b'{"foo": "bar"}', hashlib.sha256).digest()).decode() == expected
    )
