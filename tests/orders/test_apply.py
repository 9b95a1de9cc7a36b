"""The one writer: what wins, what is told, and that two at once count nothing twice."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from gateway.domain.version import Version
from gateway.orders import feed
from gateway.orders.apply import Removal, apply, remove
from gateway.orders.reading import Reading, read_order
from gateway.platforms import REGISTRY
from tests.processes import until
from tests.simulation import BEGINNING, Simulation

T0 = BEGINNING


@pytest.fixture
def simulation(clean_database: str) -> Iterator[Simulation]:
    with Simulation(clean_database) as simulation:
        simulation.open_account()
        yield simulation


class Desk:
    """Readings of one WooCommerce order, and what the writer makes of them."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        store = simulation.world.add_store("woocommerce")
        self.connection = simulation.connect(store)
        self.payload = store.render(store.place(quiet=True))
        self.account = simulation.account_id

    def reading(
        self,
        *,
        observed: float = 0,
        updated: float = 0,
        kind: Any = "webhook",
        parts: Any = ("core", "person"),
        **changes: Any,
    ) -> Reading:
        moment = (T0 + timedelta(seconds=updated)).replace(tzinfo=None).isoformat()
        payload = {**self.payload, "date_modified_gmt": moment, **changes}
        return read_order(
            REGISTRY["woocommerce"], payload, json.dumps(payload).encode(), kind=kind,
            observed_at=T0 + timedelta(seconds=observed), received_at=datetime.now(UTC), account_id=self.account,
            connection_id=self.connection, granted=parts, source_id=1,
        )  # fmt: skip

    def write(self, *readings: Reading, source: Any = "delivery") -> list[str]:
        with self.simulation.database.transaction() as tx:
            applied = apply(
                tx, readings, source=source, platforms={self.connection: "woocommerce"},
                payloads=self.simulation.access.payloads,
            )  # fmt: skip
        return [each.outcome for each in applied]

    def remove(self, observed: float) -> bool:
        moment = T0 + timedelta(seconds=observed)
        removal = Removal(self.account, self.connection, str(self.payload["id"]), moment)
        with self.simulation.database.transaction() as tx:
            return next(iter(remove(tx, [removal], source="reread").values()))

    def status(self) -> str:
        return str(self.simulation.scalar("SELECT core->>'status' FROM orders"))

    def history(self) -> list[str]:
        return [row["kind"] for row in self.simulation.rows("SELECT kind FROM changes ORDER BY id")]

    def wishes(self) -> list[str]:
        return [row["reason"] for row in self.simulation.rows("SELECT reason FROM rereads")]


@pytest.fixture
def desk(simulation: Simulation) -> Desk:
    return Desk(simulation)


def test_the_later_update_wins_whatever_comes_first(desk: Desk) -> None:
    older, newer = desk.reading(updated=1, status="processing"), desk.reading(updated=2, status="completed")

    assert desk.write(newer) == ["created"]
    assert desk.write(older) == ["newer_here"]
    assert desk.status() == "completed"
    assert desk.history() == ["created"]


def test_a_duplicate_changes_nothing_and_leaves_no_trace(desk: Desk) -> None:
    reading = desk.reading()

    assert [*desk.write(reading), *desk.write(reading), *desk.write(reading, reading)] == [
        "created", "unchanged", "unchanged", "unchanged",
    ]  # fmt: skip
    assert desk.history() == ["created"]


def test_what_is_not_newer_does_not_touch_the_row(desk: Desk) -> None:
    """A refused reading costs no row version: the guard stands in the statement, not in what it writes."""
    older, newer = desk.reading(updated=1, status="processing"), desk.reading(updated=2, status="completed")
    desk.write(newer)
    before = desk.simulation.scalar("SELECT xmin::text || ctid::text FROM orders")

    assert desk.write(older) == ["newer_here"]
    assert desk.write(newer) == ["unchanged"]
    assert desk.simulation.scalar("SELECT xmin::text || ctid::text FROM orders") == before


def test_equal_content_writes_the_greater_version_and_no_change(desk: Desk) -> None:
    """A, B, A' within one second would diverge if A' were dropped because its content stands there."""
    desk.write(desk.reading(observed=1))
    desk.write(desk.reading(observed=5))

    assert desk.simulation.scalar("SELECT core_observed_at FROM orders") == T0 + timedelta(seconds=5)
    assert desk.history() == ["created"]


def test_within_one_second_a_settled_read_beats_any_webhook_of_it(desk: Desk) -> None:
    settled = desk.reading(kind="api", observed=61, status="completed")
    webhook = desk.reading(observed=500, status="processing")

    desk.write(settled)
    assert desk.write(webhook) == ["newer_here"]

    assert desk.status() == "completed"
    assert desk.wishes() == ["tie"]


def test_a_read_too_soon_after_the_update_is_not_settled(desk: Desk) -> None:
    for seconds, settled in ((0, False), (59, False), (60, True)):
        assert desk.reading(kind="api", observed=seconds).core.version.settled is settled


def test_two_webhooks_of_one_second_ask_for_another_read(desk: Desk) -> None:
    desk.write(desk.reading(observed=1, status="processing"))
    desk.write(desk.reading(observed=2, status="completed"))

    assert desk.wishes() == ["tie"]


def test_of_two_settled_reads_of_one_second_the_later_wins_without_another_read(desk: Desk) -> None:
    """Platforms change content without moving the time: a deleted refund does (capture pairs 03/4)."""
    desk.write(desk.reading(kind="api", observed=100, status="processing"))
    desk.write(desk.reading(kind="api", observed=200, status="completed"))
    desk.write(desk.reading(kind="api", observed=150, status="on-hold"))

    assert desk.status() == "completed"
    assert desk.wishes() == []


def test_parts_are_guarded_one_by_one(desk: Desk) -> None:
    whole = desk.reading(updated=1, customer_note="ring twice")
    desk.write(whole)

    assert desk.write(desk.reading(updated=5, parts=("core",), status="completed", customer_note="")) == ["updated"]

    assert desk.status() == "completed"
    assert desk.simulation.scalar("SELECT person->>'note' FROM orders") == "ring twice"
    assert desk.simulation.scalar("SELECT person_updated_at FROM orders") == T0 + timedelta(seconds=1)
    assert desk.write(desk.reading(updated=3, customer_note="do not ring")) == ["updated"]
    assert desk.status() == "completed"
    assert desk.simulation.scalar("SELECT person->>'note' FROM orders") == "do not ring"


def test_a_granted_part_that_is_null_erases(desk: Desk) -> None:
    desk.write(desk.reading(updated=1, customer_note="ring twice"))
    desk.write(desk.reading(updated=2, customer_note=None))

    assert desk.simulation.scalar("SELECT person->>'note' FROM orders") == ""


def test_every_order_of_arrival_ends_the_same(desk: Desk) -> None:
    readings = [
        desk.reading(updated=1, observed=1, status="processing"),
        desk.reading(updated=1, observed=2, status="on-hold", parts=("core",)),
        desk.reading(updated=2, observed=3, status="completed", customer_note="x"),
        desk.reading(updated=2, observed=70, kind="api", status="refunded", parts=("core",)),
        desk.reading(updated=2, observed=4, status="cancelled", customer_note="y"),
    ]
    ends = set()
    for batched in (False, True):
        for order in itertools.permutations(readings):
            with desk.simulation.database.transaction() as tx:
                tx.execute(text("TRUNCATE orders CASCADE"))
            if batched:
                desk.write(*order)
            else:
                for reading in order:
                    desk.write(reading)
            columns = "core::text, core_settled, core_observed_at, person::text, person_observed_at"
            (row,) = desk.simulation.rows(f"SELECT {columns} FROM orders")
            payloads = desk.simulation.payloads("raw") + desk.simulation.payloads("person_raw")
            ends.add(json.dumps([row, *map(bytes.decode, payloads)], default=str))

    assert len(ends) == 1


# --- existence -------------------------------------------------------------------------------------------------
def test_only_a_later_read_lifts_a_tombstone(desk: Desk) -> None:
    desk.write(desk.reading(kind="api", observed=100))
    assert desk.remove(200)
    assert desk.write(desk.reading(updated=300, observed=300)) == ["unchanged"]  # a webhook proves no existence
    assert desk.simulation.scalar("SELECT removed_at FROM orders") == T0 + timedelta(seconds=200)
    assert "webhook_after_removal" in desk.wishes()

    desk.write(desk.reading(kind="api", updated=300, observed=150))
    assert desk.simulation.scalar("SELECT removed_at FROM orders") is not None
    assert desk.write(desk.reading(kind="api", updated=300, observed=400)) == ["updated"]

    assert desk.simulation.scalar("SELECT removed_at FROM orders") is None
    assert desk.history()[-1] == "restored"


def test_a_late_removal_does_not_undo_a_later_sight(desk: Desk) -> None:
    desk.write(desk.reading(kind="api", observed=200))

    assert not desk.remove(100)
    assert desk.simulation.scalar("SELECT removed_at FROM orders") is None


def test_found_and_gone_within_one_second_is_read_again(desk: Desk) -> None:
    desk.write(desk.reading(kind="api", observed=200))
    assert desk.remove(200)

    assert desk.wishes() == ["existence_tie"]


def test_an_order_gone_before_it_was_known_is_not_brought_to_life_by_a_late_webhook(desk: Desk) -> None:
    assert not desk.remove(100)
    desk.write(desk.reading())

    assert desk.simulation.scalar("SELECT removed_at FROM orders") is not None
    assert desk.wishes() == ["webhook_after_removal"]
    assert desk.history() == ["created", "removed"]  # who follows the feed must not take it for a live order


# --- shape and epoch -------------------------------------------------------------------------------------------
def test_a_release_that_reads_more_tells_no_update_and_no_change(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    old = desk.reading(kind="api", observed=100)
    assert old.person is not None
    stored = replace(
        old,
        core=replace(old.core, shape=0, content=b'{"older":"form"}', version=old.core.version._replace(digest=b"o")),
        person=replace(old.person, shape=0, content=b"{}", version=old.person.version._replace(digest=b"p")),
    )
    desk.write(stored, source="run")

    assert desk.write(desk.reading(kind="api", observed=200), source="run") == ["unchanged"]

    assert desk.history() == ["created"]
    assert desk.simulation.scalar("SELECT core_shape FROM orders") == 1
    assert desk.status() == desk.payload["status"]


def test_a_release_that_reads_more_still_tells_a_real_update(desk: Desk) -> None:
    old = desk.reading(kind="api", observed=100)
    desk.write(replace(old, core=replace(old.core, shape=0, version=old.core.version._replace(digest=b"o"))))

    assert desk.write(desk.reading(kind="api", updated=50, observed=200, status="refunded")) == ["updated"]


def test_versions_compare_in_the_order_of_their_fields() -> None:
    base = Version(0, T0, False, T0, b"a")
    later = T0 + timedelta(seconds=1)

    assert base < base._replace(digest=b"b") < base._replace(observed_at=later) < base._replace(settled=True)
    assert base._replace(settled=True, observed_at=later) < base._replace(updated_at=later) < base._replace(epoch=1)


# --- at once ---------------------------------------------------------------------------------------------------
def test_two_writers_at_once_count_each_order_once(desk: Desk) -> None:
    orders = [desk.reading(id=number, number=str(number)) for number in range(1, 81)]
    barrier = threading.Barrier(4)
    told: list[str] = []

    def write(rows: list[Reading]) -> None:
        barrier.wait()
        for begin in range(0, len(rows), 20):
            told.extend(desk.write(*rows[begin : begin + 20]))

    threads = [threading.Thread(target=write, args=(rows,)) for rows in (orders, orders[::-1], orders, orders[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert told.count("created") == 80
    assert told.count("unchanged") == 240
    assert desk.history() == ["created"] * 80


def test_whoever_waited_for_another_writer_does_not_count_its_order_as_created(desk: Desk) -> None:
    """The second writer begins before the first commits: what it could have looked up beforehand is out of date."""
    early, late = desk.reading(updated=1, status="processing"), desk.reading(updated=2, status="completed")
    told: list[str] = []
    with desk.simulation.database.transaction() as tx:
        apply(
            tx, [early], source="delivery", platforms={desk.connection: "woocommerce"},
            payloads=desk.simulation.access.payloads,
        )  # fmt: skip
        other = threading.Thread(target=lambda: told.extend(desk.write(late, source="run")))
        other.start()
        until(
            lambda: desk.simulation.scalar("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"),
            "the second writer waits for the first",
        )
    other.join()

    assert told == ["updated"]
    assert desk.history() == ["created", "updated"]


# --- history and feed ------------------------------------------------------------------------------------------
def test_a_change_tells_field_by_field_from_what_to_what_and_by_whom(desk: Desk) -> None:
    desk.write(desk.reading(updated=1, status="processing", customer_note="a"))
    desk.write(desk.reading(updated=2, status="completed", customer_note="b"), source="run")

    (row,) = desk.simulation.rows("SELECT * FROM changes ORDER BY id DESC LIMIT 1")
    assert (row["kind"], row["parts"], row["source"], row["source_id"]) == ("updated", ["core", "person"], "run", 1)
    assert ["status", "processing", "completed"] in row["fields"]
    assert ["note", "a", "b"] in row["fields"]


def test_the_feed_holds_every_change_once_and_in_one_order(desk: Desk) -> None:
    for second in range(5):
        desk.write(desk.reading(updated=second, status=f"s{second}"))
    with desk.simulation.database.transaction() as tx:
        assert feed.sequence(tx) == 5
    with desk.simulation.database.transaction() as tx:
        assert feed.sequence(tx) == 0
    desk.write(desk.reading(updated=9, status="s9"))
    with desk.simulation.database.transaction() as tx:
        assert feed.sequence(tx) == 1

    rows = desk.simulation.rows("SELECT position, change_id FROM feed ORDER BY position")
    assert [row["position"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["change_id"] for row in rows] == sorted(row["change_id"] for row in rows)
    assert desk.simulation.scalar("SELECT count(*) FROM feed_pending") == 0


def test_one_sequencer_at_a_time(desk: Desk) -> None:
    desk.write(desk.reading())
    with desk.simulation.database.transaction() as one:
        assert feed.sequence(one) == 1
        with desk.simulation.database.transaction() as two:
            assert feed.sequence(two) == 0
