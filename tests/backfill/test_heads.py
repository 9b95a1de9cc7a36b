"""Heads first: what a run asks for, what it leaves alone, and that it misses nothing by it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import text

from backfill import runner, runs, schedule, slices, writing
from gateway.domain.problems import Refused
from gateway.sandbox.shopify_cost import Bucket
from gateway.sandbox.stores import Store
from tests.simulation import BEGINNING, Simulation

WITH_HEADS = ("shopify", "woocommerce")


@pytest.fixture(params=WITH_HEADS)
def store(request: pytest.FixtureRequest, simulation: Simulation) -> Store:
    return simulation.world.add_store(request.param)


@pytest.fixture
def no_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "SAMPLED", 0.0)


def _fill(simulation: Simulation, store: Store, count: int) -> list[Any]:
    orders = []
    for _ in range(count):
        orders.append(store.place(quiet=True, lines=1))
        simulation.pass_time(1)
    simulation.pass_time(100)
    return orders


def _asked(simulation: Simulation, work: Any) -> tuple[int, float]:
    calls, cost = simulation.calls, simulation.cost
    work()
    return simulation.calls - calls, simulation.cost - cost


@pytest.mark.usefixtures("no_samples")
def test_an_unchanged_window_costs_its_heads_and_no_order(simulation: Simulation, store: Store) -> None:
    connection = simulation.connect(store)
    _fill(simulation, store, 500)
    first = _asked(simulation, lambda: simulation.sync(connection))

    second = _asked(simulation, lambda: simulation.sync(connection))

    run = simulation.run(2)
    assert (run["listed"], run["unchanged"], run["verdict"]) == (500, 500, "complete")
    if store.platform == "shopify":
        assert second[1] < 0.01 * first[1]
    else:
        assert second[0] <= 5 + 6  # the pages of heads; the shop twice, the counts and the tail are the rest


def test_at_ten_thousand_unchanged_orders_a_run_costs_one_in_a_hundred() -> None:
    """By the sheet's model of costs, the sample of one in a hundred and all: DESIGN's budget."""
    from math import log

    def listed(first: int, child: int) -> int:
        return 2 + round(2 * log(first)) * child

    whole = 10_000 / 50 * 738  # the sheet's figure for 50 orders of 10 lines
    heads = 10_000 / 250 * listed(250, 1)
    assert heads + 830 <= 0.01 * whole  # 830: its figure for 100 orders of 10 lines


@pytest.mark.usefixtures("no_samples")
def test_only_what_differs_is_fetched(simulation: Simulation, store: Store) -> None:
    connection = simulation.connect(store)
    orders = _fill(simulation, store, 60)
    simulation.sync(connection)
    store.change(orders[3].id, "note", quiet=True)
    store.change(orders[40].id, "note", quiet=True)
    store.place(quiet=True)
    simulation.pass_time(100)

    run = simulation.sync(connection)

    assert (run["created"], run["updated"], run["unchanged"], run["verdict"]) == (1, 2, 58, "complete")
    assert simulation.stored(connection) == simulation.truth(connection)


@pytest.mark.usefixtures("no_samples")
def test_where_much_differs_its_stretch_is_read_whole(simulation: Simulation, store: Store) -> None:
    connection = simulation.connect(store)
    orders = _fill(simulation, store, 60)
    simulation.sync(connection)
    for order in orders[10:40]:
        store.change(order.id, "note", quiet=True)
    simulation.pass_time(100)

    run = simulation.sync(connection)

    assert (run["updated"], run["unchanged"], run["verdict"]) == (30, 30, "complete")
    assert simulation.stored(connection) == simulation.truth(connection)


@pytest.mark.usefixtures("no_samples")
def test_what_webhooks_brought_is_settled_by_a_sync_order_and_believed_by_a_catch_up(
    simulation: Simulation, store: Store
) -> None:
    connection = simulation.connect(store)
    for _ in range(5):
        store.place()
    simulation.deliver_all()
    simulation.drain()
    simulation.pass_time(200)

    schedule.catch_up_all(simulation.access)
    simulation.work(connection)
    caught = simulation.run(1)
    assert (caught["unchanged"], caught["missed"]) == (5, 0)
    settled = "SELECT count(*) FROM orders WHERE core_settled AND person_settled"
    if store.platform == "shopify":
        assert simulation.scalar(settled) == 0
    simulation.sync(connection)

    assert simulation.run(2)["unchanged"] == 5
    assert simulation.scalar(settled) == 5


@pytest.mark.usefixtures("no_samples")
def test_a_catch_up_does_not_believe_an_unsettled_order_whose_marks_differ(simulation: Simulation) -> None:
    """Two changes within one second, and the webhook of the second one was lost."""
    store = simulation.world.add_store("shopify")
    connection = simulation.connect(store)
    order = store.place()
    simulation.deliver_all()
    simulation.drain()
    store.change(order.id, "cancel", quiet=True)
    simulation.pass_time(200)
    moved = simulation.rows("SELECT core_updated_at FROM orders")[0]["core_updated_at"]
    assert moved == BEGINNING

    schedule.catch_up_all(simulation.access)
    simulation.work(connection)

    assert simulation.stored(connection) == simulation.truth(connection)


def test_a_tombstoned_order_that_is_listed_is_read_again(simulation: Simulation) -> None:
    store = simulation.world.add_store("woocommerce")
    connection = simulation.connect(store)
    orders = _fill(simulation, store, 4)
    simulation.sync(connection)
    store.change(orders[0].id, "trash", quiet=True)
    simulation.pass_time(100)
    simulation.sync(connection)
    store.change(orders[0].id, "restore", quiet=True)
    simulation.pass_time(100)

    simulation.sync(connection)

    assert simulation.stored(connection) == simulation.truth(connection)


def test_a_deep_run_reads_every_order_and_finds_what_moved_no_date(simulation: Simulation, store: Store) -> None:
    connection = simulation.connect(store)
    _fill(simulation, store, 40)
    simulation.sync(connection)
    with simulation.database.transaction() as tx:
        tx.execute(text("UPDATE orders SET core_digest = '\\x00' WHERE id = (SELECT min(id) FROM orders)"))

    deep = simulation.sync(connection, deep=True)

    assert (deep["deep"], deep["updated"], deep["unchanged"]) == (True, 1, 39)


def test_a_sample_of_equal_orders_is_read_all_the_same_and_drift_is_told(
    simulation: Simulation, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "SAMPLED", 1.0)
    connection = simulation.connect(store)
    _fill(simulation, store, 30)
    simulation.sync(connection)
    with simulation.database.transaction() as tx:
        tx.execute(text("UPDATE orders SET core_digest = '\\x00'"))

    run = simulation.sync(connection)

    assert run["sampled"] > 0
    assert run["drifted"] == run["updated"] == run["sampled"]
    assert run["unchanged"] == 30 - run["sampled"]


@pytest.mark.parametrize("platform", ["shopify", "woocommerce", "etsy"])
def test_a_preview_tells_and_writes_nothing(simulation: Simulation, platform: str) -> None:
    store = simulation.world.add_store(platform)
    connection = simulation.connect(store)
    orders = _fill(simulation, store, 10)
    simulation.sync(connection)
    before = simulation.stored(connection), simulation.connection(connection).watermark
    store.change(orders[0].id, "ship", quiet=True)
    for _ in range(3):
        store.place(quiet=True)
    simulation.pass_time(100)

    preview = simulation.sync(connection, preview=True)

    assert (preview["created"], preview["updated"], preview["unchanged"]) == (3, 1, 9)
    assert runs.result_line(preview) is None
    assert (simulation.stored(connection), simulation.connection(connection).watermark) == before
    run = simulation.sync(connection)
    assert (run["created"], run["updated"], run["unchanged"]) == (3, 1, 9)


# --- slices ----------------------------------------------------------------------------------------------------
def test_a_window_of_too_many_orders_is_cut_by_time_and_proven_slice_by_slice(
    simulation: Simulation, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "MOST", 20)
    connection = simulation.connect(store)
    orders = _fill(simulation, store, 70)

    first, second = simulation.sync(connection), simulation.sync(connection)

    assert len(first["checkpoint"]["slices"]) > 4
    assert (first["created"], first["expected"], first["verdict"]) == (70, 70, "complete")
    assert (second["unchanged"], second["expected"], second["verdict"]) == (70, 70, "complete")
    store.change(orders[5].id, "note", quiet=True)
    simulation.pass_time(100)
    assert simulation.sync(connection)["updated"] == 1


def test_orders_of_one_second_are_not_cut_for_ever(
    simulation: Simulation, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "MOST", 20)
    connection = simulation.connect(store)
    for _ in range(50):
        store.place(quiet=True, lines=1)
    simulation.pass_time(100)

    run = simulation.sync(connection)

    assert (run["created"], run["verdict"]) == (50, "complete")


# --- retry, stop, resume ---------------------------------------------------------------------------------------
@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Orders whose payload can't be read as long as they stand in this set."""
    ids: set[str] = set()
    read = writing.read_order

    def strict(platform: Any, payload: Any, raw: bytes, **options: Any) -> Any:
        from gateway.domain.problems import PAYLOAD_FIELD

        reading = read(platform, payload, raw, **options)
        if reading.external_id in ids:
            raise Refused(PAYLOAD_FIELD, "total: broken")
        return reading

    monkeypatch.setattr(writing, "read_order", strict)
    return ids


@pytest.mark.parametrize("platform", ["shopify", "woocommerce", "etsy"])
def test_only_the_failed_ones_are_tried_again_by_a_run_of_their_own(
    simulation: Simulation, platform: str, broken: set[str]
) -> None:
    store = simulation.world.add_store(platform)
    connection = simulation.connect(store)
    orders = _fill(simulation, store, 8)
    broken |= {str(orders[2].id), str(orders[5].id)}
    parent = simulation.sync(connection)
    assert (parent["created"], parent["failed"], parent["verdict"]) == (6, 2, "complete")
    broken.discard(str(orders[2].id))

    with simulation.database.transaction() as tx:
        opened = runs.retry_failed(tx, simulation.scope, parent["id"])
        again = runs.retry_failed(tx, simulation.scope, parent["id"])
    simulation.work(connection)

    child = simulation.run(opened.run_id)
    assert (again.run_id, again.already_running) == (opened.run_id, True)
    assert (child["kind"], child["parent_id"], child["state"]) == ("retry", parent["id"], "finished")
    assert (child["listed"], child["created"], child["failed"]) == (2, 1, 1)
    assert "Total additions 1, To update 0, fail 1" in (runs.result_line(child) or "")
    now = simulation.run(parent["id"])
    assert {**now, "waits_for": None} == {**parent, "waits_for": None}


def test_nothing_failed_is_nothing_to_try_again(simulation: Simulation, store: Store) -> None:
    run = simulation.sync(simulation.connect(store))
    with simulation.database.transaction() as tx:
        with pytest.raises(Refused, match="nothing_failed"):
            runs.retry_failed(tx, simulation.scope, run["id"])
        with pytest.raises(Refused, match="not_found"):
            runs.retry_failed(tx, simulation.scope, run["id"] + 1)


def test_a_stopped_run_writes_nothing_more_and_goes_on_where_it_stopped(
    simulation: Simulation, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = simulation.connect(store)
    _fill(simulation, store, 230)
    opened = simulation.ask(connection)
    write = runner.Runner._write
    pages = 0

    def stopped_after_a_page(self: runner.Runner, *arguments: Any, **options: Any) -> None:
        nonlocal pages
        pages += 1
        if pages == 2:
            with simulation.database.transaction() as tx:
                assert runs.stop(tx, simulation.scope, opened.run_id)
                assert not runs.stop(tx, simulation.scope, opened.run_id)
        write(self, *arguments, **options)

    monkeypatch.setattr(runner.Runner, "_write", stopped_after_a_page)
    simulation.work(connection)
    stopped = simulation.run(opened.run_id)
    assert (stopped["state"], stopped["problem"]) == ("stopped", "sync.stopped")
    assert 0 < stopped["created"] < 230
    assert simulation.scalar("SELECT count(*) FROM orders") == stopped["created"]

    with simulation.database.transaction() as tx:
        assert runs.resume(tx, simulation.scope, opened.run_id)
        assert not runs.resume(tx, simulation.scope, opened.run_id)
    simulation.work(connection)

    run = simulation.run(opened.run_id)
    assert (run["state"], run["created"], run["verdict"]) == ("finished", 230, "complete")
    assert simulation.scalar("SELECT count(*) FROM changes") == 230


def test_a_run_that_a_dead_token_stopped_goes_on_after_reconnecting(simulation: Simulation, store: Store) -> None:
    connection = simulation.connect(store)
    _fill(simulation, store, 5)
    right = simulation.connection(connection).credentials
    wrong = {k: "wrong" for k in simulation.access.vault.open_mapping(right) if k != "expires_at"}
    with simulation.database.transaction() as tx:
        tx.execute(text("UPDATE connections SET credentials = :c"), {"c": simulation.access.vault.close(wrong)})
    run = simulation.sync(connection)
    assert run["state"] == "stopped"
    with simulation.database.transaction() as tx:
        assert runs.resume_mended(tx) == 0

    simulation.pass_time(60)
    with simulation.database.transaction() as tx:
        tx.execute(
            text("UPDATE connections SET credentials = :c, state = 'connected', state_since = now()"), {"c": right}
        )
    with simulation.database.transaction() as tx:
        assert runs.resume_mended(tx) == 1
    simulation.work(connection)

    assert (simulation.run(run["id"])["state"], simulation.run(run["id"])["created"]) == ("finished", 5)


def test_a_stopped_run_of_a_merchants_own_will_does_not_begin_again_by_itself(
    simulation: Simulation, store: Store
) -> None:
    connection = simulation.connect(store)
    opened = simulation.ask(connection)
    with simulation.database.transaction() as tx:
        runs.stop(tx, simulation.scope, opened.run_id)
        assert runs.resume_mended(tx) == 0


# --- all stores, quiet -----------------------------------------------------------------------------------------
def test_all_stores_get_one_run_each(simulation: Simulation) -> None:
    connections = [simulation.connect(simulation.world.add_store(platform)) for platform in WITH_HEADS]
    with simulation.database.transaction() as tx:
        opened = runs.open_for_all(tx, simulation.scope, 7)
        again = runs.open_for_all(tx, simulation.scope, 7)

    assert len({each.run_id for each in opened}) == len(connections)
    assert [each.run_id for each in again] == [each.run_id for each in opened]
    assert all(each.already_running for each in again)


def test_a_first_import_is_quiet_and_what_comes_later_is_announced(simulation: Simulation, store: Store) -> None:
    connection = simulation.connect(store)
    _fill(simulation, store, 3)
    first = simulation.sync(connection)
    _fill(simulation, store, 2)
    second = simulation.sync(connection)
    _fill(simulation, store, 1)
    third = simulation.sync(connection, quiet=True)

    assert [run["quiet"] for run in (first, second, third)] == [True, False, True]
    rows = simulation.rows("SELECT quiet, count(*) AS n FROM changes GROUP BY quiet ORDER BY quiet")
    assert [(row["quiet"], row["n"]) for row in rows] == [(False, 2), (True, 4)]


def test_what_no_webhook_brought_is_counted_by_day(simulation: Simulation, store: Store) -> None:
    connection = simulation.connect(store)
    simulation.pass_time(100)
    _fill(simulation, store, 3)
    simulation.sync(connection)
    simulation.sync(connection)

    rows = simulation.rows("SELECT connection_id, missed FROM misses")
    assert [(row["connection_id"], row["missed"]) for row in rows] == [(connection, 3)]


def test_a_window_is_cut_into_halves_that_share_no_second(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = simulation.world.add_store("woocommerce")
    connection = simulation.connection(simulation.connect(store))
    _fill(simulation, store, 33)
    monkeypatch.setattr(slices, "MOST", 4)
    simulation.ask(connection.id)
    with simulation.database.transaction() as tx:
        taken = runs.take(tx, connection.id, now=simulation.now())
    assert taken is not None
    window = taken.window

    parts = slices.cut(simulation.database, simulation.access.store(connection), connection, window, taken)

    assert parts[0].window.from_ == window.from_
    assert parts[-1].window.until == window.until
    assert all(one.window.until == two.window.from_ for one, two in pairwise(parts))
    assert sum(part.expected or 0 for part in parts) == 33
    assert all((part.expected or 0) <= 4 for part in parts)


# --- budgets ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("changed", [30, 90], ids=["by id", "by their stretch"])
@pytest.mark.usefixtures("no_samples")
def test_a_budget_smaller_than_a_pages_orders_is_waited_for_and_never_given_up(
    simulation: Simulation, changed: int
) -> None:
    """Shopify's bucket is refilled while the run waits, but never holds what a whole page of heads asks for."""
    store = simulation.world.add_store("shopify")
    connection = simulation.connect(store)
    orders = _fill(simulation, store, 250)
    simulation.sync(connection)
    for order in orders[:: 250 // changed]:
        store.change(order.id, "note", quiet=True)
    simulation.pass_time(300)
    store.bucket = Bucket(maximum=1_000.0)

    run = simulation.sync(connection)

    assert (run["state"], run["verdict"], run["failed"]) == ("finished", "complete", 0)
    assert run["updated"] == len(orders[:: 250 // changed])
    assert run["listed"] == 250
    assert simulation.stored(connection) == simulation.truth(connection)
