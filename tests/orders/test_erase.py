"""Erasure: a person goes for good, from every place, exactly that subject's, and nothing brings them back."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.connections import model, privacy
from gateway.connections.disconnect import take_off
from gateway.connections.privacy import Subject
from gateway.domain.problems import Retry
from gateway.domain.scope import AccountScope
from gateway.orders.erase import erase_orders
from gateway.orders.payloads import drop_key
from gateway.sandbox.stores import Store
from tests.orders.test_convergence import _live, _settle, steps
from tests.simulation import Simulation
from webhooks import apply as drain
from webhooks import inbox, retention

MARKED = ("Marktestperson", "Zebrafink")


def _places_that_name(simulation: Simulation, word: str) -> list[str]:
    """Every table with a column in which this word stands, bytes and JSON included: all of the database is searched,
    and what is sealed there is opened first."""
    opened = {"orders.raw": simulation.payloads("raw"), "orders.person_raw": simulation.payloads("person_raw")}
    found = ["delivery_bodies"] if any(word.lower().encode() in body.lower() for body in simulation.bodies()) else []
    columns = simulation.rows(
        "SELECT table_name, column_name, data_type FROM information_schema.columns c JOIN pg_class r"
        " ON r.relname = c.table_name AND r.relkind = 'r' WHERE c.table_schema = 'public'"
    )
    for column in columns:
        place = f"{column['table_name']}.{column['column_name']}"
        if place in opened:
            found += [place] if any(word.lower().encode() in each.lower() for each in opened[place]) else []
            continue
        name = f'"{column["column_name"]}"'
        text = f"encode({name}, 'escape')" if column["data_type"] == "bytea" else f"{name}::text"
        if simulation.scalar(f'SELECT count(*) FROM "{column["table_name"]}" WHERE {text} ILIKE :word',
                             word=f"%{word}%"):  # fmt: skip
            found.append(place)
    return found


def _erase(simulation: Simulation, connection: int, *ids: str) -> None:
    with simulation.database.transaction() as tx:
        erase_orders(tx, simulation.account_id, connection, ids, request_id=None)


@pytest.mark.parametrize("platform", ["shopify", "woocommerce", "etsy"])
def test_nothing_in_the_database_names_an_erased_person(simulation: Simulation, platform: str) -> None:
    store = simulation.world.add_store(platform)
    connection = simulation.connect(store)
    order = store.place(person=MARKED, email="zebrafink@example.com", note="for Zebrafink")
    other = store.place(person=("Someone", "Else"))
    simulation.deliver_all()
    simulation.drain()
    simulation.pass_time(5)
    simulation.reread()
    simulation.sync(connection)
    store.change(order.id, "address" if platform != "etsy" else "ship")
    simulation.deliver_all()
    simulation.drain()
    simulation.pass_time(130)
    simulation.reread()
    assert {"orders.person", "orders.raw"} <= set(_places_that_name(simulation, "Zebrafink"))
    assert "Zebrafink" in str(simulation.stored(connection)[str(order.id)])

    _erase(simulation, connection, str(order.id))

    assert _places_that_name(simulation, "Zebrafink") == []
    assert "Else" in str(simulation.stored(connection)[str(other.id)])
    assert simulation.stored(connection)[str(order.id)][0] == simulation.truth(connection)[str(order.id)][0]
    assert simulation.rows("SELECT kind FROM changes ORDER BY id DESC LIMIT 1") == [{"kind": "erased"}]


def test_neither_webhook_nor_sync_nor_replay_brings_them_back(simulation: Simulation) -> None:
    store = simulation.world.add_store("woocommerce")
    connection = simulation.connect(store)
    order = store.place(person=MARKED, paid=False)
    simulation.deliver_all()
    simulation.drain()
    waiting = [store.change(order.id, "note"), simulation.collect()][1]
    _erase(simulation, connection, str(order.id))

    simulation.deliver_all(waiting)  # on its way while it was erased
    simulation.drain()
    store.change(order.id, "pay")
    simulation.deliver_all()
    simulation.drain()
    simulation.pass_time(130)
    run = simulation.sync(connection)
    with simulation.database.transaction() as tx:
        for row in simulation.rows("SELECT id FROM deliveries"):
            assert not inbox.replay(tx, AccountScope(simulation.account_id), row["id"])
    simulation.drain()

    assert (run["created"], run["failed"], run["verdict"]) == (0, 0, "complete")
    assert _places_that_name(simulation, "Zebrafink") == []
    assert simulation.stored(connection)[str(order.id)][0] == simulation.truth(connection)[str(order.id)][0]
    again = simulation.sync(connection)
    assert (again["created"], again["updated"], again["unchanged"]) == (0, 0, 1)


def test_an_order_that_was_not_stored_yet_comes_masked(simulation: Simulation) -> None:
    store = simulation.world.add_store("woocommerce")
    connection = simulation.connect(store)
    order = store.place(person=MARKED, quiet=True)
    _erase(simulation, connection, str(order.id))
    assert simulation.stored(connection) == {}

    simulation.pass_time(130)

    run = simulation.sync(connection)

    assert run["created"] == 1, run
    assert simulation.stored(connection)[str(order.id)][0] == simulation.truth(connection)[str(order.id)][0]
    assert _places_that_name(simulation, "Zebrafink") == []


def test_erasing_again_finds_nothing_more_to_do(simulation: Simulation) -> None:
    store = simulation.world.add_store("shopify")
    connection = simulation.connect(store)
    order = store.place()
    simulation.deliver_all()
    simulation.drain()
    _erase(simulation, connection, str(order.id))
    before = simulation.rows("SELECT * FROM orders"), simulation.scalar("SELECT count(*) FROM changes")

    _erase(simulation, connection, str(order.id))

    assert (simulation.rows("SELECT * FROM orders"), simulation.scalar("SELECT count(*) FROM changes")) == before


@pytest.mark.parametrize("platform", ["shopify", "woocommerce", "etsy"])
@settings(max_examples=10)
@given(before=steps, after=steps, chosen=st.sets(st.integers(0, 3)), seed=st.integers(0, 2**32))
def test_any_history_with_erasures_ends_in_the_truth_without_the_erased(
    clean_database: str, platform: str, before: list[Any], after: list[Any], chosen: set[int], seed: int
) -> None:
    with Simulation(clean_database, seed=seed) as simulation:
        simulation.reset()
        store = simulation.world.add_store(platform)
        connection = simulation.connect(store)
        chance = random.Random(seed)
        _live(simulation, store, before, chance)
        ids = sorted(store.orders)
        erased = {str(ids[index % len(ids)]) for index in chosen} if ids else set()
        _erase(simulation, connection, *erased)
        _live(simulation, store, after, chance)
        _settle(simulation)
        simulation.sync(connection)
        simulation.reread()

        expected = {
            external_id: (core, None if external_id in erased else person)
            for external_id, (core, person) in simulation.truth(connection).items()
        }
        assert simulation.stored(connection) == expected
        kept = simulation.scalar(
            "SELECT count(*) FROM delivery_bodies b JOIN deliveries d ON d.id = b.delivery_id"
            " WHERE d.order_external_id = ANY(:ids) AND d.outcome <> 'reread'", ids=list(erased),
        )  # fmt: skip
        assert kept == 0


def _unreadable(order: Any) -> bytes:
    """The order's webhook with an amount that nobody can read."""
    return json.dumps({**order, "total_price": "12,50"}).encode()


def test_a_dead_letter_of_an_erased_order_goes_too_whenever_it_came(simulation: Simulation) -> None:
    store, connection = _shopify(simulation)
    order, other = store.place(person=MARKED), store.place(person=("Someone", "Else"))
    for request in simulation.collect():
        simulation.deliver(_with_body(store, request, _unreadable(json.loads(request.body))))
    simulation.drain()
    assert {row["order_external_id"] for row in simulation.rows("SELECT * FROM deliveries WHERE state = 'dead'")} == {
        str(order.id), str(other.id),
    }  # fmt: skip
    assert _places_that_name(simulation, "Zebrafink") == ["delivery_bodies"]

    _erase(simulation, connection, str(order.id))
    assert _places_that_name(simulation, "Zebrafink") == []
    assert _places_that_name(simulation, "Else") == ["delivery_bodies"]

    store.change(order.id, "note")
    for request in simulation.collect():
        simulation.deliver(_with_body(store, request, _unreadable(json.loads(request.body))))
    simulation.drain()
    assert _places_that_name(simulation, "Zebrafink") == []


def _with_body(store: Any, request: Any, body: bytes) -> Any:
    digest = hmac.new(store.world.shopify_app.client_secret.encode(), body, hashlib.sha256).digest()
    signature = base64.b64encode(digest).decode()
    headers = [(k, signature if "hmac" in k.lower() else v) for k, v in request.headers]
    return dataclasses.replace(request, body=body, headers=headers)


# --- requests --------------------------------------------------------------------------------------------------
def _shopify(simulation: Simulation) -> tuple[Store, int]:
    store = simulation.world.add_store("shopify")
    return store, simulation.connect(store)


def _notify(simulation: Simulation, store: Any, topic: str, **body: Any) -> None:
    store.notify(topic, {"shop_id": store.shop_id, "shop_domain": store.key, **body})
    simulation.deliver_all()
    simulation.drain()


def test_shopifys_redact_erases_exactly_the_customers_orders_and_records_it(
    simulation: Simulation, tmp_path: Path
) -> None:
    store, connection = _shopify(simulation)
    theirs = store.place(person=MARKED, email="zebrafink@example.com")
    like_it = store.place(person=("Marktestpersonette", "Zebrafinkel"), email="azebrafink@example.com")
    simulation.deliver_all()
    simulation.drain()

    _notify(simulation, store, "customers/redact",
            customer={"id": theirs.customer_id, "email": theirs.email}, orders_to_redact=[])  # fmt: skip
    privacy.fulfil_all(simulation.access, tmp_path / "ledger", connection)

    stored = simulation.stored(connection)
    assert stored[str(theirs.id)][1] is None
    assert "Zebrafinkel" in stored[str(like_it.id)][1]
    (request,) = simulation.rows("SELECT * FROM privacy_requests")
    assert (request["state"], request["orders_count"], request["email"], request["customer_id"]) == (
        "done", 1, None, None,
    )  # fmt: skip
    assert request["order_ids"] == [str(theirs.id)]
    assert request["due_at"] - request["received_at"] == timedelta(days=30)
    assert _places_that_name(simulation, " zebrafink@") == []
    assert "zebrafink" not in (tmp_path / "ledger").read_text().lower()


def test_an_order_that_they_place_later_is_kept(simulation: Simulation) -> None:
    store, connection = _shopify(simulation)
    early = store.place(person=MARKED, email="zebrafink@example.com")
    simulation.deliver_all()
    simulation.drain()
    simulation.pass_time(10)
    _notify(simulation, store, "customers/redact", customer={"id": None, "email": "Zebrafink@example.com"},
            orders_to_redact=[early.id])  # fmt: skip
    simulation.pass_time(10)
    later = store.place(person=MARKED, email="zebrafink@example.com")
    simulation.deliver_all()
    simulation.drain()

    privacy.fulfil_all(simulation.access, None, connection)

    assert simulation.stored(connection)[str(early.id)][1] is None
    assert "Zebrafink" in simulation.stored(connection)[str(later.id)][1]


def test_a_request_for_ones_data_makes_an_export_that_a_later_erasure_takes_along(simulation: Simulation) -> None:
    store, connection = _shopify(simulation)
    order = store.place(person=MARKED, email="zebrafink@example.com")
    simulation.deliver_all()
    simulation.drain()
    scope = AccountScope(simulation.account_id)
    simulation.rows("INSERT INTO users (account_id, email, name, password_hash, role) VALUES"
                    " (:a, 'olga@example.com', '', '', 'owner') RETURNING id", a=simulation.account_id)  # fmt: skip
    _notify(simulation, store, "customers/data_request", customer={"email": "zebrafink@example.com"},
            orders_requested=[order.id], data_request={"id": 9999})  # fmt: skip
    privacy.fulfil_all(simulation.access, None, connection)

    with simulation.database.transaction() as tx:
        request = privacy.list_requests(tx, scope)[0]
        content = json.loads(privacy.export_of(tx, simulation.access, scope, request["id"]) or "")
        assert privacy.export_of(tx, simulation.access, AccountScope(scope.account_id + 1), request["id"]) is None
    (found,) = content["orders"]
    assert found["person"]["email"] == "zebrafink@example.com"
    assert found["received"][0]["contact_email"] == "zebrafink@example.com"
    assert [set(entry) for entry in found["history"]] == [{"at", "changed"}]
    (mail,) = simulation.rows("SELECT to_address, subject FROM mails")
    assert mail["to_address"] == "olga@example.com"
    assert mail["subject"].endswith(": a customer asks for their data")

    _notify(simulation, store, "customers/redact", customer={"email": "zebrafink@example.com"},
            orders_to_redact=[order.id])  # fmt: skip
    privacy.fulfil_all(simulation.access, None, connection)

    with simulation.database.transaction() as tx:
        assert privacy.export_of(tx, simulation.access, scope, request["id"]) is None
    assert _places_that_name(simulation, "zebrafink") == []


def test_a_request_that_comes_twice_is_one_and_another_shops_is_none(simulation: Simulation) -> None:
    store, _ = _shopify(simulation)
    store.notify("customers/redact", {"shop_id": 1, "shop_domain": store.key, "orders_to_redact": [5]})
    requests = simulation.collect()
    simulation.deliver_all([*requests, *requests])
    simulation.drain()
    _notify(simulation, store, "customers/redact", shop_domain="other.myshopify.com", orders_to_redact=[6])

    rows = simulation.rows("SELECT order_ids FROM privacy_requests")
    assert rows == [{"order_ids": ["5"]}]


def test_a_shop_is_erased_once_it_lets_us_in_no_more(simulation: Simulation) -> None:
    store, connection = _shopify(simulation)
    store.place(person=MARKED)
    store.place(person=MARKED)
    simulation.deliver_all()
    simulation.drain()
    _notify(simulation, store, "shop/redact")
    privacy.fulfil_all(simulation.access, None, connection)
    (request,) = simulation.rows("SELECT state, problem FROM privacy_requests")
    assert request == {"state": "refused", "problem": "privacy.store_still_connected"}

    assert hasattr(store, "uninstall")
    store.uninstall()
    simulation.collect()
    _notify(simulation, store, "shop/redact")
    privacy.fulfil_all(simulation.access, None, connection)

    assert _places_that_name(simulation, "Zebrafink") == []
    (row,) = simulation.rows("SELECT state, credentials FROM connections")
    assert row["state"] == "disconnected"
    assert simulation.access.vault.open_mapping(bytes(row["credentials"])) == {}
    assert simulation.scalar("SELECT count(*) FROM orders WHERE core IS NOT NULL") == 2  # the account's own records


def test_what_comes_late_for_an_erased_shop_is_not_applied(simulation: Simulation) -> None:
    store, connection = _shopify(simulation)
    run = simulation.ask(connection)
    store.place(person=MARKED)
    late = simulation.collect()
    with simulation.database.transaction() as tx:
        privacy.open_by_hand(tx, simulation.connection(connection), "shop_redact", Subject(), user_id=None)
    privacy.fulfil_all(simulation.access, None, connection)

    simulation.deliver_all(late)
    simulation.drain()

    assert simulation.stored(connection) == {}
    assert {row["state"] for row in simulation.rows("SELECT state FROM deliveries")} == {"parked"}
    assert simulation.run(run.run_id)["state"] == "stopped"


def test_a_shop_that_is_taken_off_while_its_webhooks_are_applied_gets_none_of_them(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, connection = _shopify(simulation)
    store.place(person=MARKED)
    simulation.deliver_all()
    off: list[int] = []

    def take_off_first(*given: Any, **options: Any) -> Any:
        if not off:
            off.append(connection)
            with simulation.database.transaction() as tx:
                take_off(tx, simulation.access, simulation.connection(connection))
                drop_key(tx, connection)
        return write(*given, **options)

    write = drain.apply
    monkeypatch.setattr(drain, "apply", take_off_first)
    simulation.drain()

    assert off
    assert simulation.stored(connection) == {}
    assert {row["state"] for row in simulation.rows("SELECT state FROM deliveries")} <= {"parked", "dead"}
    with simulation.database.transaction() as tx:
        privacy.open_by_hand(tx, simulation.connection(connection), "shop_redact", Subject(), user_id=None)
    privacy.fulfil_all(simulation.access, None, connection)
    assert _places_that_name(simulation, "Zebrafink") == []


def test_exports_go_after_two_months(simulation: Simulation) -> None:
    store, connection = _shopify(simulation)
    order = store.place(person=MARKED)
    simulation.deliver_all()
    simulation.drain()
    _notify(simulation, store, "customers/data_request", orders_requested=[order.id], customer={"id": 1})
    privacy.fulfil_all(simulation.access, None, connection)
    context: Any = type("Context", (), {"additional_context": {"access": simulation.access, "ledger": None}})()

    privacy.follow_up(context, 0)
    assert simulation.scalar("SELECT export IS NOT NULL FROM privacy_requests") is True
    simulation.rows("UPDATE privacy_requests SET done_at = now() - interval '61 days' RETURNING id")
    privacy.follow_up(context, 0)
    assert simulation.scalar("SELECT export IS NULL FROM privacy_requests") is True


def test_a_store_that_can_not_be_asked_keeps_the_request_waiting_with_its_reason(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, connection = _shopify(simulation)
    _notify(simulation, store, "shop/redact")
    store.faults.set({"5xx": 50})

    with pytest.raises(Retry):
        privacy.fulfil_all(simulation.access, None, connection)

    (request,) = simulation.rows("SELECT state, problem FROM privacy_requests")
    assert request == {"state": "waiting", "problem": "store.error"}


def test_a_restored_backup_learns_of_its_erasures_from_the_ledger(simulation: Simulation, tmp_path: Path) -> None:
    store, connection = _shopify(simulation)
    order = store.place(person=MARKED)
    simulation.deliver_all()
    simulation.drain()
    with simulation.database.transaction() as tx:
        held = model.get(tx, connection)
        assert held is not None
        privacy.open_by_hand(tx, held, "redact", Subject((str(order.id),)), user_id=None)
    ledger = tmp_path / "erasures.jsonl"
    privacy.fulfil_all(simulation.access, ledger, connection)
    assert ledger.stat().st_mode & 0o777 == 0o600
    ledger.write_text('{"key": "cut o' + ledger.read_text())  # a crash in the middle of the line before
    # A backup of before: the request is unknown to it, and the order is whole again.
    simulation.rows("DELETE FROM privacy_requests RETURNING id")
    simulation.rows("DELETE FROM changes RETURNING id")
    simulation.rows("DELETE FROM orders RETURNING id")
    simulation.pass_time(130)
    simulation.sync(connection)
    assert "Zebrafink" in simulation.stored(connection)[str(order.id)][1]

    assert privacy.again(simulation.access, ledger) == 1
    assert privacy.again(simulation.access, ledger) == 0
    privacy.fulfil_all(simulation.access, ledger, connection)

    assert simulation.stored(connection)[str(order.id)][1] is None


def test_a_request_that_a_job_gave_up_is_taken_up_again_within_the_hour(simulation: Simulation) -> None:
    store, connection = _shopify(simulation)
    _notify(simulation, store, "customers/redact", orders_to_redact=[5])
    simulation.rows("DELETE FROM procrastinate_jobs RETURNING id")
    context: Any = type("Context", (), {"additional_context": {"access": simulation.access, "ledger": None}})()

    privacy.follow_up(context, 0)

    assert simulation.rows("SELECT task_name, args FROM procrastinate_jobs") == [
        {"task_name": "privacy.work", "args": {"connection_id": connection}}
    ]


def test_bodies_that_nobody_could_use_live_14_days(simulation: Simulation) -> None:
    store, _ = _shopify(simulation)
    store.place(person=MARKED)
    simulation.deliver_all()
    simulation.rows("UPDATE deliveries SET state = 'dead', order_external_id = NULL RETURNING id")
    store.notify("customers/update", {"id": 7, "last_name": "Zebrafink"})  # of a topic that we have no use for
    simulation.deliver_all()
    simulation.drain()
    context: Any = type("Context", (), {"additional_context": {"access": simulation.access}})()

    retention.forget_unused(context, 0)
    assert simulation.scalar("SELECT count(*) FROM delivery_bodies") > 0
    simulation.pass_time(14 * 86_400 - 3_540)  # it runs each hour: none is older than 14 days after it
    retention.forget_unused(context, 0)

    assert simulation.scalar("SELECT count(*) FROM delivery_bodies") == 0
    assert simulation.rows("SELECT DISTINCT state, outcome FROM deliveries") == [
        {"state": "ignored", "outcome": "erased"}
    ]
