"""kill -9 and freezing in the middle of a Sync Order: it goes on in another worker, and counts everything once."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from tests.processes import System, until

ORDERS = 230


def _placed_while_webhooks_were_lost(system: System, platform: str) -> None:
    """Orders that only a run can find, and as many webhooks of other stores in flight."""
    system.sandbox(platform, "orders", count=ORDERS, over_days=3, quiet=True)
    others = [other for other in system.stores if other != platform]
    for other in others:
        system.sandbox(other, "orders", count=110)
    for other in others:
        system.sandbox(other, "flush")
    assert system.scalar("SELECT count(*) FROM deliveries WHERE state = 'waiting'") >= 200


def _is_exact(system: System, platform: str, run: dict[str, Any]) -> None:
    """The run's figures against what its own writes left: changes, items, orders, and the platform's truth."""
    connection_id = system.stores[platform][0]
    by_run = system.rows(
        "SELECT kind, count(*) FROM changes WHERE source = 'run' AND source_id = %(id)s GROUP BY kind", id=run["id"]
    )
    made = {row["kind"]: row["count"] for row in by_run}
    assert (run["created"], run["updated"]) == (made.get("created", 0), made.get("updated", 0))
    assert run["listed"] == sum(
        run[name] for name in ("created", "updated", "unchanged", "newer_here", "failed", "removed", "hidden")
    )
    assert run["listed"] == system.scalar("SELECT count(*) FROM run_items WHERE run_id = %(id)s", id=run["id"])
    assert system.stored(platform) == system.truth(platform)
    created = system.scalar(
        "SELECT count(*) FROM changes WHERE kind = 'created' AND connection_id = %(id)s", id=connection_id
    )
    assert created == system.scalar(
        "SELECT count(*) FROM orders WHERE core IS NOT NULL AND connection_id = %(id)s", id=connection_id
    )


# The runner is one for all platforms: each point once, and each platform at one that leaves a page half done.
_PLACES = [
    ("woocommerce", "after_page_fetch:2"),
    ("woocommerce", "inside_page:2"),
    ("woocommerce", "before_page_commit"),
    ("woocommerce", "after_page_commit:2"),
    ("shopify", "inside_page:2"),
    ("etsy", "inside_page:2"),
]


@pytest.mark.parametrize(("platform", "point"), _PLACES)
def test_a_run_whose_worker_is_killed_goes_on_and_counts_once(system: System, platform: str, point: str) -> None:
    _placed_while_webhooks_were_lost(system, platform)
    _only_this_store_has_runs(system, platform)
    run_id = system.start_sync(platform)

    system.died(system.start_worker(DIE_AT=point))
    assert system.run(run_id)["state"] == "running"  # it died in the middle of this run, or this proves nothing
    system.start_worker()
    run = system.finished(run_id)

    assert run["failed"] == 0
    assert run["verdict"] in ("complete", "unknown")
    system.applied()
    _is_exact(system, platform, run)


@pytest.mark.parametrize("point", ["after_bulk_begin", "inside_page:2"])
def test_an_import_by_one_operation_whose_worker_is_killed_goes_on_and_counts_once(system: System, point: str) -> None:
    system.sandbox("shopify", "orders", count=600, over_days=3, quiet=True)
    # So slow a budget that pages would take over ten minutes.
    system.sandbox("shopify", "options", restore_per_second=10)
    _only_this_store_has_runs(system, "shopify")
    _catches_up_later(system, "shopify")
    run_id = system.start_sync("shopify")

    system.died(system.start_worker(DIE_AT=point))
    assert system.run(run_id)["state"] == "running"
    system.start_worker()
    run = system.finished(run_id)

    assert run["checkpoint"]["slices"][0]["by_bulk"] is True
    assert (run["created"], run["failed"], run["verdict"]) == (600, 0, "complete")
    _is_exact(system, "shopify", run)


def test_a_run_killed_between_a_look_up_and_its_writing_removes_once(system: System) -> None:
    placed = system.sandbox("woocommerce", "orders", count=210, over_days=2, quiet=True)["order_ids"]
    _only_this_store_has_runs(system, "woocommerce")
    worker = system.start_worker()
    assert system.finished(system.start_sync("woocommerce"))["created"] == 210
    system.kill(worker)
    for order_id in placed[100:103]:
        system.sandbox("woocommerce", "change", order_id=order_id, kind="force_delete", quiet=True)
    run_id = system.start_sync("woocommerce")

    system.died(system.start_worker(DIE_AT="after_look_up"))
    system.start_worker()
    run = system.finished(run_id)

    assert (run["removed"], run["created"], run["updated"]) == (3, 0, 0)
    assert system.scalar("SELECT count(*) FROM changes WHERE kind = 'removed'") == 3
    _is_exact(system, "woocommerce", run)


def test_a_frozen_worker_that_wakes_up_writes_nothing(system: System) -> None:
    _placed_while_webhooks_were_lost(system, "woocommerce")
    _only_this_store_has_runs(system, "woocommerce")
    run_id = system.start_sync("woocommerce")
    # Between two pages: within one, PostgreSQL ends the frozen transaction, and there is nothing left to notice.
    frozen = system.start_worker(DIE_AT="after_page_commit", DIE_WITH="SIGSTOP")
    until(lambda: _is_stopped(frozen.pid), "the worker froze in the middle of the run")
    fence = system.run(run_id)["fence"]
    # Two minutes without a sign of life, without waiting for them.
    system.rows(
        "UPDATE sync_runs SET seen_at = seen_at - interval '3 minutes' WHERE id = %(id)s RETURNING id", id=run_id
    )

    system.start_worker()
    run = system.finished(run_id)
    os.kill(frozen.pid, signal.SIGCONT)
    until(lambda: "run.superseded" in system.said("worker"), "the frozen one noticed that its run is another's")

    assert run["fence"] > fence
    after = system.run(run_id)
    assert {name: after[name] for name in ("listed", "created", "updated", "state", "fence", "verdict")} == {
        name: run[name] for name in ("listed", "created", "updated", "state", "fence", "verdict")
    }
    system.applied()
    _is_exact(system, "woocommerce", after)


def test_two_workers_and_webhooks_of_the_same_orders_create_each_once(system: System) -> None:
    # Etsy's 5 calls a second are shared by notices and run: more of its orders would only be a longer wait.
    placed = {"shopify": 150, "woocommerce": 150, "etsy": 30}
    for platform, count in placed.items():
        system.sandbox(platform, "orders", count=count)
        system.sandbox(platform, "faults", duplicate=60)
    for _ in range(2):
        system.start_worker()
    runs = [system.start_sync(platform) for platform in system.stores]
    for platform in system.stores:
        for _ in range(placed[platform] // 3):
            system.sandbox(platform, "change", kind="note")
        system.sandbox(platform, "flush")
    finished = [system.finished(run_id) for run_id in runs]
    for run_id in [system.start_sync(platform) for platform in system.stores]:
        system.finished(run_id)  # Etsy tells nobody of refunds and edits
    system.applied()

    for platform, run in zip(system.stores, finished, strict=True):
        connection_id = system.stores[platform][0]
        assert system.stored(platform) == system.truth(platform)
        orders = system.scalar(
            "SELECT count(*) FROM orders WHERE connection_id = %(id)s AND core IS NOT NULL", id=connection_id
        )
        created = system.rows(
            "SELECT source, count(*) FROM changes WHERE kind = 'created' AND connection_id = %(id)s GROUP BY source",
            id=connection_id,
        )
        assert sum(row["count"] for row in created) == orders
        by_run = system.scalar(
            "SELECT count(*) FROM changes WHERE kind = 'created' AND source = 'run' AND source_id = %(id)s",
            id=run["id"],
        )
        assert run["created"] == by_run


def _only_this_store_has_runs(system: System, platform: str) -> None:
    """Workers catch up everywhere at their start; here the point must be passed by the run under test."""
    system.rows(
        "UPDATE connections SET state = 'disconnected' WHERE platform <> %(platform)s RETURNING id", platform=platform
    )
    # Nor may the nightly ones begin, which they do when this happens to run within minutes of their time.
    for kind, deep in (("catch_up", True), ("settle", False)):
        system.rows(
            "INSERT INTO sync_runs (account_id, connection_id, kind, deep, window_from, window_until, waiting_until)"
            " SELECT account_id, id, %(kind)s, %(deep)s, now() - interval '1 hour', now(), now() + interval '1 day'"
            " FROM connections WHERE platform = %(platform)s RETURNING id",
            kind=kind, deep=deep, platform=platform,
        )  # fmt: skip


def _catches_up_later(system: System, platform: str) -> None:
    """A run that waits lets others of its store go on meanwhile, and those pass the same points."""
    system.rows(
        "INSERT INTO sync_runs (account_id, connection_id, kind, window_from, window_until, waiting_until)"
        " SELECT account_id, id, 'catch_up', now() - interval '1 hour', now(), now() + interval '1 day'"
        " FROM connections WHERE platform = %(platform)s RETURNING id",
        platform=platform,
    )


def _is_stopped(pid: int) -> bool:
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "T"
