"""One bucket for all workers, and who goes first where it is short."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

from gateway.connections import access, pacing
from gateway.db.engine import Database
from gateway.domain.problems import STORE_THROTTLED, Retry
from gateway.platforms import REGISTRY
from gateway.platforms.base import Budget
from tests.simulation import Simulation

BUCKET = "etsy:key"


@pytest.fixture
def database(clean_database: str) -> Iterator[Database]:
    made = Database(clean_database, pool_size=8)
    yield made
    made.close()


def _ask(database: Database, cost: float = 1.0, purpose: pacing.Purpose = "hooks") -> float:
    return pacing.reserve(database, BUCKET, cost, capacity=100, restore_per_second=0.001, purpose=purpose)


def _level(database: Database) -> float:
    with database.transaction() as tx:
        return float(tx.execute(text("SELECT available FROM rate_budgets")).scalar_one())


def test_workers_at_once_take_no_more_than_there_is(database: Database) -> None:
    taken: list[float] = []

    def work() -> None:
        taken.extend(_ask(database, 10) for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(wait == 0.0 for wait in taken) == 10
    assert -0.1 < _level(database) < 1


def test_whoever_comes_later_leaves_a_share_to_those_before(database: Database) -> None:
    order: list[pacing.Purpose] = ["background", "catch_up", "user", "hooks"]
    got = {}
    for purpose in order:
        got[purpose] = 0
        while _ask(database, 1, purpose) == 0.0:
            got[purpose] += 1

    assert got == {"background": 50, "catch_up": 20, "user": 20, "hooks": 10}


def test_what_costs_as_much_as_the_bucket_holds_is_let_through_when_it_is_full(database: Database) -> None:
    assert _ask(database, 100, "background") == 0.0
    assert _ask(database, 100, "background") > 1000


def test_the_wait_is_as_long_as_the_refill_takes(database: Database) -> None:
    pacing.correct(database, BUCKET, Budget(available=0, capacity=100, restore_per_second=2))

    assert pacing.reserve(database, BUCKET, 30, capacity=1, restore_per_second=1, purpose="hooks") == pytest.approx(
        15, abs=0.5
    )


def test_below_a_tenth_of_the_day_only_webhooks_orders_are_asked_for_and_below_three_percent_nothing(
    database: Database,
) -> None:
    def go(left: float) -> list[pacing.Purpose]:
        pacing.correct(database, BUCKET, Budget(100, 100, 1, day_left=left, day_limit=10_000))
        return [purpose for purpose in pacing.LEFT_OF_DAY if _ask(database, 1, purpose) == 0.0]

    assert go(9_000) == ["hooks", "user", "catch_up", "background"]
    assert go(3_000) == ["hooks", "user", "catch_up"]
    assert go(1_500) == ["hooks", "user"]
    assert go(900) == ["hooks"]
    assert go(200) == []


def test_a_days_calls_come_back_as_the_day_goes_by(database: Database) -> None:
    pacing.correct(database, BUCKET, Budget(100, 100, 1, day_left=900, day_limit=10_000))
    wait = _ask(database, 1, "user")
    assert wait == pytest.approx(100 / (10_000 / 86_400), rel=0.01)

    with database.transaction() as tx:
        tx.execute(text("UPDATE rate_budgets SET day_seen_at = now() - interval '15 minutes'"))

    assert _ask(database, 1, "user") == 0.0


def test_an_answer_without_the_days_figures_leaves_them_as_they_were(database: Database) -> None:
    pacing.correct(database, BUCKET, Budget(100, 100, 1, day_left=50, day_limit=10_000))
    pacing.correct(database, BUCKET, Budget(100, 100, 1))

    assert pacing.day_limit(database, BUCKET) == 10_000
    assert _ask(database) > 0


@pytest.mark.parametrize("platform", ["woocommerce", "etsy"])
def test_a_retry_after_is_obeyed_by_everybody_who_asks_of_the_same_bucket(
    clean_database: str, platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Simulation(clean_database) as simulation:
        simulation.open_account()
        store, another = (simulation.world.add_store(each, key) for each, key in (
            (platform, "41234567"), ("woocommerce", "another")
        ))  # fmt: skip
        connection, other = (simulation.connection(simulation.connect(each)) for each in (store, another))
        monkeypatch.setattr(access, "pacing", pacing)
        monkeypatch.setattr(access, "PATIENCE_SECONDS", 0.0)
        store.faults.set({"throttle": 1})
        with pytest.raises(Retry) as refused:
            REGISTRY[platform].shop(simulation.access.store(connection))
        assert refused.value.problem is STORE_THROTTLED
        before = simulation.calls

        with pytest.raises(Retry) as waiting:
            REGISTRY[platform].shop(simulation.access.store(connection))

        assert waiting.value.problem is STORE_THROTTLED
        assert 0 < waiting.value.after_seconds <= 2
        assert simulation.calls == before, "nobody asked meanwhile"
        REGISTRY["woocommerce"].shop(simulation.access.store(other))


@pytest.mark.parametrize(("capacity", "restore"), [(1_000, 50), (2_000, 100)])
@pytest.mark.parametrize("purpose", ["user", "catch_up", "background"])
def test_a_full_bucket_bears_a_page_of_heads_and_after_a_short_wait_what_they_show(
    database: Database, capacity: float, restore: float, purpose: pacing.Purpose
) -> None:
    """Or a run would list its heads, wait for the orders behind them, and begin with the heads again, for ever."""
    rate: Any = {"capacity": capacity, "restore_per_second": restore, "purpose": purpose}
    pacing.correct(database, "b", Budget(capacity, capacity, restore))

    assert pacing.reserve(database, "b", 252, **rate) == 0
    pacing.correct(database, "b", Budget(capacity - 252, capacity, restore))

    assert pacing.reserve(database, "b", 922, **rate) < access.PATIENCE_SECONDS
