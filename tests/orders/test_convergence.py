"""Any history, however its webhooks arrive, ends in the same stored orders: the store's own truth (P2 to P5)."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.sandbox.changes import ChangeRefused
from gateway.sandbox.stores import Store
from tests.simulation import Simulation

PLATFORMS = ("shopify", "woocommerce", "etsy")
ACTIONS = (
    "place", "place", "pay", "ship", "ship_part", "edit", "cancel", "refund", "refund_delete", "delete", "trash",
    "restore", "force_delete", "note", "note", "address", "status", "meta",
)  # fmt: skip

steps = st.lists(
    st.tuples(
        st.sampled_from(ACTIONS),
        st.integers(0, 3),
        # Zero and parts of a second: the platforms' times have whole seconds, and that is where it is hard.
        st.sampled_from([0.0, 0.0, 0.3, 1.0, 3.0, 70.0]),
    ),
    min_size=1,
    max_size=12,
)


def _act(store: Store, action: str, which: int) -> None:
    try:
        if action == "place" or not store.orders:
            store.place(paid=which != 0)
        else:
            store.change(sorted(store.orders)[which % len(store.orders)], action)
    except ChangeRefused:
        pass


def _live(simulation: Simulation, store: Store, history: list[Any], chance: random.Random) -> None:
    """Let the history happen, and its webhooks arrive late, twice, in any order, or not at all."""
    late: list[Any] = []
    for action, which, seconds in history:
        _act(store, action, which)
        late += simulation.collect()
        simulation.pass_time(seconds)
        chance.shuffle(late)
        arriving = late[: chance.randint(0, len(late))]
        late = late[len(arriving) :] + [request for request in arriving if chance.random() < 0.2]
        simulation.deliver_all(request for request in arriving if chance.random() < 0.8)
        if chance.random() < 0.5:
            simulation.drain()
        if chance.random() < 0.2:
            simulation.reread()
    simulation.pass_time(2)
    late += simulation.collect()
    simulation.deliver_all(request for request in late if chance.random() < 0.8)
    simulation.drain()


def _settle(simulation: Simulation) -> None:
    simulation.pass_time(130)
    simulation.drain()
    simulation.reread()


def _assert_counted(run: dict[str, Any]) -> None:
    parts = ("created", "updated", "unchanged", "newer_here", "failed", "removed", "hidden")
    assert run["listed"] == sum(run[name] for name in parts)
    assert min(run[name] for name in parts) >= 0


@pytest.mark.parametrize("platform", PLATFORMS)
@settings(max_examples=25)
@given(
    history=steps,
    seed=st.integers(0, 2**32),
    skew=st.sampled_from([0.0, -7.0, 45.0, 3600.0]),
    slow=st.sampled_from([0.0, 0.0, 1.5, 20.0]),
)
def test_any_arrival_followed_by_a_sync_ends_in_the_stores_own_truth(
    clean_database: str, platform: str, history: list[Any], seed: int, skew: float, slow: float
) -> None:
    with Simulation(clean_database, seed=seed) as simulation:
        simulation.reset()
        store = simulation.world.add_store(platform, skew_seconds=skew)
        connection = simulation.connect(store)
        simulation.slow_seconds = slow
        _live(simulation, store, history, random.Random(seed))
        _settle(simulation)

        run = simulation.sync(connection)

        assert (run["state"], run["verdict"]) == ("finished", "complete"), run
        _assert_counted(run)
        simulation.reread()
        assert simulation.stored(connection) == simulation.truth(connection)
        _assert_history_rises(simulation)

        again = simulation.sync(connection)

        assert (again["created"], again["updated"], again["failed"]) == (0, 0, 0), again
        assert simulation.stored(connection) == simulation.truth(connection)


def _assert_history_rises(simulation: Simulation) -> None:
    """No two entries of an order's history for one part with one version."""
    doubled = simulation.rows(
        "SELECT order_id, parts, updated_at, observed_at, settled, kind FROM changes WHERE kind <> 'removed'"
        " GROUP BY order_id, parts, updated_at, observed_at, settled, kind, fields HAVING count(*) > 1"
    )
    assert doubled == []


@pytest.mark.parametrize("platform", ["shopify", "woocommerce"])
@settings(max_examples=25)
@given(history=steps, seed=st.integers(0, 2**32), skew=st.sampled_from([0.0, -7.0, 45.0]))
def test_every_permutation_of_what_arrives_ends_the_same_without_a_sync(
    clean_database: str, platform: str, history: list[Any], seed: int, skew: float
) -> None:
    """Nothing is lost here, so the webhooks and what they make us read again must be enough."""
    with Simulation(clean_database, seed=seed) as simulation:
        simulation.reset()
        store = simulation.world.add_store(platform, skew_seconds=skew)
        connection = simulation.connect(store)
        chance = random.Random(seed)
        late: list[Any] = []
        for action, which, seconds in history:
            if action in ("refund_delete", "force_delete"):
                continue  # WooCommerce tells nobody of these (captures 03/4 and 12/8)
            _act(store, action, which)
            late += simulation.collect()
            simulation.pass_time(seconds)
        simulation.pass_time(2)
        late += simulation.collect()
        chance.shuffle(late)

        simulation.deliver_all(late)
        _settle(simulation)
        simulation.deliver_all(chance.sample(late, len(late)))
        _settle(simulation)

        assert simulation.stored(connection) == simulation.truth(connection)


@settings(max_examples=8)  # five syncs each
@given(before=steps, during=steps, after=steps, seed=st.integers(0, 2**32))
def test_a_part_that_is_not_granted_is_left_alone_until_it_is_granted_again(
    clean_database: str, before: list[Any], during: list[Any], after: list[Any], seed: int
) -> None:
    """Shopify's webhooks say null for what we may not see; null where it is granted would erase."""
    with Simulation(clean_database, seed=seed) as simulation:
        simulation.reset()
        store = simulation.world.add_store("shopify")
        connection = simulation.connect(store)
        chance = random.Random(seed)
        _live(simulation, store, before, chance)
        store.place()  # without any order, no read can tell what is denied (docs/decisions/0003)
        simulation.deliver_all()
        simulation.drain()
        _settle(simulation)
        simulation.sync(connection)
        simulation.reread()
        known = {external_id: person for external_id, (_, person) in simulation.stored(connection).items()}

        store.protected_data = 0
        simulation.sync(connection)  # a read says that the part is denied; webhooks alone can't
        _live(simulation, store, during, chance)
        _settle(simulation)
        simulation.sync(connection)
        simulation.reread()

        stored, truth = simulation.stored(connection), _without_protection(simulation, store, connection)
        assert {external_id: core for external_id, (core, _) in stored.items()} == {
            external_id: core for external_id, (core, _) in truth.items()
        }
        for external_id, (_, person) in stored.items():
            assert person == known.get(external_id), "a part that was not granted was touched"

        store.protected_data = 2
        simulation.sync(connection)
        _live(simulation, store, after, chance)
        _settle(simulation)
        simulation.sync(connection)
        simulation.reread()
        assert simulation.stored(connection) == simulation.truth(connection)


def _without_protection(simulation: Simulation, store: Store, connection: int) -> dict[str, tuple[str, str]]:
    """The truth as a granted reader would see it."""
    store.protected_data = 2
    try:
        return simulation.truth(connection)
    finally:
        store.protected_data = 0
