"""A source that goes back, as after a restored backup: two settled reads make it the truth, one read or a webhook never
does."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from gateway.sandbox.stores import Store
from tests.orders.test_convergence import _act, _live, _settle, steps
from tests.simulation import Simulation

PLATFORMS = ("shopify", "woocommerce", "etsy")


@pytest.fixture(params=PLATFORMS)
def store(request: pytest.FixtureRequest, simulation: Simulation) -> Store:
    return simulation.world.add_store(request.param)


def _went_back(simulation: Simulation, store: Store) -> tuple[int, Any]:
    """A store of one order that was noted upon, synced, and then restored from a backup that knows nothing of it."""
    connection = simulation.connect(store)
    order = store.place()
    simulation.pass_time(100)
    backup = store.snapshot()
    store.change(order.id, "cancel")
    simulation.deliver_all()
    simulation.drain()
    simulation.reread()
    simulation.pass_time(100)
    simulation.sync(connection)
    store.go_back(backup)
    simulation.pass_time(100)
    return connection, order


def _epochs(simulation: Simulation) -> list[tuple[int, int]]:
    return [(row["core_epoch"], row["person_epoch"]) for row in simulation.rows("SELECT * FROM orders ORDER BY id")]


def _kinds(simulation: Simulation) -> list[str]:
    return [row["kind"] for row in simulation.rows("SELECT kind FROM changes ORDER BY id")]


def test_one_look_at_an_older_state_changes_nothing_and_asks_for_a_second(simulation: Simulation, store: Store) -> None:
    connection, _ = _went_back(simulation, store)
    before = simulation.stored(connection)

    run = simulation.sync(connection)

    assert (run["newer_here"], run["updated"]) == (1, 0)
    assert simulation.stored(connection) == before != simulation.truth(connection)
    assert _epochs(simulation) == [(0, 0)]
    late_enough = (
        "SELECT count(*) FROM rereads r JOIN orders o USING (connection_id, external_id)"
        " WHERE r.again_at >= o.core_back_at + interval '60 seconds'"
    )
    assert simulation.scalar(late_enough) == 1


def test_two_looks_a_minute_apart_make_the_older_state_the_truth_and_a_change_says_so(
    simulation: Simulation, store: Store
) -> None:
    connection, _ = _went_back(simulation, store)
    simulation.sync(connection)
    simulation.pass_time(130)

    simulation.reread()

    assert simulation.stored(connection) == simulation.truth(connection)
    assert _epochs(simulation) == [(1, 1)]
    assert _kinds(simulation)[-1] == "went_back"
    again = simulation.sync(connection)
    assert (again["created"], again["updated"], again["newer_here"]) == (0, 0, 0)


def test_two_looks_within_a_minute_are_not_enough(simulation: Simulation, store: Store) -> None:
    connection, _ = _went_back(simulation, store)
    simulation.sync(connection)
    simulation.pass_time(50)

    simulation.sync(connection)

    assert _epochs(simulation) == [(0, 0)]


def test_a_webhook_of_the_time_before_does_not_undo_it(simulation: Simulation) -> None:
    """Shopify sends a webhook again as it was when it was triggered, up to a day late."""
    store = simulation.world.add_store("shopify")
    connection = simulation.connect(store)
    order = store.place()
    simulation.deliver_all()
    simulation.pass_time(100)
    backup = store.snapshot()
    store.change(order.id, "cancel")
    late = simulation.collect()
    assert late
    simulation.pass_time(100)
    simulation.sync(connection)
    store.go_back(backup)
    simulation.pass_time(100)
    simulation.sync(connection)
    simulation.pass_time(130)
    simulation.reread()
    assert _epochs(simulation) == [(1, 1)]
    settled = simulation.stored(connection)

    simulation.deliver_all(late)
    simulation.drain()

    assert simulation.stored(connection) == settled == simulation.truth(connection)


def test_what_happens_after_it_is_applied_even_beside_a_webhook_of_the_time_before(simulation: Simulation) -> None:
    """In one batch: the late webhook's time is the greater one, but it is of the epoch before."""
    store = simulation.world.add_store("shopify")
    connection = simulation.connect(store)
    order = store.place()
    simulation.deliver_all()
    simulation.pass_time(100)
    backup = store.snapshot()
    simulation.pass_time(10_000)
    store.change(order.id, "cancel")
    late = simulation.collect()
    simulation.pass_time(100)
    simulation.sync(connection)
    store.go_back(backup)
    simulation.pass_time(100)
    simulation.sync(connection)
    simulation.pass_time(130)
    simulation.reread()
    store.change(order.id, "note")
    now = simulation.collect()

    simulation.deliver_all([*now, *late])
    simulation.drain()

    assert simulation.stored(connection) == simulation.truth(connection)
    assert _epochs(simulation) == [(1, 1)]


def test_a_newer_state_seen_in_between_ends_the_suspicion(simulation: Simulation) -> None:
    """A read replica that lags shows an older state for a while."""
    store = simulation.world.add_store("woocommerce")
    connection, order = _went_back(simulation, store)
    simulation.sync(connection)
    store.change(order.id, "note")
    simulation.deliver_all()
    simulation.drain()
    simulation.pass_time(130)

    simulation.reread()

    assert _epochs(simulation) == [(0, 0)]
    assert simulation.scalar("SELECT count(*) FROM orders WHERE core_back_at IS NOT NULL") == 0
    assert simulation.stored(connection) == simulation.truth(connection)


@pytest.mark.timeout(300)  # three syncs an example
@pytest.mark.parametrize("platform", PLATFORMS)
@settings(max_examples=10, phases=(Phase.explicit, Phase.reuse, Phase.generate))  # shrinking takes minutes
@given(before=steps, lost=steps, after=steps, seed=st.integers(0, 2**32), skew=st.sampled_from([0.0, -7.0, 45.0]))
def test_any_history_of_a_source_that_goes_back_ends_in_its_truth(
    clean_database: str, platform: str, before: list[Any], lost: list[Any], after: list[Any], seed: int, skew: float
) -> None:
    with Simulation(clean_database, seed=seed) as simulation:
        simulation.reset()
        chance = random.Random(seed)
        store = simulation.world.add_store(platform, skew_seconds=skew)
        connection = simulation.connect(store)
        for action, which, seconds in before:
            _act(store, action, which)
            simulation.pass_time(seconds)
        backup = store.snapshot()
        _live(simulation, store, lost, chance)
        _settle(simulation)
        simulation.sync(connection)
        store.go_back(backup)
        simulation.pass_time(chance.choice([0, 5, 400]))
        _live(simulation, store, after, chance)
        _settle(simulation)

        simulation.sync(connection, days=60)
        _settle(simulation)
        simulation.reread()
        simulation.sync(connection, days=60)
        _settle(simulation)

        stored, truth = simulation.stored(connection), simulation.truth(connection)
        if platform == "etsy":  # its 404 never says Gone: what the backup did not know of is kept
            stored = {external_id: order for external_id, order in stored.items() if external_id in truth}
        assert stored == truth
