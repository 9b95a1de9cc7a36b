"""Many orders by one operation of the platform: begun, waited for, written in portions; pages do what it does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from backfill import bulk, runner, runs, schedule, writing
from gateway.domain import points
from gateway.domain.problems import STORE_ADDRESS_PRIVATE, STORE_TIMED_OUT, NeedsMerchant, Retry
from gateway.http import Http
from gateway.platforms import REGISTRY
from gateway.platforms.shopify import bulk as shopify_bulk
from gateway.sandbox.shopify import ShopifyStore
from tests.simulation import Simulation

MANY, PORTION = 20, 10
ORDERS = 47


class Died(BaseException):
    """Stands for SIGKILL: nothing of the process runs any more."""


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Orders come in portions of ten, and twenty are enough for an operation."""
    shopify = REGISTRY["shopify"]
    assert shopify.bulk is not None
    able = replace(shopify.bulk, in_pages=lambda access, orders: orders * timedelta(seconds=100))
    monkeypatch.setattr(bulk, "PAGES_TOO_SLOW", MANY * timedelta(seconds=100))
    monkeypatch.setitem(REGISTRY, "shopify", replace(shopify, bulk=able))
    monkeypatch.setattr(shopify_bulk, "PORTION", PORTION)


@pytest.fixture
def store(simulation: Simulation) -> ShopifyStore:
    made = simulation.world.add_store("shopify")
    assert isinstance(made, ShopifyStore)
    return made


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which GraphQL operations and files were asked for, in order."""
    names: list[str] = []
    call, stream = Http.call, Http.stream

    def noted(self: Http, *arguments: Any, **options: Any) -> Any:
        query = (options.get("json") or {}).get("query", "")
        names.append(query.partition("(")[0].partition("{")[0].split()[-1] if query else "")
        return call(self, *arguments, **options)

    def streamed(self: Http, url: str, *, after: int = 0) -> Iterator[bytes]:
        names.append(f"file from {after}" if after else "file")
        return stream(self, url, after=after)

    monkeypatch.setattr(Http, "call", noted)
    monkeypatch.setattr(Http, "stream", streamed)
    return names


def _fill(simulation: Simulation, store: ShopifyStore, count: int = ORDERS) -> int:
    """A connected store whose orders no webhook told of; the connection's id."""
    connection = simulation.connect(store)
    for number in range(count):
        store.place(quiet=True, lines=1 + number % 3)
        simulation.pass_time(1)
    simulation.pass_time(100)
    return connection


def _counters(run: dict[str, Any]) -> dict[str, int]:
    names = ("listed", "created", "updated", "unchanged", "newer_here", "failed", "removed", "hidden")
    return {name: run[name] for name in names if run[name]}


def _is_exact(simulation: Simulation, run: dict[str, Any], connection: int, orders: int = ORDERS) -> None:
    assert (run["state"], run["verdict"], run["problem"]) == ("finished", "complete", None)
    assert _counters(run) == {"listed": orders, "created": orders}
    assert simulation.scalar("SELECT count(*) FROM changes") == orders
    assert simulation.scalar("SELECT count(*) FROM run_items WHERE run_id = :id", id=run["id"]) == orders
    assert simulation.stored(connection) == simulation.truth(connection)


def _begin(simulation: Simulation, connection: int) -> int:
    """A run that has begun its operation and waits for it."""
    opened = simulation.ask(connection)
    runner.work_all(simulation.access, connection)
    assert simulation.run(opened.run_id)["problem"] == "store.preparing"
    return opened.run_id


# --- the main road ---------------------------------------------------------------------------------------------
def test_a_first_import_of_many_is_one_operation_and_equals_the_truth(
    simulation: Simulation, store: ShopifyStore, asked: list[str]
) -> None:
    connection = _fill(simulation, store)

    run = simulation.sync(connection)

    _is_exact(simulation, run, connection)
    assert run["quiet"]
    assert asked.count("BulkBegin") == asked.count("file") == 1
    assert asked.count("Orders") == 1  # one whole order, which tells what may be read
    assert asked.count("Heads") == 1  # what changed meanwhile


def test_while_the_store_works_no_worker_waits_and_the_page_says_why(
    simulation: Simulation, store: ShopifyStore
) -> None:
    store.bulk_orders_per_second = 1.0
    connection = _fill(simulation, store)
    opened = simulation.ask(connection)

    waits = []
    for _ in range(4):
        runner.work_all(simulation.access, connection)
        run = simulation.run(opened.run_id)
        waits.append((run["waiting_until"] - simulation.now()).total_seconds())
        assert (run["state"], run["problem"], run["listed"]) == ("queued", "store.preparing", 0)
        simulation.pass_time(waits[-1])
    simulation.work(connection)

    assert waits == [5.0, 5.0, 5.0, 5.0]
    _is_exact(simulation, simulation.run(opened.run_id), connection)


def test_a_run_of_heads_a_small_one_and_a_preview_begin_no_operation(
    simulation: Simulation, store: ShopifyStore, asked: list[str]
) -> None:
    connection = _fill(simulation, store, MANY - 1)
    simulation.sync(connection)
    store.place(quiet=True)
    simulation.pass_time(100)

    simulation.sync(connection)  # of heads: most is stored
    simulation.sync(connection, preview=True, deep=True)

    assert "BulkBegin" not in asked


def test_a_deep_run_over_many_is_one_operation_and_reads_all(
    simulation: Simulation, store: ShopifyStore, asked: list[str]
) -> None:
    connection = _fill(simulation, store)
    simulation.sync(connection)
    simulation.rows("UPDATE orders SET core_digest = '\\x00' WHERE id = (SELECT min(id) FROM orders) RETURNING id")
    asked.clear()

    deep = simulation.sync(connection, deep=True)

    assert _counters(deep) == {"listed": ORDERS, "updated": 1, "unchanged": ORDERS - 1}
    assert asked.count("BulkBegin") == 1
    assert simulation.stored(connection) == simulation.truth(connection)


def test_each_slice_of_a_divided_window_has_an_operation_of_its_own(
    simulation: Simulation, store: ShopifyStore, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from backfill import slices

    monkeypatch.setattr(slices, "MOST", 45)
    connection = simulation.connect(store)
    for _ in range(30):
        store.place(quiet=True, lines=1)
    simulation.pass_time(5 * 86_400)
    for _ in range(40):
        store.place(quiet=True, lines=1)
    simulation.pass_time(100)
    store.issue_tokens()
    with simulation.database.transaction() as tx:
        from sqlalchemy import text

        closed = simulation.access.vault.close({"access_token": store.access_tokens[-1].value})
        tx.execute(text("UPDATE connections SET credentials = :closed"), {"closed": closed})

    run = simulation.sync(connection)

    _is_exact(simulation, run, connection, 70)
    assert asked.count("BulkBegin") == 2


def test_what_changes_during_the_operation_is_read_after_it(simulation: Simulation, store: ShopifyStore) -> None:
    connection = _fill(simulation, store)
    orders = list(store.orders.values())
    run_id = _begin(simulation, connection)
    store.change(orders[0].id, "note", quiet=True)
    store.change(orders[1].id, "delete", quiet=True)
    store.place(quiet=True)

    simulation.work(connection)

    run = simulation.run(run_id)
    assert (run["state"], run["verdict"]) == ("finished", "complete")
    assert simulation.stored(connection) == simulation.truth(connection)
    assert run["created"] == ORDERS


def test_a_webhook_that_comes_first_is_not_undone_by_what_the_operation_read_before(
    simulation: Simulation, store: ShopifyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is written before the change and read after it."""
    connection = _fill(simulation, store)
    order = next(iter(store.orders.values()))
    rows = shopify_bulk.rows

    def late(*arguments: Any) -> Iterator[Any]:
        pages = list(rows(*arguments))
        store.change(order.id, "note")
        simulation.deliver_all()
        simulation.drain()
        simulation.pass_time(30)
        return iter(pages)

    able = REGISTRY["shopify"].bulk
    assert able is not None
    monkeypatch.setitem(REGISTRY, "shopify", replace(REGISTRY["shopify"], bulk=replace(able, rows=late)))

    run = simulation.sync(connection)

    assert run["verdict"] == "complete"
    assert (run["created"], run["newer_here"]) == (ORDERS - 1, 1)
    assert simulation.stored(connection) == simulation.truth(connection)


def test_the_link_is_kept_nowhere(simulation: Simulation, store: ShopifyStore) -> None:
    """Whoever has it can read the orders."""
    connection = _fill(simulation, store)

    run_id = _begin(simulation, connection)
    waiting = str(simulation.run(run_id)["checkpoint"])
    simulation.work(connection)

    assert "gid://shopify/BulkOperation/" in waiting
    assert "http" not in waiting
    assert "http" not in str(simulation.run(run_id))


def test_another_run_of_the_store_goes_on_while_one_waits_for_its_operation(
    simulation: Simulation, store: ShopifyStore
) -> None:
    connection = _fill(simulation, store)
    run_id = _begin(simulation, connection)
    schedule.catch_up_all(simulation.access)

    runner.work_all(simulation.access, connection)

    other = simulation.rows("SELECT state FROM sync_runs WHERE kind = 'catch_up'")
    assert simulation.run(run_id)["state"] == "queued"
    assert other[0]["state"] in ("finished", "queued")
    simulation.work(connection)
    assert simulation.run(run_id)["verdict"] == "complete"
    assert simulation.stored(connection) == simulation.truth(connection)


def test_a_deep_run_lets_a_merchants_go_first_at_the_border_of_a_portion_and_reads_on_from_there(
    simulation: Simulation, store: ShopifyStore, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = _fill(simulation, store)
    with simulation.database.transaction() as tx:
        window = runs.window_of_days(30, simulation.now(), timedelta())
        runs.open_by_itself(tx, simulation.connection(connection), "catch_up", window, deep=True)
    manual: list[int] = []
    write = runner.Runner._write

    def meanwhile(self: runner.Runner, *arguments: Any, **options: Any) -> None:
        if not manual:
            manual.append(simulation.ask(connection).run_id)
        write(self, *arguments, **options)

    monkeypatch.setattr(runner.Runner, "_write", meanwhile)

    simulation.work(connection)

    deep, asked_for = (simulation.run(run_id) for run_id in (1, manual[0]))
    assert (deep["verdict"], asked_for["verdict"]) == ("complete", "complete")
    # While the merchant's run waits for an operation of its own, the deep one has the time to go on.
    assert asked.count("BulkBegin") == 2
    assert sum(name == "file" for name in asked) == 2
    assert any(name.startswith("file from") for name in asked)
    assert deep["created"] + asked_for["created"] == ORDERS
    assert simulation.stored(connection) == simulation.truth(connection)


# --- crashes ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("point", "times"),
    [
        ("after_bulk_begin", 1), ("after_bulk_checkpoint", 1),
        *[(point, times) for point in ("after_page_fetch", "inside_page", "before_page_commit", "after_page_commit")
          for times in (1, 3, 5)],
    ],
)  # fmt: skip
def test_a_crash_at_any_point_goes_on_and_counts_nothing_twice(
    simulation: Simulation, store: ShopifyStore, monkeypatch: pytest.MonkeyPatch, point: str, times: int
) -> None:
    connection = _fill(simulation, store)
    left = times

    def reached(name: str) -> None:
        nonlocal left
        if name == point:
            left -= 1
            if left == 0:
                raise Died

    monkeypatch.setattr(points, "reached", reached)
    opened = simulation.ask(connection)
    with pytest.raises(Died):
        simulation.work(connection)
    assert simulation.run(opened.run_id)["state"] == "running"

    simulation.work(connection)

    assert left <= 0
    _is_exact(simulation, simulation.run(opened.run_id), connection)
    assert len(store.bulk) == (2 if point == "after_bulk_begin" else 1)


def test_after_a_crash_the_file_is_read_from_where_it_was_written(
    simulation: Simulation, store: ShopifyStore, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = _fill(simulation, store)
    left = 3

    def reached(name: str) -> None:
        nonlocal left
        left -= name == "after_page_commit"
        if left == 0:
            raise Died

    monkeypatch.setattr(points, "reached", reached)
    simulation.ask(connection)
    with pytest.raises(Died):
        simulation.work(connection)
    monkeypatch.setattr(points, "reached", lambda _: None)

    simulation.work(connection)

    files = [name for name in asked if name.startswith("file")]
    assert files[0] == "file"
    assert files[1].startswith("file from ")
    assert len(files) == 2


def test_a_frozen_worker_that_wakes_up_writes_nothing(simulation: Simulation, store: ShopifyStore) -> None:
    connection = _fill(simulation, store)
    run_id = _begin(simulation, connection)
    simulation.pass_time(60)
    with simulation.database.transaction() as tx:
        frozen = runs.take(tx, connection, now=simulation.now())
    assert frozen is not None
    simulation.work(connection)
    done = simulation.run(run_id)

    runner.Runner(simulation.access, frozen).run()

    assert simulation.run(run_id) == done
    _is_exact(simulation, done, connection)


def test_a_run_that_is_stopped_while_it_waits_goes_on_with_the_same_operation(
    simulation: Simulation, store: ShopifyStore
) -> None:
    connection = _fill(simulation, store)
    run_id = _begin(simulation, connection)
    with simulation.database.transaction() as tx:
        assert runs.stop(tx, simulation.scope, run_id)
    simulation.pass_time(600)
    with simulation.database.transaction() as tx:
        assert runs.resume(tx, simulation.scope, run_id)

    simulation.work(connection)

    _is_exact(simulation, simulation.run(run_id), connection)
    assert len(store.bulk) == 1


def test_a_run_that_is_resumed_when_its_file_has_gone_goes_on_in_pages(
    simulation: Simulation, store: ShopifyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = _fill(simulation, store)
    run_id = _begin(simulation, connection)
    with simulation.database.transaction() as tx:
        runs.stop(tx, simulation.scope, run_id)
    simulation.pass_time(600)
    for each in store.bulk.values():
        each.ends -= 8 * 86_400
    with simulation.database.transaction() as tx:
        runs.resume(tx, simulation.scope, run_id)

    simulation.work(connection)

    _is_exact(simulation, simulation.run(run_id), connection)


# --- what goes wrong -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("fault", ["bulk_refuse", "bulk_fail", "bulk_cancel", "bulk_expire", "bulk_gone"])
def test_whatever_becomes_of_the_operation_the_run_is_exact(
    simulation: Simulation, store: ShopifyStore, asked: list[str], fault: str
) -> None:
    connection = _fill(simulation, store)
    store.faults.set({fault: 1})

    run = simulation.sync(connection)

    _is_exact(simulation, run, connection)
    assert len(store.bulk) == (0 if fault == "bulk_refuse" else 1)


def test_what_partial_data_brought_is_kept_and_only_the_rest_is_fetched(
    simulation: Simulation, store: ShopifyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "SAMPLED", 0.0)
    connection = _fill(simulation, store)
    store.faults.set({"bulk_fail": 1})
    written: list[int] = []
    write = writing.write

    def noted(*arguments: Any) -> Any:
        written.append(len(arguments[-1]))
        return write(*arguments)

    monkeypatch.setattr(writing, "write", noted)

    run = simulation.sync(connection)

    _is_exact(simulation, run, connection)
    brought = sum(written[:3])
    assert 0 < brought < ORDERS
    assert sum(written) == ORDERS  # none is written twice


def test_a_deep_run_reads_what_partial_data_lacks_and_all_the_rest_itself(
    simulation: Simulation, store: ShopifyStore
) -> None:
    connection = _fill(simulation, store)
    simulation.sync(connection)
    simulation.rows("UPDATE orders SET core_digest = '\\x00' RETURNING id")
    store.faults.set({"bulk_fail": 1})

    deep = simulation.sync(connection, deep=True)

    assert _counters(deep) == {"listed": ORDERS, "updated": ORDERS}
    assert deep["verdict"] == "complete"


def test_five_at_once_are_enough_and_the_sixth_goes_in_pages(
    simulation: Simulation, store: ShopifyStore, asked: list[str]
) -> None:
    store.bulk_orders_per_second = 0.001
    connection = _fill(simulation, store)
    access = simulation.access.store(simulation.connection(connection))
    window = runs.window_of_days(7, simulation.now(), timedelta())
    for _ in range(5):
        shopify_bulk.begin(access, window)

    run = simulation.sync(connection)

    _is_exact(simulation, run, connection)
    assert not any(name.startswith("file") for name in asked)


def test_an_operation_that_takes_longer_than_pages_would_is_not_waited_for(
    simulation: Simulation, store: ShopifyStore, asked: list[str]
) -> None:
    store.bulk_orders_per_second = 0.001
    connection = _fill(simulation, store)

    run = simulation.sync(connection)

    _is_exact(simulation, run, connection)
    assert 5 < asked.count("BulkLook") < 10  # 700 s pass between two looks here, and pages would take 4,700 s
    assert not any(name.startswith("file") for name in asked)


def test_a_store_that_denies_the_person_is_read_in_pages(
    simulation: Simulation, store: ShopifyStore, asked: list[str]
) -> None:
    """A file says null for what was denied and for what the buyer left empty."""
    store.protected_data = 1
    connection = _fill(simulation, store)

    run = simulation.sync(connection)

    assert (run["state"], run["verdict"], run["created"]) == ("finished", "complete", ORDERS)
    assert "BulkBegin" not in asked


@pytest.mark.parametrize("before_the_file", [True, False])
def test_a_person_that_is_denied_after_the_operation_began_is_not_taken_for_empty(
    simulation: Simulation, store: ShopifyStore, asked: list[str], before_the_file: bool
) -> None:
    connection = _fill(simulation, store)
    run_id = _begin(simulation, connection)
    if before_the_file:
        store.protected_data = 1  # the operation fails by it
    else:
        simulation.rows("UPDATE connections SET granted_parts = '{core}' RETURNING id")  # what another run learnt

    simulation.work(connection)

    assert (simulation.run(run_id)["verdict"], simulation.run(run_id)["created"]) == ("complete", ORDERS)
    assert not any(name.startswith("file") for name in asked)
    assert simulation.scalar("SELECT count(person) FROM orders") == (0 if before_the_file else ORDERS)


def _broken(times: int, error: Callable[[], Exception]) -> Any:
    """A stream that breaks off in mid-file so many times."""
    stream = Http.stream
    left = times

    def breaks(self: Http, url: str, *, after: int = 0) -> Iterator[bytes]:
        nonlocal left
        pieces = stream(self, url, after=after)
        if left:
            left -= 1
            yield next(pieces)[:30_000]  # some thirteen orders
            raise error()
        yield from pieces

    return breaks


@pytest.mark.parametrize("times", [1, 3, 100])
def test_a_file_that_breaks_off_is_read_on_and_in_the_end_left(
    simulation: Simulation, store: ShopifyStore, asked: list[str], monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    connection = _fill(simulation, store)
    monkeypatch.setattr(Http, "stream", _broken(times, lambda: Retry(STORE_TIMED_OUT, "storage.test", host="x")))

    run = simulation.sync(connection)

    _is_exact(simulation, run, connection)
    assert asked.count("BulkLook") == min(times + 1, bulk.MOST_BROKEN_OFF) + 1
    assert asked.count("Heads") == (2 if times == 100 else 1)  # what the file did not bring, and what changed meanwhile


def test_a_link_that_may_not_be_followed_stops_no_run(
    simulation: Simulation, store: ShopifyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = _fill(simulation, store)
    refused = _broken(1, lambda: NeedsMerchant(STORE_ADDRESS_PRIVATE, "storage.test", host="storage.test"))
    monkeypatch.setattr(Http, "stream", refused)

    run = simulation.sync(connection)

    _is_exact(simulation, run, connection)
    assert simulation.connection(connection).state == "connected"


def test_a_key_that_is_refused_stops_the_run_as_ever(simulation: Simulation, store: ShopifyStore) -> None:
    connection = _fill(simulation, store)
    run_id = _begin(simulation, connection)
    store.uninstall()
    simulation.pass_time(60)

    simulation.work(connection)

    run = simulation.run(run_id)
    assert (run["state"], run["problem"]) == ("stopped", "connection.token_revoked")
    assert simulation.connection(connection).state == "action_needed"


def test_a_store_that_fails_now_and_then_while_it_is_waited_for_stops_no_run(
    simulation: Simulation, store: ShopifyStore
) -> None:
    """Looks that are answered are progress: eight errors in an hour are not eight in a row."""
    store.bulk_orders_per_second = 0.02
    connection = _fill(simulation, store)
    run_id = _begin(simulation, connection)
    for _ in range(10):
        store.faults.set({"5xx": 1})
        simulation.pass_time(61)
        runner.work_all(simulation.access, connection)
        simulation.pass_time(61)
        runner.work_all(simulation.access, connection)
    assert simulation.run(run_id)["state"] == "queued"

    simulation.work(connection)

    _is_exact(simulation, simulation.run(run_id), connection)


def test_a_payload_that_can_not_be_read_fails_alone(
    simulation: Simulation, store: ShopifyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gateway.domain.problems import PAYLOAD_FIELD, Refused

    connection = _fill(simulation, store)
    bad = str(next(iter(store.orders)))
    read = writing.read_order

    def strict(*arguments: Any, **options: Any) -> Any:
        reading = read(*arguments, **options)
        if reading.external_id == bad:
            raise Refused(PAYLOAD_FIELD, "total: broken")
        return reading

    monkeypatch.setattr(writing, "read_order", strict)

    run = simulation.sync(connection)

    assert _counters(run) == {"listed": ORDERS, "created": ORDERS - 1, "failed": 1}
