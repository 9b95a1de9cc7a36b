"""kill -9 while webhooks come in and are applied: what was answered 2xx is there, and everything counts once."""

from __future__ import annotations

import json
import threading

import pytest

from gateway.db.bundled import BundledServer
from tests.processes import System, until

ORDERS = {"shopify": 100, "woocommerce": 120, "etsy": 40}
"""How many are placed at once. Etsy's limit of 5 calls a second would make more of them a long wait."""

PLATFORMS = tuple(ORDERS)


def _place(system: System, times: int = 1) -> None:
    for platform, count in ORDERS.items():
        system.sandbox(platform, "orders", count=times * count)


def _waiting(system: System) -> int:
    return int(system.scalar("SELECT count(*) FROM deliveries WHERE state = 'waiting'"))


def _each_order_was_created_once(system: System) -> None:
    twice = system.rows(
        "SELECT order_id, count(*) FROM changes WHERE kind = 'created' GROUP BY order_id HAVING count(*) <> 1"
    )
    assert twice == []
    created, orders = (
        system.scalar("SELECT count(*) FROM changes WHERE kind = 'created'"),
        system.scalar("SELECT count(*) FROM orders WHERE core IS NOT NULL"),
    )
    assert created == orders


def _equals_the_truth(system: System) -> None:
    for platform in PLATFORMS:
        truth = system.truth(platform)
        assert len(truth) >= ORDERS[platform]
        assert system.stored(platform) == truth, platform


@pytest.mark.parametrize("point", ["after_claim", "before_apply_commit", "after_apply_commit:2", "after_fetch"])
def test_a_worker_killed_while_it_applies_loses_nothing_and_counts_nothing_twice(system: System, point: str) -> None:
    _place(system)
    for platform in PLATFORMS:
        system.sandbox(platform, "flush")
    assert _waiting(system) >= 200  # in flight: answered, not yet applied

    system.died(system.start_worker(DIE_AT=point))
    assert system.not_applied()  # it died in the middle, or this test proves nothing
    system.start_worker()

    system.applied()
    _equals_the_truth(system)
    _each_order_was_created_once(system)
    assert system.scalar("SELECT count(*) FROM deliveries WHERE state = 'dead'") == 0
    assert system.scalar("SELECT max(crashes) FROM deliveries") <= 1


def test_a_worker_started_while_postgresql_is_away_waits_for_it(
    system: System, durable_database_url: BundledServer
) -> None:
    durable_database_url.kill9()

    worker = system.start_worker()
    until(lambda: "database.awaited" in system.said("worker"), "the worker waits")
    durable_database_url.start()

    until(system.is_ready, "the worker works")
    assert worker.poll() is None


def test_a_killed_web_process_has_kept_all_that_it_answered(system: System) -> None:
    system.start_worker()
    until(system.is_ready, "the worker works")
    placing = threading.Thread(target=_place, args=(system, 2))
    placing.start()
    until(lambda: system.scalar("SELECT count(*) FROM deliveries") >= 30, "webhooks come in")
    system.kill(system.web)
    placing.join()
    under_way = sum(_unsent(system, platform) for platform in PLATFORMS)
    assert under_way >= 200
    system.start_web()
    for platform in PLATFORMS:
        system.sandbox(platform, "flush", retry_now=True)

    _what_was_answered_is_stored(system)
    _catch_up(system)
    for platform in PLATFORMS:
        assert system.stored(platform) == system.truth(platform), platform
    _each_order_was_created_once(system)


def test_a_killed_postgresql_has_kept_all_that_was_answered(
    system: System, durable_database_url: BundledServer
) -> None:
    server = durable_database_url
    system.start_worker()
    until(system.is_ready, "the worker works")  # or it would only meet the database after all is over
    placing = threading.Thread(target=_place, args=(system, 2))
    placing.start()
    until(lambda: system.scalar("SELECT count(*) FROM deliveries") >= 30, "webhooks come in")
    server.kill9()
    placing.join()
    under_way = sum(_unsent(system, platform) for platform in PLATFORMS)
    assert under_way >= 200
    server.start()
    until(lambda: system.is_ready(), "web and worker found the database again by themselves")
    for platform in PLATFORMS:
        system.sandbox(platform, "flush", retry_now=True)

    _what_was_answered_is_stored(system)
    _catch_up(system)
    for platform in PLATFORMS:
        assert system.stored(platform) == system.truth(platform), platform
    _each_order_was_created_once(system)
    assert system.scalar("SELECT count(*) FROM deliveries WHERE state = 'dead'") == 0


def _unsent(system: System, platform: str) -> int:
    """Webhooks that the store made and that were not answered 2xx yet: under way, refused, or waiting."""
    told = system.ask_sandbox(platform, "log")
    return len(system.ask_sandbox(platform, "truth")["orders"]) - told["counts"]["sent"]


_TELLING = {"shopify": "x-shopify-webhook-id", "woocommerce": "x-wc-webhook-signature", "etsy": "webhook-id"}
"""The header that tells one webhook from another; WooCommerce's ids collide, so there it is the body's signature."""


def _what_was_answered_is_stored(system: System) -> None:
    """P1: each webhook that the platform saw answered 2xx stands in our table with its headers."""
    stored = {
        dict(json.loads(bytes(row["headers"]))).get(_TELLING[row["platform"]])
        for row in system.rows("SELECT d.platform, b.headers FROM delivery_bodies b JOIN deliveries d"
                               " ON d.id = b.delivery_id")
    }  # fmt: skip
    answered = []
    for platform in PLATFORMS:
        for attempt in system.ask_sandbox(platform, "log")["deliveries"]:
            if attempt["outcome"] == "sent" and attempt["topic"] != "ping":
                headers = {name.lower(): value for name, value in attempt["headers"]}
                answered.append(headers[_TELLING[platform]])
    assert len(answered) >= 30
    assert [one for one in answered if one not in stored] == []


def _catch_up(system: System) -> None:
    """WooCommerce sends nothing twice: what it could not deliver is found by a sync, which the refusals wish too."""
    system.applied()
    for run_id in [system.start_sync(platform) for platform in PLATFORMS]:
        run = system.finished(run_id, seconds=120)
        assert run["verdict"] in ("complete", "unknown"), run
        assert run["failed"] == 0
    system.applied()
