"""What begins without anyone asking: by which clock, in which order, and within which budget."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from backfill import catch_up, runs, schedule
from backfill.catch_up import Polled
from gateway.sandbox.stores import Store
from tests.simulation import BEGINNING, Simulation

PLATFORMS = ("shopify", "woocommerce", "etsy")


@pytest.fixture(params=PLATFORMS)
def store(request: pytest.FixtureRequest, simulation: Simulation) -> Store:
    return simulation.world.add_store(request.param)


def _nightly(simulation: Simulation) -> tuple[int, int]:
    opened = schedule.open_nightly(simulation.access, simulation.now())
    for connection in simulation.stores:
        simulation.work(connection)
    return opened


def _runs(simulation: Simulation, kind: str) -> list[dict[str, Any]]:
    return simulation.rows("SELECT * FROM sync_runs WHERE kind = :kind ORDER BY id", kind=kind)


def _aged(simulation: Simulation, **interval: float) -> None:
    """Let all runs be so much older; their times are PostgreSQL's, which no test can move."""
    with simulation.database.transaction() as tx:
        tx.execute(text("UPDATE sync_runs SET created_at = :at"), {"at": simulation.now() - timedelta(**interval)})


# --- nightly ---------------------------------------------------------------------------------------------------
def test_every_night_what_no_read_has_settled_is_read(simulation: Simulation) -> None:
    store = simulation.world.add_store("shopify")
    connection = simulation.connect(store)
    assert _nightly(simulation) == (0, 1)
    for _ in range(120):
        store.place(lines=1)
    simulation.deliver_all()
    simulation.drain()
    simulation.pass_time(200)
    assert simulation.scalar("SELECT count(*) FROM orders WHERE core_settled OR person_settled") == 0

    assert _nightly(simulation) == (1, 0)

    (settled,) = _runs(simulation, "settle")
    assert (settled["state"], settled["verdict"], settled["listed"], settled["unchanged"]) == (
        "finished", "complete", 120, 120
    )  # fmt: skip
    assert simulation.scalar("SELECT count(*) FROM orders WHERE core_settled AND person_settled") == 120
    assert simulation.stored(connection) == simulation.truth(connection)


def test_a_change_within_one_second_whose_webhook_was_lost_is_found_at_night(simulation: Simulation) -> None:
    store = simulation.world.add_store("shopify")
    connection = simulation.connect(store)
    order = store.place()
    simulation.deliver_all()
    simulation.drain()
    store.change(order.id, "note", quiet=True)
    assert store.truth()[0]["updated_at"] == BEGINNING.isoformat()
    simulation.pass_time(200)

    _nightly(simulation)

    assert _runs(simulation, "settle")[0]["updated"] == 1
    assert simulation.stored(connection) == simulation.truth(connection)


def test_what_can_not_be_settled_is_not_read_every_night(simulation: Simulation) -> None:
    """A person who may not be read any more, and an order behind Shopify's wall."""
    store = simulation.world.add_store("shopify")
    simulation.connect(store)
    store.place()
    simulation.deliver_all()
    simulation.drain()
    simulation.pass_time(86_400 * 61)

    assert schedule.open_nightly(simulation.access, simulation.now())[0] == 0


def test_a_night_without_anything_unsettled_settles_nothing(simulation: Simulation, store: Store) -> None:
    connection = simulation.connect(store)
    store.place(quiet=True)
    simulation.pass_time(200)
    simulation.sync(connection)

    assert schedule.open_nightly(simulation.access, simulation.now())[0] == 0


# --- deep ------------------------------------------------------------------------------------------------------
def test_deep_runs_come_daily_for_etsy_and_weekly_elsewhere(simulation: Simulation, store: Store) -> None:
    simulation.connect(store)
    assert schedule.open_nightly(simulation.access, simulation.now())[1] == 1
    simulation.work(next(iter(simulation.stores)))

    counts = []
    for days in (0.5, 1, 6, 7):
        _aged(simulation, days=days)
        counts.append(schedule.open_nightly(simulation.access, simulation.now())[1])
        simulation.work(next(iter(simulation.stores)))

    assert counts == ([0, 1, 1, 1] if store.platform == "etsy" else [0, 0, 0, 1])


def test_an_etsy_refund_that_moved_no_time_is_found_within_a_day(simulation: Simulation) -> None:
    store = simulation.world.add_store("etsy", refund_moves_time=False)
    connection = simulation.connect(store)
    order = store.place()
    simulation.deliver_all()
    simulation.drain()
    simulation.reread()
    simulation.pass_time(86_400)
    simulation.sync(connection)
    before = store.truth()[0]["updated_at"]
    store.change(order.id, "refund")
    simulation.deliver_all()
    simulation.drain()
    simulation.pass_time(3_600)
    assert store.truth()[0]["updated_at"] == before
    assert simulation.stored(connection) != simulation.truth(connection)

    _nightly(simulation)

    assert simulation.stored(connection) == simulation.truth(connection)
    deep = [run for run in _runs(simulation, "catch_up") if run["deep"]]
    assert [(run["updated"], run["verdict"]) for run in deep] == [(1, "complete")]


def test_a_deep_run_of_a_merchant_lists_etsy_by_both_times(simulation: Simulation) -> None:
    store = simulation.world.add_store("etsy", refund_moves_time=False)
    connection = simulation.connect(store)
    for _ in range(3):
        store.place(quiet=True)
        simulation.pass_time(10)
    simulation.pass_time(100)

    run = simulation.sync(connection, deep=True)

    assert (run["listed"], run["created"], run["verdict"]) == (3, 3, "complete")
    assert [part["by_placed"] for part in run["checkpoint"]["slices"]] == [False, True]


def test_a_deep_run_by_schedule_imports_nothing_that_the_merchant_did_not_ask_for(simulation: Simulation) -> None:
    store = simulation.world.add_store("woocommerce")
    store.place(quiet=True)
    simulation.pass_time(86_400 * 10)
    simulation.connect(store)
    simulation.pass_time(3_600)

    _nightly(simulation)

    assert simulation.scalar("SELECT count(*) FROM orders") == 0


# --- who goes first --------------------------------------------------------------------------------------------
def test_people_go_before_catch_up_and_catch_up_before_what_has_time(simulation: Simulation, store: Store) -> None:
    connection = simulation.connect(store)
    store.place()
    simulation.deliver_all()
    simulation.drain()
    simulation.pass_time(200)
    schedule.open_nightly(simulation.access, simulation.now())
    schedule.catch_up_all(simulation.access)
    simulation.ask(connection)

    taken = []
    for _ in range(4):
        with simulation.database.transaction() as tx:
            run = runs.take(tx, connection, now=simulation.now())
            if run is None:
                break
            taken.append((run.kind, run.deep))
            tx.execute(text("UPDATE sync_runs SET state = 'finished' WHERE id = :id"), {"id": run.id})

    settle = [] if store.platform == "etsy" else [("settle", False)]
    assert taken == [("manual", False), ("catch_up", False), *settle, ("catch_up", True)]


def test_a_deep_run_gives_way_at_the_border_of_a_page_and_goes_on(simulation: Simulation) -> None:
    store = simulation.world.add_store("woocommerce")
    connection = simulation.connect(store)
    for _ in range(250):
        store.place(quiet=True, lines=1)
        simulation.pass_time(1)
    simulation.pass_time(200)
    schedule.open_nightly(simulation.access, simulation.now())
    with simulation.database.transaction() as tx:
        taken = runs.take(tx, connection, now=simulation.now())
    assert taken is not None
    assert taken.deep
    schedule.catch_up_all(simulation.access)

    from backfill.runner import Runner

    Runner(simulation.access, taken).run()

    run = simulation.run(taken.id)
    assert (run["state"], run["listed"]) == ("queued", 100)
    simulation.work(connection)
    assert (simulation.run(taken.id)["state"], simulation.run(taken.id)["listed"]) == ("finished", 250)


def test_a_run_that_waits_for_its_store_is_not_given_way_to(simulation: Simulation, store: Store) -> None:
    connection = simulation.connect(store)
    opened = simulation.ask(connection)
    with simulation.database.transaction() as tx:
        tx.execute(text("UPDATE sync_runs SET waiting_until = now() + interval '1 day'"))
    schedule.catch_up_all(simulation.access)

    from backfill import runner

    runner.work_all(simulation.access, connection)

    assert [run["state"] for run in _runs(simulation, "catch_up")] == ["finished"]
    assert simulation.run(opened.run_id)["state"] == "queued"


# --- how often -------------------------------------------------------------------------------------------------
def test_a_store_is_caught_up_every_fifteen_minutes(simulation: Simulation) -> None:
    simulation.connect(simulation.world.add_store("woocommerce"))
    opened = [schedule.open_due(simulation.access, simulation.now())]
    simulation.work(next(iter(simulation.stores)))

    for minutes in (14, 15):
        _aged(simulation, minutes=minutes)
        opened.append(schedule.open_due(simulation.access, simulation.now()))

    assert opened == [1, 0, 1]


def test_a_quiet_catch_up_of_etsy_asks_what_the_budget_counts_with(simulation: Simulation) -> None:
    connection = simulation.connect(simulation.world.add_store("etsy"))
    simulation.pass_time(1_800)
    schedule.catch_up_all(simulation.access)
    before = simulation.calls

    simulation.work(connection)

    assert simulation.calls - before == catch_up.QUIET_CALLS


_QUIET = {"last_webhook_at": None, "last_order_at": BEGINNING - timedelta(days=2)}


@pytest.mark.parametrize(
    ("shops", "per_day", "minutes"),
    # The sheet's own table (section 4) counts 1.25 calls a cycle where we need 2.
    [
        (1, 10_000, 1.0),
        (5, 10_000, 2.4),
        (20, 10_000, 9.6),
        (100, 10_000, 48.0),
        (100, 100_000, 4.8),
        (999, 10_000, 479.52),
    ],
)
def test_quiet_shops_share_sixty_percent_of_the_days_calls(shops: int, per_day: int, minutes: float) -> None:
    waits = catch_up.intervals([Polled(n, **_QUIET) for n in range(shops)], per_day, BEGINNING)

    assert {round(wait / timedelta(minutes=1), 2) for wait in waits.values()} == {minutes}
    assert sum(catch_up.QUIET_CALLS * timedelta(days=1) / wait for wait in waits.values()) <= 0.6 * per_day + 0.1


def test_shops_that_sell_are_asked_more_often_and_those_whose_webhooks_come_less() -> None:
    day, hour = timedelta(days=1), timedelta(hours=1)
    quiet = Polled(1, None, BEGINNING - 2 * day)
    told = Polled(2, BEGINNING - hour, BEGINNING - 2 * day)
    hot = Polled(3, None, BEGINNING - timedelta(minutes=10))
    idle = Polled(4, None, BEGINNING - 8 * day)
    waits = catch_up.intervals([quiet, told, hot, idle], 1_000, BEGINNING)

    assert waits[2] / waits[1] == pytest.approx(5)
    assert waits[1] / waits[3] == pytest.approx(3)
    assert waits[4] / waits[1] == pytest.approx(4)
    assert sum(catch_up.QUIET_CALLS * day / wait for wait in waits.values()) <= 600.1


def test_the_days_limit_that_etsy_names_is_believed(simulation: Simulation) -> None:
    store = simulation.world.add_store("etsy")
    connection = simulation.connect(store)
    with simulation.database.transaction() as tx:
        tx.execute(
            text(
                "INSERT INTO rate_budgets (bucket, available, capacity, restore_per_second, refilled_at, day_left,"
                " day_limit, day_seen_at) VALUES (:bucket, 10, 10, 10, now(), 900, 1000, now())"
            ),
            {"bucket": f"etsy:{simulation.world.etsy_app.keystring}"},
        )
    with simulation.database.transaction() as tx:
        rows = tx.execute(text(schedule._CONNECTED)).mappings().all()

    waits = schedule.intervals(simulation.access, rows, simulation.now())

    # Nothing sold yet: four times as long as the 4.8 minutes of a quiet shop.
    assert waits == {connection: timedelta(minutes=4 * 4.8)}
