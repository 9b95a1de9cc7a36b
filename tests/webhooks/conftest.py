"""A gateway in one process with one WooCommerce store, for tests of the live path."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.sandbox.stores import Store
from tests.simulation import Simulation


@dataclass
class Gateway:
    """The simulation, its store, and how to send that store's signed webhooks."""

    simulation: Simulation
    store: Store
    connection: int
    key: str
    secret: str
    _deliveries: int = 0

    @property
    def path(self) -> str:
        return f"/webhooks/woocommerce/{self.key}"

    def headers(self, body: bytes, topic: str = "order.updated", **more: str) -> dict[str, str]:
        self._deliveries += 1
        return {
            "Content-Type": "application/json",
            "X-WC-Webhook-Topic": topic,
            "X-WC-Webhook-Delivery-ID": f"delivery-{self._deliveries}",
            "X-WC-Webhook-Signature": base64.b64encode(
                hmac.new(self.secret.encode(), body, hashlib.sha256).digest()
            ).decode(),
            **{name.replace("_", "-"): value for name, value in more.items()},
        }

    def send(self, body: bytes, topic: str = "order.updated", **more: str) -> int:
        return self.simulation.post(self.path, self.headers(body, topic, **more), body)

    def order(self, **changes: Any) -> dict[str, Any]:
        """A real order's JSON of the simulated store, with other values; nobody is told of it."""
        placed = self.store.place(quiet=True)
        return {**self.store.render(placed), **changes}

    def send_order(self, **changes: Any) -> dict[str, Any]:
        order = self.order(**changes)
        assert self.send(json.dumps(order).encode()) == 200
        return order

    def delivery(self) -> dict[str, Any]:
        """The last delivery's row."""
        return self.simulation.rows("SELECT * FROM deliveries ORDER BY id DESC LIMIT 1")[0]


@pytest.fixture
def gateway(clean_database: str) -> Iterator[Gateway]:
    with Simulation(clean_database) as simulation:
        simulation.open_account()
        store = simulation.world.add_store("woocommerce")
        connection = simulation.connect(store)
        row = simulation.connection(connection)
        secret = simulation.access.vault.open_list(row.hook_secrets)[0]
        yield Gateway(simulation, store, connection, row.key, secret)
