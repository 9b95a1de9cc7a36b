"""What a real WooCommerce store sent, beside what its API answered for the same state (captured 2026-11-24)."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gateway.orders.reading import canonical, digest
from gateway.platforms.base import HookRequest, OrderDeleted, OrderNotice, Payload, SignatureRejected, SomethingChanged
from gateway.platforms.woocommerce import PLATFORM

PAIRS = Path(__file__).parent / "fixtures" / "woocommerce-pairs"
SECRET = "GoldenPairsSecret0123456789abcdefGoldenPairs012345"
HOOKS = sorted(PAIRS.rglob("webhook*.body"))
OLDER = PAIRS / "13-two-changes" / "1-both-delivered-same-second" / "webhook-1.body"


def _name(path: Path) -> str:
    return str(path.relative_to(PAIRS))


def _request(body: Path) -> HookRequest:
    meta = json.loads(body.with_suffix(".json").read_text())
    headers = {name.lower(): value for name, value in meta["headers"]}
    return HookRequest("/webhooks/woocommerce/key", headers, body.read_bytes(), datetime(2026, 11, 24, tzinfo=UTC))


def _read(body: Path) -> Any:
    request = _request(body)
    return PLATFORM.read(request.headers["x-wc-webhook-topic"], request.body)


def _rest(folder: str) -> Payload:
    payload: Payload = json.loads((PAIRS / folder / "rest.body").read_text())
    return payload


def _digests(payload: Payload) -> tuple[bytes, bytes]:
    order = PLATFORM.normalise(payload)
    assert order.person is not None
    return digest(canonical(order.core)), digest(canonical(order.person))


def test_the_fixtures_are_there() -> None:
    assert len(HOOKS) >= 45


@pytest.mark.parametrize("body", HOOKS, ids=_name)
def test_every_captured_signature_verifies(body: Path) -> None:
    PLATFORM.verify(_request(body), [SECRET])


@pytest.mark.parametrize("body", HOOKS, ids=_name)
def test_one_flipped_bit_is_refused(body: Path) -> None:
    request = _request(body)
    altered = bytes([request.body[0] ^ 1]) + request.body[1:]

    with pytest.raises(SignatureRejected):
        PLATFORM.verify(HookRequest(request.path, request.headers, altered, request.received_at), [SECRET])


def _is_pair(body: Path) -> bool:
    """Not a deletion, an error object, or the first of two changes within one second."""
    notice = _read(body)
    rest = json.loads((body.parent / "rest.body").read_text())
    return isinstance(notice, OrderNotice) and notice.payload is not None and "id" in rest and body != OLDER


@pytest.mark.parametrize("body", list(filter(_is_pair, HOOKS)), ids=_name)
def test_webhook_and_api_of_one_state_give_one_digest(body: Path) -> None:
    rest = json.loads((body.parent / "rest.body").read_text())

    assert _digests(_read(body).payload) == _digests(rest)


def test_two_changes_within_one_second_have_one_time_and_two_digests() -> None:
    folder = PAIRS / "13-two-changes" / "1-both-delivered-same-second"
    first, second = _read(folder / "webhook-1.body"), _read(folder / "webhook-2.body")
    one, two = PLATFORM.normalise(first.payload), PLATFORM.normalise(second.payload)

    assert one.updated_at == two.updated_at
    assert _digests(first.payload) != _digests(second.payload)


def test_their_delivery_ids_collide_and_their_delivery_keys_do_not() -> None:
    folder = PAIRS / "13-two-changes" / "1-both-delivered-same-second"
    one, two = _request(folder / "webhook-1.body"), _request(folder / "webhook-2.body")

    assert one.headers["x-wc-webhook-delivery-id"] == two.headers["x-wc-webhook-delivery-id"]
    assert PLATFORM.address(one) != PLATFORM.address(two)


@pytest.mark.parametrize("name", ["webhook-created", "webhook-updated", "webhook"])
def test_an_order_that_arrives_in_the_trash_is_a_deletion_to_be_checked(name: str) -> None:
    notice = _read(PAIRS / "12-trash" / "11-created-and-trashed-in-one-go" / f"{name}.body")

    assert notice == OrderDeleted("47")


def test_a_restored_order_is_read_again_rather_than_believed() -> None:
    assert _read(PAIRS / "12-trash" / "3-restored" / "webhook.body") == OrderNotice("44", None)


def test_a_well_signed_error_object_is_a_hint_and_not_a_broken_payload() -> None:
    notice = _read(PAIRS / "12-trash" / "10-updated-webhook-after-force-delete" / "webhook.body")

    assert isinstance(notice, SomethingChanged)


def test_a_deleted_refund_changes_the_content_and_not_the_time() -> None:
    before, after = _rest("03-refunds/3-full"), _rest("03-refunds/4-refund-deleted")
    one, two = PLATFORM.normalise(before), PLATFORM.normalise(after)

    assert one.updated_at == two.updated_at
    assert one.core != two.core
    assert len(two.core.refunds) == len(one.core.refunds) - 1


def test_a_partial_refund_is_told_in_amounts() -> None:
    core = PLATFORM.normalise(_rest("03-refunds/2-partial")).core

    assert core.payment_status == "partly_refunded"
    assert core.refunded_total == Decimal("19.99")
    assert core.current_total == Decimal("36.96")


def test_a_plugins_status_is_kept_and_read_by_its_payment() -> None:
    core = PLATFORM.normalise(_rest("11-custom-status/2-awaiting-pickup")).core

    assert (core.status, core.payment_status, core.fulfilment_status) == ("awaiting-pickup", "paid", "unfulfilled")


def test_a_float_price_is_not_read() -> None:
    payload = _rest("08-float-price")
    core = PLATFORM.normalise(payload).core

    assert payload["line_items"][0]["price"] == 3.3333333333333335
    assert [line.unit_price for line in core.lines] == [Decimal("3.33"), Decimal("0.14")]
    assert [line.total for line in core.lines] == [Decimal("10.00"), Decimal("1.00")]


@pytest.mark.parametrize(
    ("folder", "places"),
    [("jpy", 0), ("jpy-store-0-decimals", 0), ("kwd-store-2-decimals", 3), ("kwd-store-3-decimals", 3)],
)
def test_amounts_keep_their_value_whatever_decimals_the_store_uses(folder: str, places: int) -> None:
    """Decimals follow the store's setting, not the currency: a yen store can work with hundredths."""
    payload = _rest(f"07-currency/{folder}")
    core = PLATFORM.normalise(payload).core

    assert core.total == Decimal(payload["total"])
    assert len(str(core.total).partition(".")[2]) >= places


def test_260_lines_are_260_lines() -> None:
    assert len(PLATFORM.normalise(_rest("05-260-lines")).core.lines) == 260


def test_an_order_with_nothing_in_it_is_an_order() -> None:
    order = PLATFORM.normalise(_rest("06-guest-bare-2"))

    assert order.core.lines == ()
    assert order.person is not None
    assert (order.person.name, order.person.billing, order.person.shipping) == ("", None, None)


def test_a_save_that_changes_no_field_of_ours_moves_the_time_alone() -> None:
    before = PLATFORM.normalise(_rest("01-plain-paid"))
    after = dict(_rest("01-plain-paid"), date_modified_gmt="2027-01-01T00:00:00")

    assert PLATFORM.normalise(after).core == before.core
    assert PLATFORM.normalise(after).updated_at != before.updated_at
