"""Whatever a platform sends in place of a field: an order, or a Problem that names why not. Nothing else is raised."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.domain.order import PARTS
from gateway.domain.problems import GatewayError
from gateway.orders.reading import Reading, read_order
from gateway.platforms import REGISTRY, fields
from gateway.platforms.base import Found, Kind, Platform
from tests.simulation import Simulation

STRANGE: tuple[Any, ...] = (
    None, True, -1, 1e308, float("inf"), 10**40, "", "x", "\x00", "\ud800", "1e999999999", "-5", "2026-13-01",
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "gid://x/1", "gid://", [], [None], ["a"], [{}], {},
    {"a": 1}, {"nodes": [None]}, {"nodes": [{}]}, {"shopMoney": None}, {"amount": 1, "divisor": 0},
    {"amount": 10**30, "divisor": 1, "currency_code": "EUR"},
)  # fmt: skip

Path = tuple[str | int, ...]


def _paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """The way to every value; of lists the first entry stands for all."""
    children = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for name, child in children:
        yield (*path, name)
        yield from _paths(child, (*path, name))


def _variants(payload: dict[str, Any]) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in list(_paths(payload)):
        changed = copy.deepcopy(payload)
        place = changed
        for name in path[:-1]:
            place = place[name]
        for value in STRANGE:
            place[path[-1]] = value
            yield path, changed
        del place[path[-1]]
        yield path, changed


def _read(platform: Platform, payload: dict[str, Any], kind: Kind) -> Reading | None:
    raw = json.dumps(payload).encode()
    now = datetime(2026, 11, 1, tzinfo=UTC)
    try:
        if kind == "webhook":
            platform.read("orders/updated" if platform.key == "shopify" else "order.updated", raw)
        return read_order(
            platform, fields.as_object(raw), raw, kind=kind, observed_at=now, received_at=now, account_id=1,
            connection_id=1, granted=PARTS,
        )  # fmt: skip
    except GatewayError:
        return None


def _storable(reading: Reading) -> bool:
    texts = [reading.external_id, reading.customer_name, reading.core.words, *map(str, reading.listing)]
    if reading.person is not None:
        texts.append(reading.person.words)
    return all("\x00" not in text and text.encode() for text in texts if text)


@pytest.mark.parametrize("key", sorted(REGISTRY))
@pytest.mark.parametrize("kind", ["api", "webhook"])
def test_a_strange_payload_is_an_order_or_a_problem(clean_database: str, key: str, kind: Kind) -> None:
    platform = REGISTRY[key]
    if kind == "webhook" and platform.capabilities.thin_hooks:
        pytest.skip("its webhooks carry no order")
    with Simulation(clean_database) as simulation:
        simulation.open_account()
        store = simulation.world.add_store(key)
        connection = simulation.connect(store)
        placed = store.place(lines=2, quiet=True)
        store.change(placed.id, "refund", quiet=True)
        if kind == "webhook":
            payload = json.loads(json.dumps(store.render(placed)))
        else:
            access = simulation.access.store(simulation.connection(connection))
            found = next(iter(platform.fetch_orders(access, [str(placed.id)])))
            assert isinstance(found, Found)
            payload = json.loads(found.raw)

    assert _read(platform, payload, kind) is not None
    for path, variant in _variants(payload):
        try:
            reading = _read(platform, variant, kind)
        except Exception as error:
            raise AssertionError(f"{path}: {type(error).__name__} from a strange value") from error
        assert reading is None or _storable(reading), path
