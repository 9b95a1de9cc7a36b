"""Orders that must be read again: thin notices, deletions that nobody believes unread, ties within a second."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import procrastinate
import structlog
from sqlalchemy import text

from config.logging import way_to
from gateway import jobs
from gateway.connections import model
from gateway.connections.access import Access
from gateway.connections.model import Connection
from gateway.db.engine import Database, is_passing
from gateway.domain.order import PARTS
from gateway.domain.points import reached
from gateway.domain.problems import (
    ORDER_HIDDEN,
    STORE_THROTTLED,
    UNEXPECTED,
    GatewayError,
    NeedsMerchant,
    Problem,
    Retry,
)
from gateway.domain.window import floor_second
from gateway.orders import freshness
from gateway.orders.apply import Removal, apply, remove
from gateway.orders.lookups import judge
from gateway.orders.reading import Reading, read_order
from gateway.platforms import REGISTRY, fields
from gateway.platforms.base import Found, Gone, Hidden, LookUp

log = structlog.get_logger("webhooks.rereads")

BATCH = 50
POLL_SECONDS = 0.25
HIDDEN_ATTEMPTS = 4
"""An Etsy 404 may be a read that came too early: 5 s, 30 s, 3 min, then the schedule's runs find it."""


def dispatch(database: Database, stop: threading.Event) -> None:
    """Queue one job a connection for re-reads that are due; the rows themselves are the queue."""
    while not stop.wait(POLL_SECONDS):
        with database.transaction() as tx:
            due = tx.execute(
                text("SELECT DISTINCT connection_id FROM rereads WHERE due_at <= clock_timestamp()")
            ).scalars()
            for connection_id in due.all():
                jobs.defer(tx, "orders.reread", once=f"reread:{connection_id}", connection_id=connection_id)


@jobs.app.task(name="orders.reread", pass_context=True)
def reread(context: procrastinate.JobContext, connection_id: int) -> None:
    """Read what is due of one connection, and end in the same writer as everything else."""
    access: Access = context.additional_context["access"]
    while reread_batch(access, connection_id) == BATCH:
        pass


@jobs.app.periodic(cron="23 * * * *")
@jobs.app.task(name="orders.freshen", queueing_lock="orders.freshen", pass_context=True)
def freshen(context: procrastinate.JobContext, timestamp: int) -> None:  # noqa: ARG001 - it is always given
    """Every hour: what will soon be too old to be shown is read again."""
    access: Access = context.additional_context["access"]
    with access.database.transaction() as tx:
        asked = freshness.freshen(tx, now=datetime.now(UTC))
    if asked:
        log.info("orders.freshened", asked=asked)


def reread_batch(access: Access, connection_id: int) -> int:
    """One batch; how many rows were due. A crash leaves the rows, and reading again changes nothing."""
    with access.database.transaction() as tx:
        # By the clock that dates the wishes: what is wished for after this, this read does not fulfil.
        begun_at: datetime = tx.execute(text("SELECT clock_timestamp()")).scalar_one()
        connection = model.get(tx, connection_id)
        rows = tx.execute(
            text(
                "SELECT external_id, delivery_id, attempts FROM rereads"
                " WHERE connection_id = :id AND due_at <= clock_timestamp() ORDER BY due_at LIMIT :batch"
            ),
            {"id": connection_id, "batch": BATCH},
        ).all()
        if connection is not None and connection.state == "disconnected":
            tx.execute(text("DELETE FROM rereads WHERE connection_id = :id"), {"id": connection_id})
            return 0
    if connection is None or not rows:
        return 0
    ids = [row.external_id for row in rows]
    found: list[LookUp] = []
    try:
        store = access.store(connection)
        found.extend(REGISTRY[connection.platform].fetch_orders(store, ids))
        reached("after_fetch")
    except GatewayError as error:
        log.warning("reread.failed", connection=connection_id, problem=error.problem.code)
        done = {look.external_id for look in found}
        if error.problem is STORE_THROTTLED and isinstance(error, Retry):
            _wait_for_budget(access.database, connection, [*done], error.after_seconds)
        else:
            wait = error.after_seconds if isinstance(error, Retry) else 300.0
            _postpone(access.database, connection, [i for i in ids if i not in done], error.problem, error.detail, wait)
        if isinstance(error, NeedsMerchant):
            with access.database.transaction() as tx:
                model.set_state(tx, connection_id, "action_needed", error.problem.code, error.detail)
    except Exception as error:
        if is_passing(error):
            raise
        # Left as they are, they would be asked for again at once, and for ever.
        log.exception("reread.unexpected", connection=connection_id)
        done = {look.external_id for look in found}
        _postpone(
            access.database, connection, [i for i in ids if i not in done], UNEXPECTED, type(error).__name__, 60.0
        )
    if found:
        with access.database.transaction() as tx:
            found = judge(tx, REGISTRY[connection.platform], connection.id, found, datetime.now(UTC))
        _write_each(access, connection, found, {row.external_id: row for row in rows}, begun_at)
    return len(rows)


def _write_each(
    access: Access, connection: Connection, found: Sequence[LookUp], rows: dict[str, Any], begun_at: datetime
) -> None:
    """Write what was found; whatever fails, halve it, so that the guilty order waits alone."""
    try:
        _write(access, connection, found, rows, begun_at)
    except Exception as error:
        if is_passing(error):
            raise
        if len(found) > 1:
            middle = len(found) // 2
            _write_each(access, connection, found[:middle], rows, begun_at)
            _write_each(access, connection, found[middle:], rows, begun_at)
            return
        log.error("reread.unexpected", connection=connection.id, error=way_to(error))
        _postpone(access.database, connection, [found[0].external_id], UNEXPECTED, way_to(error), 60.0)


def _write(
    access: Access, connection: Connection, found: Sequence[LookUp], rows: dict[str, Any], begun_at: datetime
) -> None:
    readings: list[Reading] = []
    failed: list[tuple[str, GatewayError]] = []
    for look in found:
        if isinstance(look, Found):
            try:
                readings.append(_reading(connection, look, rows[look.external_id].delivery_id))
            except GatewayError as error:
                failed.append((look.external_id, error))
    now_there = floor_second(datetime.now(UTC) - connection.skew)
    removals = [
        Removal(connection.account_id, connection.id, look.external_id, look.observed_at or now_there,
                rows[look.external_id].delivery_id)
        for look in found
        if isinstance(look, Gone)
    ]  # fmt: skip
    done = [reading.external_id for reading in readings] + [removal.external_id for removal in removals]
    with access.database.transaction() as tx:
        if not model.hold(tx, connection.id):
            return  # it was taken off meanwhile, and what its platform wants gone is gone
        apply(tx, readings, source="reread", platforms={connection.id: connection.platform}, payloads=access.payloads)
        remove(tx, removals, source="reread")
        # A wish that came after this read began is not fulfilled by it.
        tx.execute(
            text("DELETE FROM rereads WHERE connection_id = :id AND external_id = ANY(:done) AND again_at <= :begun"),
            {"id": connection.id, "done": done, "begun": begun_at},
        )
        tx.execute(
            text(
                "UPDATE rereads SET due_at = again_at, attempts = 0"
                " WHERE connection_id = :id AND external_id = ANY(:done) AND again_at > :begun"
            ),
            {"id": connection.id, "done": done, "begun": begun_at},
        )
    for external_id, failure in failed:
        _postpone(access.database, connection, [external_id], failure.problem, failure.detail, 3600.0)
    early = [look.external_id for look in found if isinstance(look, Hidden)]
    if early:
        _postpone(access.database, connection, early, ORDER_HIDDEN, "", 5.0, limit=HIDDEN_ATTEMPTS)


def _reading(connection: Connection, look: Found, delivery_id: int | None) -> Reading:
    return read_order(
        REGISTRY[connection.platform], fields.as_object(look.raw), look.raw, kind="api",
        observed_at=look.observed_at, received_at=datetime.now(UTC), account_id=connection.account_id,
        connection_id=connection.id, granted=[part for part in PARTS if part not in look.denied],
        source_id=delivery_id,
    )  # fmt: skip


def _wait_for_budget(database: Database, connection: Connection, done: Sequence[str], wait: float) -> None:
    """The store's budget is spent: all that is due waits as long as the platform asks, and no order is to blame."""
    with database.transaction() as tx:
        tx.execute(
            text(
                "UPDATE rereads SET problem = :code, due_at = now() + greatest(:wait, 0.5) * interval '1 second'"
                " WHERE connection_id = :id AND external_id <> ALL(:done)"
                " AND due_at <= now() + greatest(:wait, 0.5) * interval '1 second'"
            ),
            {"code": STORE_THROTTLED.code, "wait": wait, "id": connection.id, "done": list(done)},
        )


def _postpone(
    database: Database, connection: Connection, ids: Sequence[str], problem: Problem, detail: str, wait: float,
    *, limit: int = 12,
) -> None:  # fmt: skip
    """Come back later, each time six times as late; after `limit` tries the sync runs are left to find it."""
    if not ids:
        return
    with database.transaction() as tx:
        tx.execute(
            text(
                "UPDATE rereads SET attempts = attempts + 1, problem = :code, problem_detail = :detail,"
                " due_at = now() + least(:wait * power(6, attempts), 21600) * :jitter * interval '1 second'"
                " WHERE connection_id = :id AND external_id = ANY(:ids)"
            ),
            {"code": problem.code, "detail": detail[:500], "wait": wait, "id": connection.id, "ids": list(ids),
             "jitter": random.uniform(0.9, 1.1)},  # noqa: S311 - jitter, no secret
        )  # fmt: skip
        given_up = tx.execute(
            text(
                "DELETE FROM rereads WHERE connection_id = :id AND external_id = ANY(:ids) AND attempts >= :limit"
                " RETURNING external_id, delivery_id"
            ),
            {"id": connection.id, "ids": list(ids), "limit": limit},
        ).all()
        for row in given_up:
            tx.execute(
                text("UPDATE deliveries SET problem = :code, problem_detail = :detail WHERE id = :id"),
                {"code": problem.code, "detail": detail[:500], "id": row.delivery_id},
            )
            log.warning("reread.given_up", connection=connection.id, problem=problem.code)
