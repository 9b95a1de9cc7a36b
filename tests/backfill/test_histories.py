"""Any history with losses, an outage, a source that goes back and a crash in mid-run: what begins by itself ends in the
store's truth, and each run's counters are what a comparison of before and after says (P3, P5, P6)."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from backfill import runner, runs, schedule
from gateway.domain import points
from tests.orders.test_convergence import _act, _assert_counted, _live, _settle, steps
from tests.simulation import Simulation

PLATFORMS = ("shopify", "woocommerce", "etsy")
POINTS = ("after_page_fetch", "after_look_up", "inside_page", "before_page_commit", "after_page_commit")


class Died(BaseException):
    """Stands for a kill -9: nothing of ours catches it."""


def _orders(simulation: Simulation) -> dict[str, tuple[str | None, str | None, bool]]:
    rows = simulation.rows(
        "SELECT external_id, core::text AS core, person::text AS person, removed_at FROM orders WHERE core IS NOT NULL"
    )
    return {row["external_id"]: (row["core"], row["person"], row["removed_at"] is None) for row in rows}


def _compared(before: dict[str, Any], after: dict[str, Any]) -> dict[str, int]:
    """What a run did, told from what stood there before it and what stands there now."""
    told = {"created": 0, "updated": 0, "removed": 0}
    for external_id, (*content, lives) in after.items():
        if external_id not in before:
            told["created"] += 1
            continue
        *was, lived = before[external_id]
        if lived and not lives:
            told["removed"] += 1
        elif lives and (was != content or not lived):
            told["updated"] += 1
    return told


def _worked(simulation: Simulation, connection: int, chance: random.Random, monkeypatch: pytest.MonkeyPatch) -> int:
    """Work on what is open, with a worker that dies once on its way; how often one died."""
    point, left, died = chance.choice(POINTS), chance.randint(1, 6), 0

    def reached(name: str) -> None:
        nonlocal left, died
        if name == point:
            left -= 1
            if left == 0:
                died += 1
                raise Died

    with monkeypatch.context() as patch:
        patch.setattr(points, "reached", reached)
        with contextlib.suppress(Died):
            runner.work_all(simulation.access, connection)
    simulation.work(connection)
    return died


@pytest.mark.timeout(300)  # several runs an example
@pytest.mark.parametrize("platform", PLATFORMS)
@settings(max_examples=10, phases=(Phase.explicit, Phase.reuse, Phase.generate))  # shrinking takes minutes
@given(
    first=steps, outage=steps, after=steps, seed=st.integers(0, 2**32), skew=st.sampled_from([0.0, -7.0, 45.0]),
    goes_back=st.booleans(), hours=st.sampled_from([0, 6, 24 * 9]),
)  # fmt: skip
def test_what_begins_by_itself_ends_in_the_stores_truth(
    clean_database: str, platform: str, first: list[Any], outage: list[Any], after: list[Any], seed: int, skew: float,
    goes_back: bool, hours: int,
) -> None:  # fmt: skip
    monkeypatch, chance = pytest.MonkeyPatch(), random.Random(seed)
    with Simulation(clean_database, seed=seed) as simulation:
        simulation.reset()
        store = simulation.world.add_store(platform, skew_seconds=skew)
        connection = simulation.connect(store)
        _live(simulation, store, first, chance)
        _settle(simulation)
        schedule.catch_up_all(simulation.access)
        simulation.work(connection)
        backup = store.snapshot()
        for action, which, seconds in outage:  # we are away, and what is sent meanwhile is lost
            _act(store, action, which)
            simulation.pass_time(seconds)
        simulation.world.collect(release_held=True)
        simulation.pass_time(hours * 3_600)
        if goes_back:
            store.go_back(backup)
        _live(simulation, store, after, chance)
        _settle(simulation)
        before = _orders(simulation)

        schedule.catch_up_all(simulation.access)
        _worked(simulation, connection, chance, monkeypatch)

        with simulation.database.transaction() as tx:
            row = tx.exec_driver_sql("SELECT max(id) FROM sync_runs WHERE kind = 'catch_up'").scalar_one()
            run = dict(runs.get_run(tx, simulation.scope, row) or {})
        assert run["state"] == "finished"
        assert run["verdict"] in (("unknown",) if platform == "etsy" else ("complete",)), run
        _assert_counted(run)
        assert {name: run[name] for name in ("created", "updated", "removed")} == _compared(before, _orders(simulation))

        schedule.open_nightly(simulation.access, simulation.now())
        _worked(simulation, connection, chance, monkeypatch)
        _settle(simulation)  # the second sight of a source that went back is asked for a minute later
        _settle(simulation)
        stored, truth = simulation.stored(connection), simulation.truth(connection)
        if platform == "etsy":  # its 404 never says Gone: what a backup did not know of is kept
            stored = {external_id: order for external_id, order in stored.items() if external_id in truth}
        assert stored == truth
