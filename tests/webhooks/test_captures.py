"""What a real store sent, byte for byte with its real headers, ends as the orders that its own API listed."""

from __future__ import annotations

from gateway.orders.reading import canonical
from gateway.platforms import REGISTRY
from gateway.sandbox.captures import captures, listed_orders
from tests.webhooks.conftest import Gateway


def test_captured_webhooks_become_the_orders_that_the_store_listed(gateway: Gateway) -> None:
    for capture in captures():
        status = gateway.simulation.post(gateway.path, capture.signed(gateway.secret), capture.body)
        assert status == 200, capture.name
    gateway.simulation.drain()

    stored = gateway.simulation.stored(gateway.connection)
    for payload in listed_orders():
        order = REGISTRY["woocommerce"].normalise(payload)
        assert order.person is not None
        expected = (canonical(order.core).decode(), canonical(order.person).decode())
        assert stored[order.external_id] == expected
    assert sorted(stored) == ["15", "16", "17"]
    states = gateway.simulation.rows("SELECT state FROM deliveries")
    assert [row["state"] for row in states] == ["done"] * 8


def test_replayed_captures_change_nothing(gateway: Gateway) -> None:
    for _ in range(2):
        for capture in captures():
            gateway.simulation.post(gateway.path, capture.signed(gateway.secret), capture.body)
        gateway.simulation.drain()

    assert gateway.simulation.scalar("SELECT count(*) FROM deliveries") == 8
    assert gateway.simulation.scalar("SELECT count(*) FROM changes WHERE kind = 'created'") == 3
