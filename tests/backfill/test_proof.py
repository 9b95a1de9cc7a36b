"""A finished run is proven (P5): never "complete" with rows lost, and what is missing is named as nearly as can be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backfill import gaps, verdict, writing
from backfill.gaps import Gap
from gateway.domain.window import Window
from gateway.platforms import REGISTRY
from gateway.platforms.base import Cursor, Page, StoreAccess
from gateway.sandbox.stores import Store
from tests.simulation import Simulation

COUNTING = ("shopify", "woocommerce")


@pytest.fixture(params=COUNTING)
def store(request: pytest.FixtureRequest, simulation: Simulation) -> Store:
    return simulation.world.add_store(request.param)


@pytest.fixture
def unlist(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Any], None]:
    """Let a platform count an order and not list it, as an index does that lost a row."""

    def unlist(key: str, order: Any) -> None:
        platform = REGISTRY[key]

        def without(ask: Callable[..., Page]) -> Callable[..., Page]:
            def asked(access: StoreAccess, window: Window, cursor: Cursor | None, **options: Any) -> Page:
                page = ask(access, window, cursor, **options)
                return replace(
                    page,
                    orders=[each for each in page.orders if each.external_id != str(order.id)],
                    heads=[each for each in page.heads if each.external_id != str(order.id)],
                )

            return asked

        assert platform.list_heads is not None
        changed = replace(platform, list_page=without(platform.list_page), list_heads=without(platform.list_heads))
        monkeypatch.setitem(REGISTRY, key, changed)  # type: ignore[arg-type]

    return unlist


def _fill(simulation: Simulation, store: Store, count: int) -> list[Any]:
    orders = []
    for _ in range(count):
        orders.append(store.place(quiet=True, lines=1))
        simulation.pass_time(37)
    simulation.pass_time(100)
    return orders


def test_a_lost_row_makes_the_run_incomplete_and_its_second_is_named(
    simulation: Simulation, store: Store, unlist: Callable[[str, Any], None]
) -> None:
    connection = simulation.connect(store)
    orders = _fill(simulation, store, 20)
    lost = orders[7]
    unlist(store.platform, lost)

    run = simulation.sync(connection)

    assert (run["state"], run["verdict"], run["expected"], run["listed"]) == ("finished", "incomplete", 20, 19)
    moment = datetime.fromtimestamp(lost.updated, UTC)
    assert run["problem_detail"] == "the platform counts 20 orders, 19 were listed"
    assert run["checkpoint"]["gaps"] == [[moment.isoformat(), (moment + timedelta(seconds=1)).isoformat(), 1, 0]]


def test_an_incomplete_run_leaves_the_watermark_where_it_was(
    simulation: Simulation, store: Store, unlist: Callable[[str, Any], None]
) -> None:
    connection = simulation.connect(store)
    simulation.sync(connection)
    before = simulation.connection(connection).watermark
    unlist(store.platform, _fill(simulation, store, 3)[1])

    assert simulation.sync(connection)["verdict"] == "incomplete"

    assert simulation.connection(connection).watermark == before


def test_a_stored_order_that_is_counted_and_not_listed_is_found_singly_and_not_missing(
    simulation: Simulation, store: Store, unlist: Callable[[str, Any], None]
) -> None:
    connection = simulation.connect(store)
    orders = _fill(simulation, store, 5)
    simulation.sync(connection)
    store.change(orders[2].id, "note", quiet=True)
    simulation.pass_time(100)
    unlist(store.platform, orders[2])

    run = simulation.sync(connection)

    assert (run["verdict"], run["updated"], run["unchanged"], run["listed"]) == ("complete", 1, 4, 5)
    assert simulation.stored(connection) == simulation.truth(connection)


def test_gaps_are_narrowed_to_their_seconds() -> None:
    begin = datetime(2026, 9, 1, tzinfo=UTC)
    window = Window(begin, begin + timedelta(days=60))
    there = [begin + timedelta(seconds=n * 977) for n in range(5_000)]
    lost = {there[3], there[4_000]}
    asked = []

    def count(of: Window) -> int:
        asked.append(of)
        return sum(moment in of for moment in there)

    def seen(of: Window) -> int:
        return sum(moment in of for moment in there if moment not in lost)

    found = gaps.find(count, seen, Gap(window, 5_000, 4_998))

    assert [(gap.window.from_, gap.counted, gap.seen) for gap in found] == [(moment, 1, 0) for moment in sorted(lost)]
    assert {gap.window.until - gap.window.from_ for gap in found} == {timedelta(seconds=1)}
    assert len(asked) <= 2 * 23


def test_counts_end_where_too_many_would_be_asked_for() -> None:
    begin = datetime(2026, 9, 1, tzinfo=UTC)
    window = Window(begin, begin + timedelta(days=60))
    asked = []

    def count(of: Window) -> int:
        asked.append(of)
        return int((of.until - of.from_).total_seconds())

    found = gaps.find(count, lambda _: 0, Gap(window, 5_184_000, 0))

    assert len(asked) == gaps.MOST_COUNTED
    assert sum(gap.counted for gap in found) == 5_184_000


def test_an_order_that_the_database_refuses_fails_alone(
    simulation: Simulation, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = simulation.connect(store)
    orders = _fill(simulation, store, 9)
    written = writing.apply

    def apply(tx: Any, readings: Any, **options: Any) -> Any:
        if any(reading.external_id == str(orders[4].id) for reading in readings):
            tx.exec_driver_sql("SELECT 1 / 0")
        return written(tx, readings, **options)

    monkeypatch.setattr(writing, "apply", apply)

    run = simulation.sync(connection)

    assert (run["state"], run["verdict"], run["created"], run["failed"]) == ("finished", "complete", 8, 1)
    (failed,) = simulation.rows("SELECT * FROM run_items WHERE outcome = 'failed'")
    assert (failed["external_id"], failed["problem"]) == (str(orders[4].id), "internal.unexpected")
    assert failed["problem_detail"].startswith("DataError at ")


# --- counts that move, and orders that no list names -----------------------------------------------------------
@pytest.fixture
def after_each_count(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[], None]], None]:
    """Let something happen in the store right after each of its counts."""

    def register(key: str, happen: Callable[[], None]) -> None:
        platform = REGISTRY[key]

        def count(access: StoreAccess, window: Window) -> Any:
            counted = platform.count(access, window)
            happen()
            return counted

        monkeypatch.setitem(REGISTRY, key, replace(platform, count=count))  # type: ignore[arg-type]

    return register


def test_orders_that_change_while_they_are_counted_raise_no_false_alarm(
    simulation: Simulation, store: Store, after_each_count: Callable[[str, Callable[[], None]], None]
) -> None:
    """A busy store: between count and comparison another order leaves the window, five times in a row."""
    connection = simulation.connect(store)
    orders = _fill(simulation, store, 12)
    left = list(orders[:5])

    def change() -> None:
        simulation.pass_time(3)
        if left:
            store.change(left.pop().id, "note", quiet=True)

    after_each_count(store.platform, change)

    run = simulation.sync(connection)

    assert (run["state"], run["verdict"], run["created"]) == ("finished", "complete", 12)
    assert simulation.stored(connection) == simulation.truth(connection)


def test_a_count_that_never_stands_still_proves_nothing_and_says_so(
    simulation: Simulation, store: Store, after_each_count: Callable[[str, Callable[[], None]], None]
) -> None:
    connection = simulation.connect(store)
    simulation.sync(connection)
    watermark = simulation.connection(connection).watermark
    orders = _fill(simulation, store, 60)

    def change() -> None:
        simulation.pass_time(3)
        store.change(orders.pop().id, "note", quiet=True)

    after_each_count(store.platform, change)

    run = simulation.sync(connection)

    assert (run["state"], run["verdict"], run["problem_detail"]) == ("finished", "unknown", verdict.COUNT_MOVED)
    assert simulation.connection(connection).watermark == watermark


def test_what_was_found_singly_does_not_stand_for_another_order_that_is_lost(
    simulation: Simulation, unlist: Callable[[str, Any], None]
) -> None:
    """An order of a plugin that is off is neither listed nor counted, and found by its id; another is counted and lost:
    one and one are not the same."""
    store = simulation.world.add_store("woocommerce")
    connection = simulation.connect(store)
    orders = _fill(simulation, store, 10)
    store.change(orders[2].id, "status", status="awaiting-pickup", quiet=True)
    simulation.pass_time(100)
    simulation.sync(connection)
    store.plugin_statuses = ()
    lost = store.place(quiet=True, lines=1)
    simulation.pass_time(100)
    unlist("woocommerce", lost)

    run = simulation.sync(connection)

    moment = datetime.fromtimestamp(lost.updated, UTC)
    assert (run["verdict"], run["expected"], run["listed"]) == ("incomplete", 10, 10)
    assert run["checkpoint"]["gaps"] == [[moment.isoformat(), (moment + timedelta(seconds=1)).isoformat(), 1, 0]]


def test_hidden_statuses_are_no_alarm(simulation: Simulation) -> None:
    store = simulation.world.add_store("woocommerce")
    connection = simulation.connect(store)
    orders = _fill(simulation, store, 10)
    for order in orders[2:5]:
        store.change(order.id, "status", status="awaiting-pickup", quiet=True)
    simulation.pass_time(100)
    simulation.sync(connection)
    store.plugin_statuses = ()
    before = simulation.calls

    run = simulation.sync(connection)

    assert (run["verdict"], run["expected"], run["listed"], run["unchanged"]) == ("complete", 7, 10, 10)
    assert simulation.calls - before < 12
