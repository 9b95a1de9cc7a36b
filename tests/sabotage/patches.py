"""One small sabotage for each promise; the tests named beside it must notice. Texts must occur exactly once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patch:
    """`edits`: (file, text, what stands there instead). `tests`: what pytest is given; at least one must fail."""

    name: str
    promise: str
    edits: tuple[tuple[str, str, str], ...]
    tests: tuple[str, ...]


PATCHES = (
    Patch(
        "ack-before-commit",
        "P1: acked means durable",
        (
            (
                "webhooks/store.py",
                "        batch.sort(key=lambda waiting: waiting.delivery.delivery_key)\n",
                "        batch.sort(key=lambda waiting: waiting.delivery.delivery_key)\n"
                "        for waiting in batch:\n            waiting.done.set()\n",
            ),
        ),
        ("tests/webhooks/test_receiver.py",),
    ),
    Patch(
        "commit-not-durable",
        "P1: acked means durable",
        (("webhooks/store.py", "-c synchronous_commit=on", "-c synchronous_commit=off"),),
        ("tests/crash/test_durability.py",),
    ),
    Patch(
        "guard-without-where",
        "P2 to P4: a duplicate changes nothing, the newest wins",
        (
            (
                "gateway/orders/guard.py",
                "WHERE {core} OR {person} OR {_EXISTS} OR {_behind('core')} OR",
                "WHERE true OR",
            ),
        ),
        ("tests/orders/test_apply.py",),
    ),
    Patch(
        "guard-believes-the-last",
        "P3 and P4: any order converges, the newest wins",
        (("gateway/orders/guard.py", "OR ({new}) > ({old})", "OR true"),),
        ("tests/orders/test_apply.py",),
    ),
    Patch(
        "settled-ignored",
        "P4: newest wins, also within one second",
        (
            (
                "gateway/orders/guard.py",
                '*(f"excluded.{part}_{name}" for name in PART[1:])',
                '*(f"excluded.{part}_{name}" for name in PART[1:] if name != "settled")',
            ),
            (
                "gateway/orders/guard.py",
                'old = ", ".join(f"o.{part}_{name}" for name in PART)',
                'old = ", ".join(f"o.{part}_{name}" for name in PART if name != "settled")',
            ),
        ),
        ("tests/orders/test_apply.py",),
    ),
    Patch(
        "went-back-believed-at-once",
        "P4: one look at an older state, by a replica that lags, is not a source that went back",
        (("gateway/orders/guard.py", "interval '60 seconds'", "interval '0 seconds'"),),
        ("tests/orders/test_epochs.py",),
    ),
    Patch(
        "late-webhook-of-another-epoch",
        "P3: what was sent before the source went back does not undo it",
        (("gateway/orders/guard.py", "THEN o.{part}_epoch - 1 ELSE", "THEN o.{part}_epoch ELSE"),),
        ("tests/orders/test_epochs.py",),
    ),
    Patch(
        "checkpoint-in-a-commit-of-its-own",
        "P6: a killed process counts nothing twice",
        (
            (
                "backfill/runner.py",
                '            points.reached("inside_page")\n'
                "            self._hold.move_counters(tx, counted, checkpoint)\n",
                '        points.reached("inside_page")\n        with self.access.database.transaction() as tx:\n'
                "            self._hold.move_counters(tx, counted, checkpoint)\n",
            ),
        ),
        (
            "tests/backfill/test_runs.py",
            "tests/crash/test_runs.py::"
            "test_a_run_whose_worker_is_killed_goes_on_and_counts_once[woocommerce-inside_page:2]",
        ),
    ),
    Patch(
        "created-from-an-earlier-select",
        "P5 and P6: additions are what this run's own writes did",
        (
            (
                "gateway/orders/apply.py",
                "        cursor.execute(guard.UPSERT, ",
                "        earlier = _stored(cursor, keys)\n        cursor.execute(guard.UPSERT, ",
            ),
            (
                "gateway/orders/apply.py",
                "elif row.old_core_digest is None and reading",
                "elif key not in earlier and reading",
            ),
        ),
        ("tests/orders/test_apply.py::test_whoever_waited_for_another_writer_does_not_count_its_order_as_created",),
    ),
    Patch(
        "fencing-unchecked",
        "P6: a frozen worker that wakes up writes nothing",
        (
            (
                "backfill/hold.py",
                "WHERE id = :id AND fence = :fence AND state = 'running' FOR UPDATE",
                "WHERE id = :id",
            ),
            (
                "backfill/hold.py",
                '" drifted = drifted + :drifted"\n'
                "                \" WHERE id = :id AND fence = :fence AND state = 'running'\"",
                '" drifted = drifted + :drifted"\n                " WHERE id = :id"',
            ),
        ),
        ("tests/backfill/test_runs.py",),
    ),
    Patch(
        "scope-left-out-of-one-query",
        "P8: one merchant never sees another's data",
        (
            (
                "gateway/orders/queries.py",
                "FROM orders o WHERE o.account_id = :account AND o.id = :id AND o.core_digest",
                "FROM orders o WHERE o.id = :id AND o.core_digest",
            ),
        ),
        ("tests/web/test_every_route.py",),
    ),
    Patch(
        "erasure-misses-what-could-not-be-read",
        "P8: a customer's erasure reaches dead letters",
        (("webhooks/apply.py", "about = self._about.get(row.id)", "about = None"),),
        ("tests/orders/test_erase.py",),
    ),
    Patch(
        "broken-webhooks-hidden-by-a-sync",
        "P9: a broken connection is noticed by us first",
        (("gateway/connections/model.py", "JUDGED if webhooks else JUDGED | _OF_WEBHOOKS", "JUDGED"),),
        ("tests/connections/test_health.py",),
    ),
    Patch(
        "deletion-believed",
        "deletions are never believed",
        (
            (
                "webhooks/apply.py",
                "                thin = isinstance(notice, OrderNotice)\n",
                "                thin = isinstance(notice, OrderNotice)\n"
                "                if not thin:\n"
                "                    from gateway.orders.apply import Removal, remove\n\n"
                "                    at = row.received_at\n"
                "                    gone = Removal(connection.account_id, connection.id, order_id, at, row.id)\n"
                '                    remove(tx, [gone], source="delivery")\n',
            ),
        ),
        ("tests/webhooks/test_drain.py",),
    ),
    Patch(
        "ungranted-person-written",
        "a payload that was not granted a part does not touch it",
        (("webhooks/apply.py", "granted=connection.granted_parts,", 'granted=("core", "person"),'),),
        ("tests/orders/test_convergence.py",),
    ),
    Patch(
        "delivery-key-without-the-bodys-digest",
        "WooCommerce's delivery ids collide within a second",
        (("gateway/platforms/woocommerce/hooks.py", "{topic}:{delivery}:{digest}", "{topic}:{delivery}"),),
        ("tests/platforms", "tests/webhooks"),
    ),
    Patch(
        "stores-clock-ignored",
        "windows are by the platform's clock",
        (("backfill/runs.py", "until=now - skew)", "until=now)"),),
        ("tests/backfill/test_runs.py",),
    ),
    Patch(
        "killer-never-set-aside",
        "P6 and P7: a body that makes the worker die is set aside, the line goes on",
        (("webhooks/inbox.py", "SET crashes = crashes + 1 WHERE", "SET crashes = crashes WHERE"),),
        ("tests/webhooks/test_drain.py",),
    ),
)
