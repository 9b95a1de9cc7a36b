"""Sync Order: what is asked for, what it does, what it says, and that it says so exactly."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from backfill import catch_up, runner, runs, schedule, writing
from gateway.domain import points
from gateway.domain.problems import GatewayError, NeedsMerchant, Refused
from gateway.domain.scope import AccountScope
from gateway.domain.window import Window
from gateway.sandbox.stores import Store
from tests.simulation import BEGINNING, Simulation

PLATFORMS = ("shopify", "woocommerce", "etsy")


def _counters(run: dict[str, Any]) -> dict[str, int]:
    names = ("listed", "created", "updated", "unchanged", "newer_here", "failed", "removed", "hidden")
    return {name: run[name] for name in names if run[name]}


@pytest.fixture(params=PLATFORMS)
def store(request: pytest.FixtureRequest, simulation: Simulation) -> Store:
    return simulation.world.add_store(request.param)


def test_a_first_run_adds_all_and_a_second_one_nothing(simulation: Simulation, store: Store) -> None:
    connection = simulation.connect(store)
    for _ in range(7):
        store.place(quiet=True)
    simulation.pass_time(100)

    first, second = simulation.sync(connection), simulation.sync(connection)

    assert (first["state"], first["verdict"]) == ("finished", "complete")
    assert _counters(first) == {"listed": 7, "created": 7}
    assert _counters(second) == {"listed": 7, "unchanged": 7}


def test_the_result_line_is_word_for_word_in_the_stores_own_time(simulation: Simulation) -> None:
    store = simulation.world.add_store("woocommerce", time_zone="Asia/Tokyo")
    connection = simulation.connect(store)
    orders = [store.place(quiet=True) for _ in range(3)]
    simulation.pass_time(100)
    simulation.sync(connection)
    store.change(orders[0].id, "note", quiet=True)
    store.place(quiet=True)
    simulation.pass_time(100)

    run = simulation.sync(connection)

    finished = {**run, "finished_at": datetime(2026, 11, 24, 0, 30, 59, tzinfo=UTC)}
    assert runs.result_line(finished) == (
        "Synchronize 2026-11-24 09:30 complete, Plan execution: Total additions 1, To update 1, fail 0"
    )


def test_the_line_of_an_incomplete_run_does_not_say_complete(simulation: Simulation, store: Store) -> None:
    connection = simulation.connect(store)
    run = {**simulation.sync(connection), "verdict": "incomplete"}

    line = runs.result_line(run)

    assert line is not None
    assert " incomplete, Plan execution: " in line
    assert runs.result_line({**run, "state": "running"}) is None


@pytest.mark.parametrize("count", [0, 1, 100, 350])
def test_orders_of_one_second_are_all_listed_once(simulation: Simulation, store: Store, count: int) -> None:
    connection = simulation.connect(store)
    for _ in range(count):
        store.place(quiet=True, lines=1)
    simulation.pass_time(100)

    run = simulation.sync(connection)

    assert run["verdict"] == "complete"
    assert _counters(run) == ({"listed": count, "created": count} if count else {})
    assert simulation.stored(connection) == simulation.truth(connection)


@pytest.mark.parametrize("zone", ["Pacific/Apia", "Pacific/Pago_Pago", "Asia/Tokyo", "America/New_York", "UTC"])
def test_windows_are_exact_to_the_second_in_every_zone(simulation: Simulation, store: Store, zone: str) -> None:
    store.time_zone, store.zone = zone, __import__("zoneinfo").ZoneInfo(zone)
    connection = simulation.connect(store)
    inside, outside = [], []
    for seconds, where in ((0, outside), (1, inside), (7 * 86_400, inside)):
        order = store.place(quiet=True, at=BEGINNING + timedelta(seconds=seconds))
        where.append(str(order.id))
    simulation.pass_time(7 * 86_400 + 1)

    simulation.sync(connection, days=7)

    assert sorted(simulation.stored(connection)) == sorted(inside)


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("skew", [3600.0, -3600.0])
def test_windows_are_by_the_stores_clock(simulation: Simulation, platform: str, skew: float) -> None:
    """Seven days of the store's own clock, which goes wrong by an hour: not of ours."""
    store = simulation.world.add_store(platform, skew_seconds=skew)
    connection = simulation.connect(store)
    theirs = store.now().replace(microsecond=0)
    inside = [str(store.place(quiet=True, at=theirs + timedelta(seconds=60)).id)]
    store.place(quiet=True, at=theirs - timedelta(seconds=60))
    simulation.pass_time(7 * 86_400)

    simulation.sync(connection, days=7)

    assert sorted(simulation.stored(connection)) == inside


@pytest.mark.parametrize("wrong", [-1.5, 1.5])
def test_an_order_of_this_very_second_is_found_though_the_stores_clock_is_known_roughly(
    simulation: Simulation, store: Store, wrong: float
) -> None:
    """A Date has whole seconds: our idea of the store's clock is off by up to one, and by what an answer takes."""
    connection = simulation.connect(store)
    simulation.pass_time(100.9)
    simulation.rows("UPDATE connections SET skew_ms = :skew RETURNING id", skew=int((0.9 + wrong) * 1000) - 900)
    order = store.place(quiet=True)

    run = simulation.sync(connection)

    assert run["created"] == 1
    assert list(simulation.stored(connection)) == [str(order.id)]


def test_a_stored_order_that_is_gone_is_removed_and_said_so(simulation: Simulation) -> None:
    store = simulation.world.add_store("woocommerce")
    connection = simulation.connect(store)
    orders = [store.place(quiet=True) for _ in range(3)]
    simulation.pass_time(100)
    simulation.sync(connection)
    store.change(orders[1].id, "force_delete")
    simulation.pass_time(100)

    run = simulation.sync(connection)

    assert _counters(run) == {"listed": 3, "unchanged": 2, "removed": 1}
    assert str(orders[1].id) not in simulation.stored(connection)
    with simulation.database.transaction() as tx:
        items = runs.run_items(tx, simulation.scope, run["id"], ["removed"])
    assert [item["external_id"] for item in items] == [str(orders[1].id)]


def test_a_restored_order_is_found_again_even_with_an_unmoved_date(simulation: Simulation) -> None:
    store = simulation.world.add_store("woocommerce")
    connection = simulation.connect(store)
    order = store.place(quiet=True)
    simulation.pass_time(100)
    simulation.sync(connection)
    store.change(order.id, "trash", quiet=True)
    simulation.pass_time(100)
    simulation.sync(connection)
    assert simulation.stored(connection) == {}
    store.change(order.id, "restore", quiet=True)
    simulation.pass_time(100)

    run = simulation.sync(connection)

    assert run["updated"] == 1
    assert simulation.stored(connection) == simulation.truth(connection)
    assert simulation.scalar("SELECT kind FROM changes ORDER BY id DESC LIMIT 1") == "restored"


def test_an_order_behind_shopifys_wall_is_hidden_and_stays(simulation: Simulation) -> None:
    store = simulation.world.add_store("shopify")
    connection = simulation.connect(store)
    old = store.place(quiet=True, at=BEGINNING - timedelta(days=61))
    store.change(old.id, "note")  # an update of an old order still comes as a webhook
    simulation.deliver_all()
    simulation.drain()
    simulation.pass_time(100)

    run = simulation.sync(connection)

    assert _counters(run) == {"listed": 1, "hidden": 1}
    assert sorted(simulation.stored(connection)) == [str(old.id)]


def test_an_etsy_receipt_that_is_not_listed_is_never_removed(simulation: Simulation) -> None:
    store = simulation.world.add_store("etsy")
    connection = simulation.connect(store)
    order = store.place(quiet=True)
    simulation.pass_time(100)
    simulation.sync(connection)
    del store.orders[order.id]
    store.touched()
    simulation.pass_time(100)

    run = simulation.sync(connection)

    assert run["hidden"] == 1
    assert len(simulation.stored(connection)) == 1


def test_a_payload_that_can_not_be_read_fails_alone_with_its_reason(
    simulation: Simulation, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = simulation.connect(store)
    orders = [store.place(quiet=True) for _ in range(5)]
    simulation.pass_time(100)
    bad = str(orders[2].id)
    read = writing.read_order

    def strict(platform: Any, payload: Any, raw: bytes, **options: Any) -> Any:
        reading = read(platform, payload, raw, **options)
        if reading.external_id == bad:
            raise Refused(__import__("gateway.domain.problems", fromlist=["x"]).PAYLOAD_FIELD, "total: broken")
        return reading

    monkeypatch.setattr(writing, "read_order", strict)

    run = simulation.sync(connection)

    assert _counters(run) == {"listed": 5, "created": 4, "failed": 1}
    with simulation.database.transaction() as tx:
        items = runs.run_items(tx, simulation.scope, run["id"], ["failed"])
    assert [(item["external_id"], item["problem"]) for item in items] == [(bad, "payload.field")]


def test_what_changes_during_a_run_is_read_again(
    simulation: Simulation, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = simulation.connect(store)
    orders = []
    for _ in range(230):
        orders.append(store.place(quiet=True, lines=1))
        simulation.pass_time(1)
    write = runner.Runner._write
    pages = 0

    def meanwhile(self: runner.Runner, *arguments: Any, **options: Any) -> None:
        nonlocal pages
        pages += 1
        if pages == 1:
            # One that was listed and one that was not: both leave the window.
            store.change(orders[0].id, "note", quiet=True)
            store.change(orders[-1].id, "note", quiet=True)
            store.place(quiet=True)
        simulation.pass_time(20)
        write(self, *arguments, **options)

    monkeypatch.setattr(runner.Runner, "_write", meanwhile)

    run = simulation.sync(connection)

    assert run["verdict"] == "complete"
    assert run["created"] == 231
    assert simulation.stored(connection) == simulation.truth(connection)


# --- asking ----------------------------------------------------------------------------------------------------
def _open(simulation: Simulation, connection: int, days: int = 7, account: int | None = None) -> runs.Opened:
    scope = simulation.scope if account is None else AccountScope(account)
    with simulation.database.transaction() as tx:
        return runs.open_run(tx, scope, connection, days)


def test_a_double_click_gets_the_running_one_and_another_window_waits(simulation: Simulation, store: Store) -> None:
    connection = simulation.connect(store)

    first, again, other = (
        _open(simulation, connection),
        _open(simulation, connection),
        _open(simulation, connection, 30),
    )

    assert not first.already_running
    assert (again.run_id, again.already_running) == (first.run_id, True)
    assert (other.already_running, other.waits_for) == (False, first.run_id)
    simulation.work(connection)
    states = [simulation.run(run)["state"] for run in (first.run_id, other.run_id)]
    assert states == ["finished", "finished"]


@pytest.mark.parametrize("days", [0, -7, 8, 61, 365])
def test_other_windows_are_refused(simulation: Simulation, store: Store, days: int) -> None:
    connection = simulation.connect(store)

    with pytest.raises(Refused) as refused:
        _open(simulation, connection, days)

    assert refused.value.problem.code == "sync.window_refused"
    assert simulation.scalar("SELECT count(*) FROM sync_runs") == 0


def test_another_accounts_store_is_not_there(simulation: Simulation, store: Store) -> None:
    connection = simulation.connect(store)

    with pytest.raises(Refused) as refused:
        _open(simulation, connection, account=simulation.account_id + 1)

    assert refused.value.problem.code == "store.not_found"


def test_a_disconnected_store_says_where_to_mend_it(simulation: Simulation, store: Store) -> None:
    connection = simulation.connect(store)
    with simulation.database.transaction() as tx:
        tx.execute(text("UPDATE connections SET state = 'disconnected', state_problem = 'connection.token_revoked'"))

    with pytest.raises(NeedsMerchant) as refused:
        _open(simulation, connection)

    assert "Store → Integrations" in refused.value.problem.fix


def test_a_merchants_run_goes_before_a_catch_up(simulation: Simulation) -> None:
    store = simulation.world.add_store("woocommerce")
    connection = simulation.connect(store)
    for _ in range(250):
        store.place(quiet=True, lines=1)
        simulation.pass_time(1)
    assert schedule.catch_up_all(simulation.access) == 1
    with simulation.database.transaction() as tx:
        taken = runs.take(tx, connection, now=simulation.now())
    assert taken is not None
    manual = _open(simulation, connection)

    runner.Runner(simulation.access, taken).run()

    assert simulation.run(taken.id)["state"] == "queued"
    assert simulation.run(taken.id)["listed"] == 100  # it stopped at the border of a page
    simulation.work(connection)
    assert simulation.run(manual.run_id)["state"] == "finished"
    assert simulation.run(taken.id)["state"] == "finished"
    finished = [simulation.run(run)["finished_at"] for run in (manual.run_id, taken.id)]
    assert finished == sorted(finished)


# --- trouble ---------------------------------------------------------------------------------------------------
def test_a_refused_key_stops_the_run_and_says_what_to_do(simulation: Simulation, store: Store) -> None:
    connection = simulation.connect(store)
    store.place(quiet=True)
    credentials = simulation.access.vault.open_mapping(simulation.connection(connection).credentials)
    wrong = dict.fromkeys(credentials, "wrong")
    with simulation.database.transaction() as tx:
        tx.execute(
            text("UPDATE connections SET credentials = :closed"),
            {"closed": simulation.access.vault.close({k: v for k, v in wrong.items() if k != "expires_at"})},
        )

    run = simulation.sync(connection)

    assert run["state"] == "stopped"
    assert run["problem"] == "connection.token_revoked"
    assert simulation.connection(connection).state == "action_needed"


def test_a_store_that_fails_for_a_while_is_waited_for(simulation: Simulation, store: Store) -> None:
    connection = simulation.connect(store)
    for _ in range(3):
        store.place(quiet=True)
    store.faults.set({"5xx": 2})

    run = simulation.sync(connection)

    assert (run["state"], run["created"]) == ("finished", 3)


def test_a_store_that_fails_for_good_stops_the_run_with_its_reason(simulation: Simulation, store: Store) -> None:
    connection = simulation.connect(store)
    store.faults.set({"5xx": 1000})

    run = simulation.sync(connection)

    assert (run["state"], run["problem"]) == ("stopped", "store.error")


class Died(BaseException):
    """Stands for SIGKILL: nothing of the process runs any more."""


@pytest.mark.parametrize("point", ["after_page_fetch", "inside_page", "before_page_commit", "after_page_commit"])
@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_crash_repeats_a_page_and_counts_nothing_twice(
    simulation: Simulation, platform: str, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = simulation.world.add_store(platform)
    connection = simulation.connect(store)
    for _ in range(230):
        store.place(quiet=True, lines=1)
    simulation.pass_time(100)
    left = 2

    def reached(name: str) -> None:
        nonlocal left
        if name == point:
            left -= 1
            if left == 0:
                raise Died

    monkeypatch.setattr(points, "reached", reached)
    opened = _open(simulation, connection)
    with pytest.raises(Died):
        runner.work_all(simulation.access, connection)
    assert simulation.run(opened.run_id)["state"] == "running"

    simulation.work(connection)

    run = simulation.run(opened.run_id)
    assert (run["state"], run["verdict"]) == ("finished", "complete")
    assert run["fence"] >= 2
    assert _counters(run) == {"listed": 230, "created": 230}
    assert simulation.scalar("SELECT count(*) FROM changes") == 230


def test_a_frozen_worker_that_wakes_up_writes_nothing(simulation: Simulation, store: Store) -> None:
    connection = simulation.connect(store)
    for _ in range(5):
        store.place(quiet=True)
    simulation.pass_time(100)
    opened = _open(simulation, connection)
    with simulation.database.transaction() as tx:
        frozen = runs.take(tx, connection, now=simulation.now())
    assert frozen is not None
    simulation.work(connection)  # its worker seems dead: another one takes the run over
    done = simulation.run(opened.run_id)

    runner.Runner(simulation.access, frozen).run()

    assert simulation.run(opened.run_id) == done
    assert done["created"] == 5


def test_a_run_whose_worker_lives_is_not_taken(simulation: Simulation, store: Store) -> None:
    connection = simulation.connect(store)
    _open(simulation, connection)
    with simulation.database.transaction() as tx:
        taken = runs.take(tx, connection, now=simulation.now())
    assert taken is not None
    with simulation.database.engine.connect() as life:
        life.execute(text("SELECT pg_advisory_lock_shared(:lock, :id)"), {"lock": runs.RUN_LOCK, "id": taken.id})

        with simulation.database.transaction() as tx:
            assert runs.take(tx, connection, now=simulation.now()) is None
            late = simulation.now() + timedelta(seconds=121)
            tx.execute(text("UPDATE sync_runs SET seen_at = :seen"), {"seen": simulation.now()})
            overtaken = runs.take(tx, connection, now=late)
        life.invalidate()
    assert overtaken is not None
    assert overtaken.fence == taken.fence + 1


# --- catch-up --------------------------------------------------------------------------------------------------
def test_catch_up_closes_exactly_the_gap(simulation: Simulation, store: Store) -> None:
    connection = simulation.connect(store)
    store.place(quiet=True)
    simulation.pass_time(100)
    simulation.sync(connection)
    before = simulation.connection(connection).watermark
    simulation.pass_time(6 * 3600)
    for _ in range(3):
        store.place(quiet=True)
    simulation.pass_time(60)

    schedule.catch_up_all(simulation.access)
    simulation.work(connection)

    run = simulation.rows("SELECT * FROM sync_runs ORDER BY id DESC LIMIT 1")[0]
    assert before is not None
    assert run["window_from"] == before - timedelta(minutes=15)
    assert (run["state"], run["created"], run["missed"]) == ("finished", 3, 3)
    assert simulation.connection(connection).watermark == run["window_until"]


def test_a_catch_up_is_wished_once_and_opened_once(simulation: Simulation, store: Store) -> None:
    connection = simulation.connect(store)
    with simulation.database.transaction() as tx:
        tx.execute(text("UPDATE connections SET catch_up_wanted_at = now()"))

    opened = []
    for _ in range(3):
        with simulation.database.transaction() as tx:
            opened.append(schedule.catch_up_wanted(tx))

    assert opened == [1, 0, 0]
    assert simulation.scalar("SELECT catch_up_wanted_at FROM connections WHERE id = :id", id=connection) is None


def test_a_new_connection_catches_up_from_its_install(simulation: Simulation, store: Store) -> None:
    connection = simulation.connection(simulation.connect(store))

    window = catch_up.window_since(connection, simulation.now() + timedelta(hours=1))

    assert window == Window(BEGINNING - timedelta(minutes=15), BEGINNING + timedelta(hours=1) - timedelta(seconds=5))


def test_every_problem_that_a_run_can_stop_with_is_in_the_catalogue() -> None:
    from gateway.domain.problems import CATALOGUE

    for problem in CATALOGUE.values():
        assert problem.title
        assert problem.fix
    assert issubclass(Refused, GatewayError)
