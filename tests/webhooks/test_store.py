"""The writer: one statement for all that wait, and nothing kept of what was given up."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from gateway.domain.problems import DATABASE_AWAY, Retry
from gateway.orders.payloads import place_of_delivery
from tests.webhooks.conftest import Gateway
from webhooks import store
from webhooks.store import Delivery, Writer

CAME = datetime(2026, 9, 1, 12, 0, tzinfo=UTC)


def _delivery(key: str, **changes: object) -> Delivery:
    delivery = Delivery(
        platform="woocommerce", shop="key", account_id=None, connection_id=None, delivery_key=key,
        topic="order.updated", received_at=CAME, observed_at=None, headers=b"[]", body_bytes=2, body=b"{}",
    )  # fmt: skip
    return replace(delivery, **changes)  # type: ignore[arg-type]


def test_a_delivery_and_its_duplicates_at_once_are_one_row_in_one_statement(gateway: Gateway) -> None:
    key = gateway.simulation.directory.look_up("woocommerce", gateway.key).data_key
    rows = [
        _delivery("twice", received_at=moment, body=key.seal(b"{}", place_of_delivery(moment)))
        for moment in (CAME + timedelta(seconds=n) for n in range(3))
    ]
    writer = gateway.simulation.writer

    writer._insert([*rows, _delivery("once")])

    stored = gateway.simulation.rows("SELECT delivery_key, received_at FROM deliveries ORDER BY delivery_key")
    assert [(row["delivery_key"], row["received_at"]) for row in stored] == [("once", CAME), ("twice", CAME)]
    assert gateway.simulation.bodies()[0] == b"{}"


def test_what_was_given_up_is_not_kept_while_postgresql_stands_still(
    clean_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "GIVE_UP_SECONDS", 0.05)
    stands_still, goes_on = threading.Event(), threading.Event()

    def still(self: Writer, rows: list[Delivery]) -> None:
        stands_still.set()
        goes_on.wait(10)

    monkeypatch.setattr(Writer, "_insert", still)
    writer = Writer(clean_database)
    try:
        for number in range(5):
            with pytest.raises(Retry) as refused:
                writer.store(_delivery(f"delivery {number}"))
            assert refused.value.problem is DATABASE_AWAY
            assert stands_still.wait(5)
        assert len(writer._queue) == 0
    finally:
        goes_on.set()
        writer.close()


def test_what_waits_when_the_writer_is_closed_is_stored_first(clean_database: str) -> None:
    writer = Writer(clean_database)
    writer._closed = True

    writer.store(_delivery("late"))

    with psycopg.connect(clean_database) as connection:
        assert connection.execute("SELECT delivery_key FROM deliveries").fetchall() == [("late",)]
    writer.close()
