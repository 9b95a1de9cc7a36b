"""Background jobs: procrastinate on our own PostgreSQL. Tasks are declared where their work is."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import procrastinate
import psycopg
from procrastinate import exceptions
from sqlalchemy import Connection, text

app = procrastinate.App(connector=procrastinate.SyncPsycopgConnector())
"""Tasks register here; the worker replaces the connector by one that listens."""

_deferring = procrastinate.App(connector=procrastinate.SyncPsycopgConnector())
"""Queues jobs on the caller's own connection: its connector is never opened, in any process."""

STALLED_AFTER_SECONDS = 30.0
"""A worker whose heartbeat is older is dead (procrastinate beats every 10 s)."""


def defer(
    tx: Connection,
    task: str,
    *,
    once: str,
    not_before: datetime | None = None,
    delay: timedelta | None = None,
    **args: Any,
) -> bool:
    """Queue a job within the caller's transaction, so that it commits with what it is about.

    `once`: while a job of this name waits, no second one is queued; False then. A job that already runs does not
    count: it may have read what was true before.
    """
    waiting = tx.execute(
        text("SELECT 1 FROM procrastinate_jobs WHERE queueing_lock = :once AND status = 'todo'"), {"once": once}
    ).first()
    if waiting is not None:
        return False
    connection = tx.connection.driver_connection
    assert isinstance(connection, psycopg.Connection)
    savepoint = tx.begin_nested()
    try:
        options: dict[str, Any] = {"queueing_lock": once, "connection": connection}
        if not_before is not None:
            options["schedule_at"] = not_before
        elif delay is not None:
            options["schedule_in"] = {"seconds": delay.total_seconds()}
        _deferring.configure_task(task, allow_unknown=True, **options).defer(**args)
    except exceptions.AlreadyEnqueued:
        savepoint.rollback()
        return False
    savepoint.commit()
    return True
