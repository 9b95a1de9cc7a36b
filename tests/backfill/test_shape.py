"""A release of ours that adds a field to Order is no change of any order."""

from __future__ import annotations

import json
from typing import Any

import pytest

from backfill import heads
from gateway.domain import order as orders
from gateway.orders import apply, feed, reading
from gateway.sandbox.stores import Store
from tests.simulation import Simulation


@pytest.fixture(params=["shopify", "woocommerce", "etsy"])
def store(request: pytest.FixtureRequest, simulation: Simulation) -> Store:
    return simulation.world.add_store(request.param)


def _release(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next release: its parts hold one field more."""
    old = reading.canonical

    def canonical(part: Any) -> bytes:
        return json.dumps({**json.loads(old(part)), "gift_wrap": ""}, ensure_ascii=False).encode()

    for module in (reading, apply):
        monkeypatch.setattr(module, "canonical", canonical)
        monkeypatch.setattr(module, "SHAPE", orders.SHAPE + 1)
    monkeypatch.setattr(heads, "SHAPE", orders.SHAPE + 1)


def _feed(simulation: Simulation) -> int:
    with simulation.database.transaction() as tx:
        feed.sequence(tx)
    return int(simulation.scalar("SELECT count(*) FROM feed"))


def test_a_sync_after_a_release_with_another_shape_adds_and_updates_nothing(
    simulation: Simulation, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = simulation.connect(store)
    for number in range(6):
        store.place(quiet=number < 3)  # half of them came by webhook, half by the first sync
        simulation.pass_time(5)
    simulation.deliver_all()
    simulation.drain()
    simulation.reread()
    simulation.pass_time(100)
    simulation.sync(connection)
    told, changed = _feed(simulation), simulation.scalar("SELECT max(changed_at) FROM orders")
    assert told >= 3
    _release(monkeypatch)
    simulation.pass_time(10)

    run = simulation.sync(connection)

    assert (run["created"], run["updated"], run["unchanged"], run["verdict"]) == (0, 0, 6, "complete")
    assert _feed(simulation) == told
    assert simulation.scalar("SELECT max(changed_at) FROM orders") == changed
    assert simulation.rows("SELECT DISTINCT core_shape, person_shape, core->>'gift_wrap' AS field FROM orders") == [
        {"core_shape": orders.SHAPE + 1, "person_shape": orders.SHAPE + 1, "field": ""}
    ]


def test_a_change_that_comes_with_the_new_shape_is_one(
    simulation: Simulation, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = simulation.connect(store)
    placed = [store.place(quiet=True) for _ in range(3)]
    simulation.pass_time(100)
    simulation.sync(connection)
    _release(monkeypatch)
    store.change(placed[1].id, "cancel", quiet=True)
    simulation.pass_time(100)

    changed = simulation.scalar("SELECT max(changed_at) FROM orders")

    run = simulation.sync(connection)

    assert (run["created"], run["updated"], run["unchanged"]) == (0, 1, 2)
    assert simulation.scalar("SELECT count(*) FROM orders WHERE changed_at > :at", at=changed) == 1
    assert _feed(simulation) == 4
