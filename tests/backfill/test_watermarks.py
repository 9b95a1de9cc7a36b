"""A watermark says up to when a store is known to be in step: whatever moves it must have looked at all before it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backfill import runs, schedule
from backfill.catch_up import window_since
from gateway.connections import model
from gateway.http import Answer
from gateway.platforms import REGISTRY, fields
from tests.simulation import Simulation

DAY = 86_400


def _catch_up(simulation: Simulation, connection: int) -> dict[str, Any]:
    with simulation.database.transaction() as tx:
        there = model.get(tx, connection)
        assert there is not None
        runs.open_by_itself(tx, there, "catch_up", window_since(there, simulation.now()))
    simulation.work(connection)
    return simulation.rows("SELECT * FROM sync_runs ORDER BY id DESC LIMIT 1")[0]


def test_a_listing_by_when_orders_were_placed_says_nothing_of_updates(simulation: Simulation) -> None:
    """Etsy's nightly deep run lists what was placed in 60 days: an older order may have changed since the watermark."""
    store = simulation.world.add_store("etsy")
    connection = simulation.connect(store)
    old = store.place(quiet=True)
    simulation.sync(connection)
    simulation.pass_time(70 * DAY)
    _catch_up(simulation, connection)
    before = simulation.connection(connection).watermark
    store.change(old.id, "ship", quiet=True)
    simulation.pass_time(DAY)

    schedule.open_nightly(simulation.access, simulation.now())
    simulation.work(connection)

    assert simulation.connection(connection).watermark == before
    _catch_up(simulation, connection)
    assert simulation.stored(connection) == simulation.truth(connection)


@pytest.mark.parametrize("platform", ["shopify", "woocommerce", "etsy"])
def test_a_run_that_begins_after_the_gap_does_not_close_it(simulation: Simulation, platform: str) -> None:
    """Nothing was ever caught up, and seven days do not reach back to where nine begin."""
    store = simulation.world.add_store(platform)
    connection = simulation.connect(store)
    simulation.pass_time(60)
    lost = store.place(quiet=True)
    simulation.pass_time(9 * DAY)

    simulation.sync(connection, days=7)

    assert simulation.connection(connection).watermark is None
    _catch_up(simulation, connection)
    assert str(lost.id) in simulation.stored(connection)


@pytest.mark.parametrize("platform", ["shopify", "woocommerce"])
def test_a_run_that_reaches_back_to_the_install_is_a_first_watermark(simulation: Simulation, platform: str) -> None:
    connection = simulation.connect(simulation.world.add_store(platform))
    simulation.pass_time(6 * DAY)

    simulation.sync(connection, days=7)

    assert simulation.connection(connection).watermark == simulation.now().replace(microsecond=0)


def test_a_clock_that_goes_back_takes_the_watermark_with_it(simulation: Simulation) -> None:
    """A store, or a proxy before it, is a day ahead and then set right: that day must not be skipped."""
    store = simulation.world.add_store("woocommerce", skew_seconds=DAY)
    connection = simulation.connect(store)
    simulation.pass_time(600)
    _catch_up(simulation, connection)
    store.skew = timedelta(0)
    lost = store.place(quiet=True)
    simulation.pass_time(2 * 3600)

    _catch_up(simulation, connection)
    run = _catch_up(simulation, connection)

    assert str(lost.id) in simulation.stored(connection)
    assert run["window_until"] - run["window_from"] <= timedelta(minutes=16)
    assert simulation.connection(connection).watermark == run["window_until"]


def test_an_order_that_fails_in_a_catch_up_is_read_again_without_anyone_asking(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = simulation.world.add_store("woocommerce")
    connection = simulation.connect(store)
    order = store.place(quiet=True, lines=1)
    simulation.pass_time(100)
    platform = REGISTRY["woocommerce"]

    def refuse(*_: Any, **__: Any) -> Any:
        raise fields.refuse("total", "it is not an amount")

    monkeypatch.setitem(REGISTRY, "woocommerce", replace(platform, normalise=refuse))  # type: ignore[arg-type]
    run = _catch_up(simulation, connection)
    assert (run["failed"], run["verdict"]) == (1, "complete")
    monkeypatch.undo()

    simulation.rows("UPDATE rereads SET due_at = '2000-01-01' RETURNING 1")
    simulation.reread()

    assert list(simulation.stored(connection)) == [str(order.id)]


NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "skew"),
    [
        ({"date": "Tue, 24 Nov 2026 11:59:00 GMT"}, timedelta(minutes=1)),
        ({"date": "Tue, 24 Nov 2026 11:00:00 GMT", "age": "3600"}, None),  # a cache's old answer
        ({"date": "Tue, 24 Nov 2026 12:00:00 GMT", "age": "3600"}, None),  # and one that writes its own Date
        ({"date": "Tue, 24 Nov 2026 11:59:00 GMT", "age": "0"}, timedelta(minutes=1)),
        ({"date": "Fri, 31 Dec 9999 23:59:59 -2300"}, None),
        ({"date": "Thu, 01 Jan 1970 00:00:00 GMT"}, None),
        ({}, None),
    ],
)
def test_only_a_fresh_answer_tells_the_stores_clock(headers: dict[str, str], skew: timedelta | None) -> None:
    assert Answer(200, headers, b"", 0.1, NOW).skew == skew


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.2"}, 1.0),
        ({"retry-after": "Tue, 24 Nov 2026 12:01:30 GMT"}, 90.0),
        ({"retry-after": "Tue, 24 Nov 2026 12:01:30 GMT", "date": "Tue, 24 Nov 2026 12:01:00 GMT"}, 30.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "9" * 400}, 6 * 3600.0),
    ],
)
def test_a_wait_is_named_in_seconds_or_by_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert Answer(429, headers, b"", 0.1, NOW).retry_after == seconds


def test_an_age_beyond_reason_is_no_time() -> None:
    headers = {"date": "Tue, 24 Nov 2026 12:00:00 GMT", "age": "9" * 30}

    assert Answer(200, headers, b"", 0.1, NOW).observed_at is None
