"""Reading orders again: what fails waits alone and ever longer, and a wish is fulfilled by a later read only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gateway.orders import rereads as wishes
from gateway.orders.rereads import Wish
from gateway.platforms import REGISTRY
from gateway.platforms.base import Gone, Hidden, LookUp, StoreAccess
from tests.webhooks.conftest import Gateway
from webhooks import rereads

WOO = REGISTRY["woocommerce"]


def _wish(gateway: Gateway, *ids: int, **changes: Any) -> None:
    with gateway.simulation.database.transaction() as tx:
        wishes.want(
            tx,
            [
                Wish(gateway.simulation.account_id, gateway.connection, str(each), "notice", None, None)._replace(
                    **changes
                )
                for each in ids
            ],
        )


def _read(gateway: Gateway, monkeypatch: pytest.MonkeyPatch, fetch: Any) -> None:
    with monkeypatch.context() as patched:
        patched.setitem(REGISTRY, "woocommerce", replace(WOO, fetch_orders=fetch))
        rereads.reread_batch(gateway.simulation.access, gateway.connection)


def _waiting(gateway: Gateway) -> list[tuple[str, int, str | None]]:
    rows = gateway.simulation.rows("SELECT external_id, attempts, problem FROM rereads ORDER BY external_id")
    return [(row["external_id"], row["attempts"], row["problem"]) for row in rows]


def _due(gateway: Gateway) -> int:
    return int(gateway.simulation.scalar("SELECT count(*) FROM rereads WHERE due_at <= clock_timestamp()"))


def test_a_mistake_of_ours_while_reading_makes_the_orders_wait_and_is_not_repeated_at_once(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    _wish(gateway, 1, 2)

    def mistaken(access: StoreAccess, ids: Sequence[str]) -> Iterator[LookUp]:
        yield Gone(ids[0], gateway.simulation.now())
        raise KeyError("orders")

    _read(gateway, monkeypatch, mistaken)

    assert _waiting(gateway) == [("2", 1, "internal.unexpected")]
    assert _due(gateway) == 0


def test_an_order_that_can_not_be_written_waits_alone(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    placed = [gateway.store.place(quiet=True).id for _ in range(5)]
    _wish(gateway, *placed)
    apply = rereads.apply

    def strict(tx: Any, readings: Any, **options: Any) -> Any:
        if any(reading.external_id == str(placed[2]) for reading in readings):
            raise KeyError("line_items")
        return apply(tx, readings, **options)

    monkeypatch.setattr(rereads, "apply", strict)
    _read(gateway, monkeypatch, WOO.fetch_orders)

    assert _waiting(gateway) == [(str(placed[2]), 1, "internal.unexpected")]
    assert gateway.simulation.scalar("SELECT count(*) FROM orders") == 4


def test_gone_is_believed_from_an_answer_without_a_date_too(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    order = gateway.send_order()
    gateway.simulation.drain()
    _wish(gateway, order["id"])

    _read(gateway, monkeypatch, lambda access, ids: [Gone(each, None) for each in ids])

    assert _waiting(gateway) == []
    assert gateway.simulation.scalar("SELECT removed_at IS NOT NULL FROM orders") is True


@pytest.mark.parametrize("behind", [timedelta(0), timedelta(hours=1)])
def test_a_wish_that_comes_during_a_read_is_not_fulfilled_by_it_whatever_our_clocks_say(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, behind: timedelta
) -> None:
    placed = gateway.store.place(quiet=True)
    _wish(gateway, placed.id)

    def meanwhile(access: StoreAccess, ids: Sequence[str]) -> list[LookUp]:
        looks = list(WOO.fetch_orders(access, ids))
        _wish(gateway, placed.id, due_at=gateway.simulation.now() - behind)
        return looks

    _read(gateway, monkeypatch, meanwhile)

    assert _waiting(gateway) == [(str(placed.id), 0, None)]
    _read(gateway, monkeypatch, WOO.fetch_orders)
    assert _waiting(gateway) == []


def test_what_is_hidden_is_read_a_few_times_more_and_then_left_to_the_runs(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    _wish(gateway, 7)
    for attempt in range(1, rereads.HIDDEN_ATTEMPTS):
        _read(gateway, monkeypatch, lambda access, ids: [Hidden(each) for each in ids])
        assert _waiting(gateway) == [("7", attempt, "order.hidden")]
        gateway.simulation.rows("UPDATE rereads SET due_at = clock_timestamp() RETURNING due_at")
    _read(gateway, monkeypatch, lambda access, ids: [Hidden(each) for each in ids])

    assert _waiting(gateway) == []
