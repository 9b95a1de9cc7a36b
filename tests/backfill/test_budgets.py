"""Runs at stores that bear little, answer strangely or move on meanwhile: they end, and lose nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from backfill import hold, runner
from gateway.domain.problems import STORE_NOT_JSON, STORE_THROTTLED, TOKEN_REVOKED, NeedsMerchant, Retry
from gateway.platforms import REGISTRY
from gateway.platforms.base import Platform
from gateway.sandbox.stores import Store
from gateway.sandbox.woocommerce import WooStore
from tests.simulation import Simulation


@pytest.fixture(params=["shopify", "woocommerce"])
def store(request: pytest.FixtureRequest, simulation: Simulation) -> Store:
    return simulation.world.add_store(request.param)


@pytest.fixture(autouse=True)
def no_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "SAMPLED", 0.0)


@pytest.fixture
def wrap(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put something around functions of a platform: `around(function, *arguments)` answers for them."""

    def wrap(key: str, names: list[str], around: Callable[..., Any]) -> None:
        platform: Platform = REGISTRY[key]

        def wrapped(function: Any) -> Any:
            return lambda *arguments, **options: around(function, *arguments, **options)

        changes = {name: wrapped(getattr(platform, name)) for name in names}
        monkeypatch.setitem(REGISTRY, key, replace(platform, **changes))  # type: ignore[arg-type]

    return wrap


def _fill(simulation: Simulation, store: Store, count: int) -> list[Any]:
    orders = []
    for _ in range(count):
        orders.append(store.place(quiet=True, lines=1))
        simulation.pass_time(1)
    simulation.pass_time(100)
    return orders


class _Purse:
    """So many calls, then throttled until the run has waited."""

    def __init__(self, simulation: Simulation, calls: int) -> None:
        self._simulation, self._calls = simulation, calls
        self._left, self._filled = calls, simulation.now()

    def __call__(self, function: Any, *arguments: Any, **options: Any) -> Any:
        if self._simulation.now() > self._filled:
            self._left, self._filled = self._calls, self._simulation.now()
        if not self._left:
            raise Retry(STORE_THROTTLED, "spent", after_seconds=10)
        self._left -= 1
        return function(*arguments, **options)


def _work(simulation: Simulation, connection: int, rounds: int = 40) -> None:
    """The run's waits pass one by one; more than `rounds` of them is a run without end."""
    for _ in range(rounds):
        runner.work_all(simulation.access, connection)
        if not simulation.scalar("SELECT count(*) FROM sync_runs WHERE state IN ('queued', 'running')"):
            return
        simulation.pass_time(61)
    raise AssertionError("the run never ends")


def test_a_budget_of_one_page_of_heads_a_time_comes_to_an_end(
    simulation: Simulation, store: Store, wrap: Callable[..., None]
) -> None:
    """Heads of four pages are compared together: a budget for one was spent on the first of the four for ever."""
    connection = simulation.connect(store)
    _fill(simulation, store, 640 if store.platform == "shopify" else 330)
    simulation.sync(connection)
    opened = simulation.ask(connection)
    wrap(store.platform, ["list_heads", "list_page"], _Purse(simulation, 1))

    _work(simulation, connection)

    run = simulation.run(opened.run_id)
    assert (run["state"], run["verdict"], run["unchanged"]) == ("finished", "complete", run["listed"])
    assert run["listed"] == len(store.truth())


def test_what_changed_meanwhile_is_listed_in_pieces_too(
    simulation: Simulation, store: Store, wrap: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = simulation.connect(store)
    orders = _fill(simulation, store, 640 if store.platform == "shopify" else 330)
    simulation.sync(connection)
    opened = simulation.ask(connection)
    tail = runner.Runner._list_tail
    changed = []

    def after_much_changed(self: runner.Runner) -> None:
        if not changed:
            for order in orders[20:]:
                changed.append(store.change(order.id, "note", quiet=True))
                simulation.pass_time(1)
            simulation.pass_time(70)
            wrap(store.platform, ["list_heads", "list_page"], _Purse(simulation, 2))
        tail(self)

    monkeypatch.setattr(runner.Runner, "_list_tail", after_much_changed)

    _work(simulation, connection, rounds=80)

    run = simulation.run(opened.run_id)
    assert (run["state"], run["verdict"], run["updated"]) == ("finished", "complete", len(changed))
    assert simulation.stored(connection) == simulation.truth(connection)


def test_an_order_that_is_listed_twice_is_counted_once(
    simulation: Simulation, store: Store, wrap: Callable[..., None]
) -> None:
    connection = simulation.connect(store)
    _fill(simulation, store, 20)
    simulation.sync(connection)

    def twice(function: Any, *arguments: Any, **options: Any) -> Any:
        page = function(*arguments, **options)
        return replace(page, heads=[*page.heads, *page.heads[:3]])

    wrap(store.platform, ["list_heads"], twice)

    run = simulation.sync(connection)

    assert (run["state"], run["verdict"], run["listed"], run["unchanged"]) == ("finished", "complete", 20, 20)


def test_a_token_may_end_as_often_as_its_hours_pass(
    simulation: Simulation, store: Store, wrap: Callable[..., None]
) -> None:
    """A long run outlives several tokens: each refresh that was followed by progress is forgotten."""
    connection = simulation.connect(store)
    _fill(simulation, store, 250)
    calls = iter(range(1_000))

    def refused_at_times(function: Any, *arguments: Any, **options: Any) -> Any:
        if next(calls) in (1, 4):
            raise NeedsMerchant(TOKEN_REVOKED, "expired", why="expired")
        return function(*arguments, **options)

    wrap(store.platform, ["list_page"], refused_at_times)

    run = simulation.sync(connection)

    assert (run["state"], run["verdict"], run["created"]) == ("finished", "complete", 250)
    assert simulation.connection(connection).state == "connected"


def test_a_store_that_wants_to_be_left_alone_is_asked_less_and_less_often(
    simulation: Simulation, store: Store, wrap: Callable[..., None]
) -> None:
    connection = simulation.connect(store)
    opened = simulation.ask(connection)

    def busy(function: Any, *_: Any, **__: Any) -> Any:
        raise Retry(STORE_THROTTLED, "429", after_seconds=5)

    wrap(store.platform, ["shop"], busy)
    waits = []
    for _ in range(13):
        runner.work_all(simulation.access, connection)
        until = simulation.run(opened.run_id)["waiting_until"]
        waits.append((until - simulation.now()).total_seconds())
        simulation.pass_time(waits[-1] + 1)

    assert waits == [5, 5, 5, 5, 5, 8, 16, 32, 64, 128, 256, 300, 300]
    assert simulation.run(opened.run_id)["state"] == "queued"


def test_a_host_that_answers_every_page_alike_stops_the_run_and_does_not_keep_it_for_ever(
    simulation: Simulation, wrap: Callable[..., None]
) -> None:
    store = simulation.world.add_store("woocommerce")
    assert isinstance(store, WooStore)
    connection = simulation.connect(store)
    _fill(simulation, store, 130)
    first: dict[str, Any] = {}

    def cached(function: Any, access: Any, window: Any, cursor: Any, **options: Any) -> Any:
        def same(*arguments: Any, **asked: Any) -> Any:
            answer = access.http.call(*arguments, **asked)
            return first.setdefault("answer", answer)

        class Cache:
            call = staticmethod(same)

        return function(replace(access, http=Cache), window, cursor, **options)

    wrap("woocommerce", ["list_page", "list_heads"], cached)

    run = simulation.sync(connection)

    assert (run["state"], run["problem"]) == ("stopped", STORE_NOT_JSON.code)
    assert simulation.calls < 60


def test_another_receipt_than_the_one_asked_for_is_no_answer(simulation: Simulation, wrap: Callable[..., None]) -> None:
    """It was taken as an answer, and the one that was asked for was asked for again for ever."""
    store = simulation.world.add_store("etsy")
    connection = simulation.connect(store)
    orders = _fill(simulation, store, 3)
    simulation.sync(connection)
    platform = REGISTRY["etsy"]
    access = simulation.access.store(simulation.connection(connection))
    answer = access.http.call
    simulation.pass_time(2)

    class Confused:
        @staticmethod
        def call(method: str, url: str, **options: Any) -> Any:
            return answer(method, url.replace(str(orders[0].id), str(orders[1].id)), **options)

    with pytest.raises(Retry) as raised:
        list(platform.fetch_orders(replace(access, http=Confused), [str(orders[0].id)]))  # type: ignore[arg-type]

    assert raised.value.problem is STORE_NOT_JSON


def test_a_worker_whose_store_takes_minutes_is_not_taken_for_frozen(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifty orders that no list shows are asked for one by one, at 3 s each: longer than a worker may be silent."""
    store = simulation.world.add_store("woocommerce")
    connection = simulation.connect(store)
    orders = _fill(simulation, store, 50)
    simulation.sync(connection)
    for order in orders:
        store.change(order.id, "trash", quiet=True)
    simulation.pass_time(100)
    opened = simulation.ask(connection)
    signs = []
    look_up = runner.Runner._look_up

    def slowly(self: runner.Runner, ids: Any) -> Any:
        old = "UPDATE sync_runs SET seen_at = '2026-01-01' WHERE id = :id RETURNING seen_at"
        simulation.rows(old, id=opened.run_id)
        found = look_up(self, ids)
        signs.append(simulation.scalar("SELECT seen_at > '2026-01-01' FROM sync_runs WHERE id = :id", id=opened.run_id))
        return found

    monkeypatch.setattr(runner.Runner, "_look_up", slowly)
    monkeypatch.setattr(hold, "SIGN_SECONDS", 0.0)

    simulation.work(connection)

    assert signs == [True]
    assert simulation.run(opened.run_id)["removed"] == 50
