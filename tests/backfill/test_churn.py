"""A store that never stands still: something changes at nearly every call of a run, and the run is complete all the
same, counts right, and raises no false alarm. Thirty histories a platform were run while it was written."""

from __future__ import annotations

import random
from typing import Any

import pytest

from gateway.sandbox.changes import ChangeRefused
from gateway.sandbox.stores import Store
from tests.simulation import Simulation

KINDS = ("note", "address", "trash", "force_delete", "restore", "ship", "cancel", "refund", "status", "delete")
OUTCOMES = ("created", "updated", "unchanged", "newer_here", "failed", "removed", "hidden")


def _restless(simulation: Simulation, store: Store, rng: random.Random) -> None:
    """From now on the store moves before it answers."""
    answer, often = simulation.sandbox, rng.choice([0.1, 0.5, 1.0])
    kinds = [kind for kind in KINDS if kind in store.kinds]

    def moving(environ: Any, start_response: Any) -> Any:
        if rng.random() < often:
            try:
                if rng.random() < 0.25:
                    store.place(quiet=True, lines=1)
                else:
                    store.change(None, rng.choice(kinds), quiet=True)
            except ChangeRefused:
                pass  # it can't be done to the order that was drawn
            simulation.pass_time(rng.choice([0, 0.3, 1, 4]))
        return answer(environ, start_response)

    simulation.sandbox = moving  # type: ignore[assignment]


@pytest.mark.parametrize("platform", ["shopify", "woocommerce", "etsy"])
@pytest.mark.parametrize("seed", [100, 105, 111])
def test_a_run_over_a_store_that_never_stands_still_is_complete(
    simulation: Simulation, platform: str, seed: int
) -> None:
    rng = random.Random(seed)
    store = simulation.world.add_store(platform)
    connection = simulation.connect(store)
    for _ in range(rng.choice([30, 150, 420])):
        store.place(quiet=True, lines=1)
        simulation.pass_time(rng.choice([0, 0, 1, 5]))
    simulation.pass_time(90)
    if rng.random() < 0.6:
        simulation.sync(connection)
    still = simulation.sandbox
    _restless(simulation, store, rng)

    run = simulation.sync(connection, deep=rng.random() < 0.3)

    simulation.sandbox = still
    counted = {
        row["outcome"]: row["n"]
        for row in simulation.rows(
            "SELECT outcome, count(*) AS n FROM run_items WHERE run_id = :id GROUP BY 1", id=run["id"]
        )
    }
    assert (run["state"], run["verdict"]) == ("finished", "complete")
    assert {name: run[name] for name in OUTCOMES if run[name]} == counted
    assert run["listed"] == sum(counted.values())
    simulation.pass_time(100)
    assert simulation.sync(connection)["verdict"] == "complete"
    if platform != "etsy":  # which never says that an order is gone
        assert simulation.stored(connection) == simulation.truth(connection)
