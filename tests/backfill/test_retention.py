"""What runs leave behind has an end, and a run whose report went says so."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from backfill import report, retention, runs
from backfill.catch_up import window_since
from gateway.connections import model
from gateway.domain.problems import RUN_REPORT_NOT_KEPT, Refused
from tests.simulation import Simulation

DAY = 86_400


def _catch_up(simulation: Simulation, connection: int, *, deep: bool = False) -> int:
    with simulation.database.transaction() as tx:
        there = model.get(tx, connection)
        assert there is not None
        runs.open_by_itself(tx, there, "catch_up", window_since(there, simulation.now()), deep=deep)
    simulation.work(connection)
    # Runs end by PostgreSQL's own clock, which no test can move.
    return int(
        simulation.rows(
            "UPDATE sync_runs SET finished_at = :now WHERE id = (SELECT max(id) FROM sync_runs) RETURNING id",
            now=simulation.now(),
        )[0]["id"]
    )


def _ids(simulation: Simulation) -> list[int]:
    return [row["id"] for row in simulation.rows("SELECT id FROM sync_runs ORDER BY id")]


def _drop(simulation: Simulation, reports_kept: timedelta = timedelta(days=90)) -> tuple[int, int]:
    return retention.drop_old(simulation.database, simulation.now(), reports_kept=reports_kept)


def test_runs_by_schedule_that_found_nothing_are_forgotten_but_for_the_newest_of_each_kind(
    simulation: Simulation,
) -> None:
    store = simulation.world.add_store("woocommerce")
    connection = simulation.connect(store)
    store.place(quiet=True)
    simulation.pass_time(100)
    found = _catch_up(simulation, connection)
    simulation.pass_time(900)
    deep = _catch_up(simulation, connection, deep=True)
    simulation.pass_time(900)
    idle = [_catch_up(simulation, connection)]
    simulation.pass_time(900)
    idle.append(_catch_up(simulation, connection))
    simulation.pass_time(900)
    newest = _catch_up(simulation, connection)

    assert _drop(simulation) == (0, 0)
    simulation.pass_time(14 * DAY + 1)
    assert _drop(simulation) == (2, 0)

    assert _ids(simulation) == [found, deep, newest]


def test_old_reports_are_dropped_and_the_runs_line_stays(simulation: Simulation) -> None:
    store = simulation.world.add_store("woocommerce")
    connection = simulation.connect(store)
    store.place(quiet=True)
    simulation.pass_time(100)
    run = simulation.sync(connection)
    simulation.rows("UPDATE sync_runs SET failed = 1, finished_at = :now RETURNING id", now=simulation.now())
    line = runs.result_line(simulation.run(run["id"]))
    report.check_kept(simulation.run(run["id"]))
    simulation.pass_time(90 * DAY + 1)

    assert _drop(simulation) == (0, 1)
    assert _drop(simulation) == (0, 0)

    after: dict[str, Any] = simulation.run(run["id"])
    assert runs.result_line(after) == line
    assert simulation.scalar("SELECT count(*) FROM run_items") == 0
    with pytest.raises(Refused) as told:
        report.check_kept(after)
    with simulation.database.transaction() as tx, pytest.raises(Refused) as retried:
        runs.retry_failed(tx, simulation.scope, run["id"])
    assert told.value.problem is retried.value.problem is RUN_REPORT_NOT_KEPT


def test_a_stopped_run_of_a_merchant_keeps_what_it_counts_by(simulation: Simulation) -> None:
    store = simulation.world.add_store("woocommerce")
    connection = simulation.connect(store)
    store.place(quiet=True)
    simulation.pass_time(100)
    run = simulation.sync(connection)
    simulation.rows("UPDATE sync_runs SET state = 'stopped', finished_at = :now RETURNING id", now=simulation.now())
    simulation.pass_time(400 * DAY)

    assert _drop(simulation) == (0, 0)

    assert simulation.scalar("SELECT count(*) FROM run_items WHERE run_id = :id", id=run["id"]) == 1
