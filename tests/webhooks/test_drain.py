"""From stored deliveries to orders: bad input fails alone and says why, workers that die lose nothing."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest
from psycopg import OperationalError, errors
from sqlalchemy import text

from gateway.db.engine import cursor
from gateway.domain.scope import AccountScope
from gateway.orders.payloads import place_of_delivery
from tests.webhooks.conftest import Gateway
from webhooks import apply as drain
from webhooks import inbox
from webhooks.apply import Drainer


def _outcomes(gateway: Gateway) -> list[tuple[str, str | None, str | None]]:
    rows = gateway.simulation.rows("SELECT state, outcome, problem FROM deliveries ORDER BY id")
    return [(row["state"], row["outcome"], row["problem"]) for row in rows]


def _numbers(gateway: Gateway) -> list[str]:
    rows = gateway.simulation.rows("SELECT number FROM orders WHERE core IS NOT NULL ORDER BY id")
    return [row["number"] for row in rows]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"<html>", "webhook.body_not_json"),
        (b"\xff\xfe\x00", "webhook.body_not_json"),
        (b"[]", "webhook.body_not_json"),
        (b'{"id":' + b"[" * 100_000, "webhook.body_not_json"),
        (b"{}", "webhook.no_order_id"),
        (b'{"id":"x","status":"processing"}', "payload.field"),
    ],
)
def test_a_well_signed_body_that_is_no_order_is_a_dead_letter_with_its_reason(
    gateway: Gateway, body: bytes, problem: str
) -> None:
    gateway.send(body)
    good = gateway.send_order()
    gateway.simulation.drain()

    assert _outcomes(gateway) == [("dead", None, problem), ("done", "created", None)]
    assert _numbers(gateway) == [good["number"]]
    assert gateway.simulation.bodies()[0] == body


def test_an_unknown_topic_is_stored_and_ignored_with_its_reason(gateway: Gateway) -> None:
    gateway.send(b'{"id":1}', topic="product.updated")
    gateway.simulation.drain()

    assert gateway.delivery()["state"] == "ignored"
    assert "product.updated" in gateway.delivery()["problem_detail"]


@pytest.mark.parametrize(
    "change",
    [
        {"total": "12,50"}, {"total": None}, {"total": "NaN"}, {"total": "1e999"}, {"total": {"a": 1}},
        {"date_modified_gmt": "yesterday"}, {"date_created_gmt": None}, {"currency": ""}, {"line_items": "none"},
        {"line_items": [{"id": 1, "quantity": "many", "total": "1"}]}, {"billing": "here"}, {"refunds": [1]},
    ],
)  # fmt: skip
def test_amounts_and_dates_that_do_not_parse_fail_that_order_alone(gateway: Gateway, change: dict[str, Any]) -> None:
    before = gateway.send_order()
    gateway.send_order(**change)
    after = gateway.send_order()
    gateway.simulation.drain()

    assert _outcomes(gateway) == [("done", "created", None), ("dead", None, "payload.field"), ("done", "created", None)]
    assert _numbers(gateway) == [before["number"], after["number"]]
    detail = gateway.simulation.rows("SELECT problem_detail FROM deliveries ORDER BY id")[1]["problem_detail"]
    assert next(iter(change)) in detail or "quantity" in detail


_LINE = {"id": 1, "name": "Tea", "sku": "T", "product_id": 1, "subtotal": "1.00", "total": "1.00", "total_tax": "0"}


@pytest.mark.parametrize(
    "change",
    [
        {"id": "a\x00b"}, {"id": "a\ud800b"}, {"id": "x" * 20_000}, {"id": 10**4000},
        {"number": "\x00"}, {"number": "".join(map(str, range(4000)))}, {"currency": "\x00"}, {"status": "\ud800"},
        {"total": "1e-999999"}, {"total": "9" * 400 + "e-400"}, {"total": "0." + "1" * 5000},
        {"date_created_gmt": "0001-01-01T00:00:00+14:00"}, {"date_modified_gmt": "9999-12-31T23:59:59-14:00"},
        {"line_items": [{**_LINE, "quantity": 10**12}]}, {"line_items": [{**_LINE, "quantity": "1e999999999"}]},
        {"line_items": [{**_LINE, "quantity": "1e-30", "total": "900000000000000", "subtotal": "900000000000000"}]},
        {"line_items": [{**_LINE, "quantity": 10**4000}]}, {"line_items": [{**_LINE, "quantity": "sNaN"}]},
        {"line_items": [{**_LINE, "sku": " ".join(f"{n:x}" for n in range(200_000))}]},
        {"line_items": [{**_LINE, "quantity": 2_000_000_000}, {**_LINE, "id": 2, "quantity": 2_000_000_000}]},
        {"billing": {"first_name": " ".join(f"{n:x}" for n in range(200_000))}},
        {"billing": {"email": "x" * 100_000}}, {"customer_id": {"a": [1]}}, {"customer_id": 10**4000},
        {"meta_data": {"a": 1}}, {"line_items": [{**_LINE, "meta_data": [{"key": None, "display_key": {"a": 1}}]}]},
    ],
    ids=lambda change: str(change)[:60],
)  # fmt: skip
def test_no_order_however_strange_stops_its_neighbours(gateway: Gateway, change: dict[str, Any]) -> None:
    before = gateway.send_order()
    gateway.send_order(**change)
    after = gateway.send_order()

    gateway.simulation.drain()

    numbers = _numbers(gateway)
    assert {before["number"], after["number"]} <= set(numbers)
    state, outcome, problem = _outcomes(gateway)[1]
    if state != "done":
        assert (state, problem) in {("dead", "payload.field"), ("dead", "webhook.no_order_id")}, (
            state,
            outcome,
            problem,
        )


def test_a_5_mb_order_with_500_lines_works(gateway: Gateway) -> None:
    order = gateway.order()
    line = order["line_items"][0]
    order["line_items"] = [{**line, "id": n, "name": "x" * 10_000} for n in range(1, 501)]
    body = json.dumps(order).encode()
    assert len(body) > 5_000_000

    assert gateway.send(body) == 200
    gateway.simulation.drain()

    assert gateway.delivery()["outcome"] == "created"
    lines = gateway.simulation.scalar("SELECT json_array_length(core->'lines') FROM orders")
    assert lines == 500


@pytest.mark.parametrize(
    ("text_", "stored"),
    [
        ('"Zo\\u00eb \\ud83c\\udf3f"', "Zoë 🌿"),
        ('"\\u0645\\u0631\\u062d\\u0628\\u0627"', "مرحبا"),
        ('"a\\u0000b"', "a\ufffdb"),
        ('"a\\ud800b"', "a\ufffdb"),
        ('"\\udfff"', "\ufffd"),
    ],
)
def test_letters_of_all_kinds_survive_and_what_no_database_holds_is_marked(
    gateway: Gateway, text_: str, stored: str
) -> None:
    order = gateway.order(customer_note="HERE")
    body = json.dumps(order).replace('"HERE"', text_).encode()

    assert gateway.send(body) == 200
    gateway.simulation.drain()

    assert gateway.delivery()["outcome"] == "created"
    assert gateway.simulation.scalar("SELECT person->>'note' FROM orders") == stored
    assert gateway.simulation.payloads() == [body]


def test_replaying_changes_nothing_that_is_newer(gateway: Gateway) -> None:
    order = gateway.send_order(status="processing")
    gateway.simulation.drain()
    first = gateway.delivery()["id"]
    later = {**order, "status": "completed", "date_modified_gmt": "2026-09-02T00:00:00"}
    gateway.send(json.dumps(later).encode())
    gateway.simulation.drain()

    with gateway.simulation.database.transaction() as tx:
        assert inbox.replay(tx, gateway.simulation.scope, first)
    gateway.simulation.drain()

    row = gateway.simulation.rows("SELECT outcome FROM deliveries ORDER BY id")[0]
    assert row["outcome"] == "newer_here"
    assert gateway.simulation.scalar("SELECT core->>'status' FROM orders") == "completed"
    assert gateway.simulation.scalar("SELECT count(*) FROM changes") == 2


def test_another_accounts_delivery_can_not_be_replayed(gateway: Gateway) -> None:
    gateway.send_order()

    with gateway.simulation.database.transaction() as tx:
        assert not inbox.replay(tx, AccountScope(gateway.simulation.account_id + 1), gateway.delivery()["id"])


def test_parked_deliveries_are_applied_once_their_shop_is_known(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "HOUSEKEEPING_SECONDS", -1.0)
    shop = gateway.simulation.world.add_store("shopify")
    shop.place()
    gateway.simulation.deliver_all()
    gateway.simulation.drain()
    assert {state for state, _, _ in _outcomes(gateway)} == {"parked"}

    connection = gateway.simulation.connect(shop)
    gateway.simulation.drain()

    assert gateway.simulation.stored(connection) == gateway.simulation.truth(connection)


def test_what_comes_for_a_disconnected_store_waits_until_it_is_connected_again(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "HOUSEKEEPING_SECONDS", -1.0)
    shop = gateway.simulation.world.add_store("shopify")
    connection = gateway.simulation.connect(shop)
    states = "UPDATE connections SET state = :state WHERE id = :id RETURNING id"
    gateway.simulation.rows(states, state="disconnected", id=connection)
    shop.place()
    gateway.simulation.deliver_all()
    gateway.simulation.drain()
    assert {(state, problem) for state, _, problem in _outcomes(gateway)} == {("parked", "store.not_connected")}
    assert gateway.simulation.stored(connection) == {}

    gateway.simulation.rows(states, state="connected", id=connection)
    gateway.simulation.drain()

    assert gateway.simulation.stored(connection) == gateway.simulation.truth(connection)
    assert {problem for _, _, problem in _outcomes(gateway)} == {None}


def test_a_deletion_is_not_believed_but_read(gateway: Gateway) -> None:
    order = gateway.send_order()
    gateway.send(json.dumps({"id": order["id"]}).encode(), topic="order.deleted")
    gateway.simulation.drain()
    gateway.simulation.reread()

    assert gateway.simulation.scalar("SELECT removed_at FROM orders") is None
    gateway.store.change(order["id"], "trash", quiet=True)
    gateway.send(json.dumps({"id": order["id"]}).encode(), topic="order.deleted")
    gateway.simulation.pass_time(5)
    gateway.simulation.drain()
    gateway.simulation.reread()

    assert gateway.simulation.scalar("SELECT removed_at FROM orders") is not None
    assert gateway.simulation.scalar("SELECT kind FROM changes ORDER BY id DESC LIMIT 1") == "removed"


def test_an_uninstall_is_not_believed_but_asked_about(gateway: Gateway) -> None:
    shop = gateway.simulation.world.add_store("shopify")
    connection = gateway.simulation.connect(shop)
    gateway.simulation.pass_time(5)
    shop.uninstall()
    gateway.simulation.deliver_all()
    gateway.simulation.drain()

    assert gateway.simulation.scalar(
        "SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'connections.check'"
        " AND (args->>'connection_id')::int = :id", id=connection,
    ) == 1  # fmt: skip
    assert gateway.simulation.connection(connection).state == "connected"


# --- workers that die ------------------------------------------------------------------------------------------
class Died(BaseException):
    """Stands for SIGKILL: nothing of the process runs any more."""


def test_a_body_that_makes_the_worker_die_is_set_aside_and_the_line_goes_on(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = [gateway.send_order()["number"] for _ in range(7)]
    gateway.send(b'{"id":666}')
    good += [gateway.send_order()["number"] for _ in range(7)]
    sort = Drainer._sort

    def fatal(self: Drainer, tx: Any, row: Any, sealed: bytes, *rest: Any) -> None:
        if self._payloads.open(tx, sealed, place_of_delivery(row.received_at)) == b'{"id":666}':
            raise Died
        sort(self, tx, row, sealed, *rest)

    monkeypatch.setattr(Drainer, "_sort", fatal)
    monkeypatch.setattr(drain, "HOUSEKEEPING_SECONDS", -1.0)
    monkeypatch.setattr(inbox, "forget_batch", _forget_unless_dying)

    deaths = 0
    for _ in range(40):
        drainer = Drainer(gateway.simulation.database, gateway.simulation.access.payloads)
        try:
            while drainer.drain_once():
                pass
            break
        except Died:
            deaths += 1
        finally:
            drainer.close()

    assert sorted(_numbers(gateway)) == sorted(good)
    poison = gateway.simulation.rows("SELECT state, problem FROM deliveries WHERE body_bytes = 10")[0]
    assert poison == {"state": "dead", "problem": "delivery.stopped_the_worker"}
    assert deaths == len(inbox.SUSPECT_SIZES)


_forget = inbox.forget_batch


def _forget_unless_dying(tx: Any, batch: int) -> None:
    """A process that was killed forgets nothing: what it noted stays."""
    import sys

    if not isinstance(sys.exception(), Died):
        _forget(tx, batch)


_TOO_LONG_FOR_A_SEARCH = "SELECT to_tsvector('simple', string_agg(n::text, ' ')) FROM generate_series(1, 500000) n"


@pytest.mark.parametrize("failure", ["a statement", "a statement of the driver's", "a limit", "a mistake of ours"])
def test_whatever_one_order_makes_fail_is_halved_until_the_guilty_one_fails_alone(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    orders = [gateway.send_order() for _ in range(9)]
    guilty = str(orders[4]["id"])
    apply = drain.apply

    def strict(tx: Any, readings: Any, **options: Any) -> Any:
        if any(reading.external_id == guilty for reading in readings):
            if failure == "a mistake of ours":
                raise KeyError("line_items")
            if failure == "a statement":
                tx.execute(text("SELECT 1 / 0"))
            with cursor(tx) as driver:
                # 22P02 in the one case, 54000 in the other: the class of a connection that broke, to psycopg.
                driver.execute("SELECT 'x'::int" if "driver" in failure else "SELECT repeat('xy ', 900000)::tsvector")
                driver.execute(
                    "SELECT to_tsvector('simple', string_agg(n::text, ' ')) FROM generate_series(1, 500000) n"
                )
        return apply(tx, readings, **options)

    monkeypatch.setattr(drain, "apply", strict)
    gateway.simulation.drainer.drain_once()

    assert len(_numbers(gateway)) == 8
    row = gateway.simulation.rows(
        "SELECT state, attempts, problem, problem_detail FROM deliveries WHERE outcome IS NULL"
    )[0]
    assert "test_drain.py:" in row.pop("problem_detail")
    assert row == {"state": "waiting", "attempts": 1, "problem": "internal.unexpected"}


@pytest.mark.parametrize("failure", [OperationalError, errors.DeadlockDetected, errors.SerializationFailure])
def test_what_no_order_is_to_blame_for_is_done_again_with_the_whole_batch(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, failure: type[psycopg.Error]
) -> None:
    for _ in range(3):
        gateway.send_order()

    def unlucky(*_: Any, **__: Any) -> Any:
        raise failure("not this time")

    with monkeypatch.context() as patched:
        patched.setattr(drain, "apply", unlucky)
        with pytest.raises(failure):
            gateway.simulation.drainer.drain_once()
    gateway.simulation.drain()

    assert [(state, problem) for state, _, problem in _outcomes(gateway)] == [("done", None)] * 3
    assert gateway.simulation.scalar("SELECT max(attempts) FROM deliveries") == 0


def test_two_drainers_share_the_line_and_count_each_order_once(gateway: Gateway) -> None:
    for _ in range(30):
        gateway.send_order()
    access = gateway.simulation.access
    one, two = (Drainer(access.database, access.payloads) for _ in range(2))
    taken = 0
    while count := one.drain_once(size=7) + two.drain_once(size=7):
        taken += count
    one.close()
    two.close()

    assert taken == 30
    assert gateway.simulation.scalar("SELECT count(*) FROM changes WHERE kind = 'created'") == 30
