"""Catch-up: the same runner over what happened since the connection was last known to be in step."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import procrastinate
from sqlalchemy import text

from backfill import runs
from gateway import jobs
from gateway.connections.access import Access
from gateway.connections.model import Connection
from gateway.db.engine import Database
from gateway.domain.window import Window, floor_second

OVERLAP = timedelta(minutes=15)
"""Looked at twice: a webhook's order may show up in lists only a while after it was stamped."""

COMMIT_DELAY = timedelta(seconds=5)
"""Platforms stamp an order before they commit it: what is younger is left to the next run."""

WANTED_SECONDS = 2.0
NOT_MORE_OFTEN_THAN = timedelta(minutes=1)
"""Refused requests wish a catch-up too, and a stranger can send many."""


def window_since(connection: Connection, now: datetime) -> Window:
    """From 15 minutes before the watermark to the platform's now, less 5 s; a new connection from its install."""
    until = floor_second(now - connection.skew - COMMIT_DELAY)
    in_step = connection.watermark or connection.installed_at - connection.skew
    return Window(min(floor_second(in_step - OVERLAP), until), until)


def open_for(database: Database, *, wanted_only: bool) -> int:
    """Queue a catch-up for each connection (that wishes one); how many were queued."""
    condition = (
        " AND catch_up_wanted_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM sync_runs r WHERE r.connection_id = c.id"
        " AND r.kind = 'catch_up' AND r.created_at > now() - :pause)"
        if wanted_only
        else ""
    )
    opened = 0
    with database.transaction() as tx:
        rows = tx.execute(
            text(f"SELECT * FROM connections c WHERE state <> 'disconnected'{condition} FOR UPDATE SKIP LOCKED"),  # noqa: S608 - constants only
            {"pause": NOT_MORE_OFTEN_THAN} if wanted_only else {},
        ).mappings().all()  # fmt: skip
        for row in rows:
            connection = Connection.of(row)
            run_id = runs.open_catch_up(tx, connection, window_since(connection, datetime.now(UTC)))
            opened += run_id is not None
            if run_id is not None:
                tx.execute(
                    text("UPDATE connections SET catch_up_wanted_at = NULL WHERE id = :id"), {"id": connection.id}
                )
    return opened


def watch(database: Database, stop: threading.Event) -> None:
    """At the worker's start catch up everywhere; then wherever a webhook could not be answered 2xx."""
    open_for(database, wanted_only=False)
    while not stop.wait(WANTED_SECONDS):
        open_for(database, wanted_only=True)


@jobs.app.periodic(cron="*/15 * * * *")
@jobs.app.task(name="catch_up.all", queueing_lock="catch_up.all", pass_context=True)
def all_connections(context: procrastinate.JobContext, timestamp: int) -> None:  # noqa: ARG001 - it is always given
    """Every 15 minutes: what the webhooks missed is found without anyone asking."""
    access: Access = context.additional_context["access"]
    open_for(access.database, wanted_only=False)
