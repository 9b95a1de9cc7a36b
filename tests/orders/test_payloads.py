"""Raw payloads at rest: nothing of them can be read in the database, and without its store's key nothing opens."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from gateway.domain.problems import Refused
from gateway.orders.payloads import Payloads, drop_key, place_of_delivery, place_of_order
from gateway.vault import Vault
from tests.simulation import KEYS, Simulation

PLACE = place_of_order(1, "1001")


@pytest.fixture
def simulation(clean_database: str) -> Iterator[Simulation]:
    with Simulation(clean_database) as simulation:
        simulation.open_account()
        yield simulation


def test_what_is_sealed_opens_at_its_own_place_only(simulation: Simulation) -> None:
    payloads = simulation.access.payloads
    for payload in (b"", b"{}", b"\x01 begins like a sealed one", b'{"name":"Zo\xc3\xab"}' * 5_000):
        with simulation.database.transaction() as tx:
            sealed = payloads.key_of(tx, None).seal(payload, PLACE)
            assert payloads.open(tx, sealed, PLACE) == payload
            for place in (b"", place_of_order(1, "1002"), place_of_order(2, "1001")):
                with pytest.raises(Refused, match="altered"):
                    payloads.open(tx, sealed, place)
            for spot in (9, 21, len(sealed) - 1):
                with pytest.raises(Refused, match="altered"):
                    payloads.open(tx, sealed[:spot] + bytes([sealed[spot] ^ 1]) + sealed[spot + 1 :], PLACE)


def test_a_place_is_told_by_the_microsecond() -> None:
    moment = datetime(2026, 11, 24, 12, 0, 0, 123_456, tzinfo=UTC)
    assert place_of_delivery(moment) == b"delivery/1795521600123456"
    assert place_of_delivery(moment + timedelta(microseconds=1)) == b"delivery/1795521600123457"


def test_the_same_payload_is_never_sealed_alike(simulation: Simulation) -> None:
    with simulation.database.transaction() as tx:
        key = simulation.access.payloads.key_of(tx, None)
    assert len({key.seal(b"{}", PLACE) for _ in range(100)}) == 100


def test_stored_webhooks_and_orders_hold_nothing_to_read(simulation: Simulation) -> None:
    store = simulation.world.add_store("woocommerce")
    simulation.connect(store)
    store.place()
    simulation.deliver_all()
    simulation.drain()

    body = bytes(simulation.scalar("SELECT body FROM delivery_bodies"))
    raw = bytes(simulation.scalar("SELECT raw FROM orders"))
    at = simulation.scalar("SELECT received_at FROM deliveries")
    email = str(simulation.scalar("SELECT person->>'email' FROM orders")).encode()
    row = simulation.rows("SELECT connection_id, external_id FROM orders")[0]
    with simulation.database.transaction() as tx:
        received = simulation.access.payloads.open(tx, body, place_of_delivery(at))
        kept = simulation.access.payloads.open(tx, raw, place_of_order(row["connection_id"], row["external_id"]))

    assert b"@" in email
    assert email in received
    assert received == kept
    for sealed in (body, raw):
        assert sealed[0] == 1
        assert email not in sealed
        assert b"billing" not in sealed
    assert simulation.scalar("SELECT body_bytes FROM deliveries") == len(received)


def test_another_process_opens_what_this_one_sealed_and_no_one_without_the_keys(simulation: Simulation) -> None:
    with simulation.database.transaction() as tx:
        sealed = simulation.access.payloads.key_of(tx, None).seal(b"{}", PLACE)
        assert Payloads(Vault(KEYS)).open(tx, sealed, PLACE) == b"{}"
        wrapped = bytes(tx.execute(text("SELECT wrapped FROM data_keys")).scalar_one())
    assert wrapped.startswith(b"test:")


def test_without_its_key_nothing_opens_and_its_store_gets_a_new_one(simulation: Simulation) -> None:
    connection = simulation.connect(simulation.world.add_store("woocommerce"))
    fresh = Payloads(Vault(KEYS))
    with simulation.database.transaction() as tx:
        old = simulation.access.payloads.key_of(tx, connection)
        sealed = old.seal(b"{}", PLACE)
        drop_key(tx, connection)
        with pytest.raises(Refused, match="its key is gone"):
            fresh.open(tx, sealed, PLACE)
        assert fresh.key_of(tx, connection).id != old.id


def test_what_was_stored_before_there_were_keys_is_read_as_it_is(simulation: Simulation) -> None:
    with simulation.database.transaction() as tx:
        assert simulation.access.payloads.open(tx, b'{"id":1}', PLACE) == b'{"id":1}'
