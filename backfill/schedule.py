"""What begins without anyone asking: catch-up, nightly reads, deep runs, and runs whose store works again."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import procrastinate
from sqlalchemy import Connection as Transaction
from sqlalchemy import RowMapping, text

from backfill import catch_up, runs, verdict
from gateway import jobs
from gateway.connections import pacing
from gateway.connections.access import Access
from gateway.connections.model import Connection
from gateway.domain.window import CHOICES_DAYS, Window, floor_second
from gateway.platforms import REGISTRY

WATCH_SECONDS = 2.0
NOT_MORE_OFTEN_THAN = timedelta(minutes=1)
"""Refused requests wish a catch-up too, and a stranger can send many."""

EVERY = timedelta(minutes=15)
"""How often a connection is caught up where the platform counts no days of calls."""

DEEP_DAYS = CHOICES_DAYS[-1]

# sync_runs_catch_ups_idx, sync_runs_store_idx, orders_store_idx
_CONNECTED = """
SELECT c.*,
  (SELECT max(r.created_at) FROM sync_runs r WHERE r.connection_id = c.id AND r.kind = 'catch_up' AND NOT r.deep)
    AS caught_up_at,
  (SELECT max(r.created_at) FROM sync_runs r WHERE r.connection_id = c.id AND r.kind = 'catch_up' AND r.deep)
    AS deep_at,
  (SELECT min(r.window_from) FROM sync_runs r WHERE r.connection_id = c.id AND r.kind = 'manual'
    AND r.state = 'finished') AS synced_from,
  (SELECT max(o.placed_at) FROM orders o WHERE o.account_id = c.account_id AND o.connection_id = c.id
    AND o.removed_at IS NULL AND o.core_digest IS NOT NULL) AS last_order_at
FROM connections c WHERE c.state <> 'disconnected'
"""


def watch(access: Access, stop: threading.Event) -> None:
    """At the worker's start catch up everywhere; then wherever a webhook could not be answered 2xx, or a store's
    connection works again."""
    catch_up_all(access)
    while not stop.wait(WATCH_SECONDS):
        with access.database.transaction() as tx:
            catch_up_wanted(tx)
            runs.resume_mended(tx)


def catch_up_all(access: Access) -> int:
    """Queue a catch-up for each connection; how many were queued."""
    with access.database.transaction() as tx:
        return sum(_catch_up(tx, Connection.of(row)) for row in _locked(tx, "true"))


def catch_up_wanted(tx: Transaction) -> int:
    """Queue one for each connection that wishes it."""
    wanted = (
        "catch_up_wanted_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM sync_runs r WHERE r.connection_id = c.id"
        " AND r.kind = 'catch_up' AND r.created_at > now() - :pause)"
    )
    rows = _locked(tx, wanted, pause=NOT_MORE_OFTEN_THAN)
    return sum(_catch_up(tx, Connection.of(row)) for row in rows)


@jobs.app.periodic(cron="* * * * *")
@jobs.app.task(name="catch_up.due", queueing_lock="catch_up.due", pass_context=True)
def catch_up_due(context: procrastinate.JobContext, timestamp: int) -> None:  # noqa: ARG001 - it is always given
    """Every minute: the connections whose turn it is, so that what webhooks missed is found without anyone asking."""
    open_due(context.additional_context["access"], datetime.now(UTC))


def open_due(access: Access, now: datetime) -> int:
    """Queue a catch-up for each connection that was last caught up its interval ago; how many."""
    with access.database.transaction() as tx:
        rows = tx.execute(text(_CONNECTED)).mappings().all()
    every = intervals(access, rows, now)
    due = [row["id"] for row in rows if row["caught_up_at"] is None or row["caught_up_at"] <= now - every[row["id"]]]
    with access.database.transaction() as tx:
        return sum(_catch_up(tx, Connection.of(row)) for row in _locked(tx, "id = ANY(:due)", due=due))


def intervals(access: Access, rows: Sequence[RowMapping], now: datetime) -> dict[int, timedelta]:
    """How often each connection is caught up: all shops of an app that counts days share its calls."""
    found = {row["id"]: EVERY for row in rows}
    for key, platform in REGISTRY.items():
        shops = [row for row in rows if row["platform"] == key]
        if not platform.capabilities.calls_per_day or not shops:
            continue
        limit = pacing.day_limit(access.database, platform.bucket(shops[0]["id"], access.app))
        polled = [catch_up.Polled(row["id"], row["last_delivery_at"], row["last_order_at"]) for row in shops]
        found |= catch_up.intervals(polled, limit or platform.capabilities.calls_per_day, now)
    return found


@jobs.app.periodic(cron="41 3 * * *")
@jobs.app.task(name="sync.nightly", queueing_lock="sync.nightly", pass_context=True)
def nightly(context: procrastinate.JobContext, timestamp: int) -> None:  # noqa: ARG001 - it is always given
    """Every night: read what is still unsettled, and in full what was not read in full for long enough."""
    access: Access = context.additional_context["access"]
    open_nightly(access, datetime.now(UTC))


def open_nightly(access: Access, now: datetime) -> tuple[int, int]:
    """Queue both for each connection; how many runs settle, and how many are deep."""
    with access.database.transaction() as tx:
        rows = tx.execute(text(_CONNECTED)).mappings().all()
        settling = deep = 0
        for row in rows:
            connection = Connection.of(row)
            if verdict.unsettled(tx, connection, "", 1, now):
                settling += runs.open_by_itself(tx, connection, "settle", runs.window_of_days(1, now, connection.skew))
            every = REGISTRY[connection.platform].capabilities.deep_every
            # Half an hour less, since the last one was opened at this hour too.
            if row["deep_at"] is None or row["deep_at"] <= now - every + timedelta(minutes=30):
                deep += runs.open_by_itself(tx, connection, "catch_up", _deep_window(row, now), deep=True)
    return settling, deep


def _deep_window(row: RowMapping, now: datetime) -> Window:
    """Sixty days, or as far back as we ever asked: older orders are the merchant's to import."""
    longest = runs.window_of_days(DEEP_DAYS, now, Connection.of(row).skew)
    begin = min(row["installed_at"], row["synced_from"] or row["installed_at"])
    return Window(min(max(longest.from_, floor_second(begin)), longest.until), longest.until)


def _catch_up(tx: Transaction, connection: Connection) -> bool:
    opened = runs.open_by_itself(tx, connection, "catch_up", catch_up.window_since(connection, datetime.now(UTC)))
    if opened:
        tx.execute(text("UPDATE connections SET catch_up_wanted_at = NULL WHERE id = :id"), {"id": connection.id})
    return opened


def _locked(tx: Transaction, condition: str, **values: object) -> list[RowMapping]:
    return list(
        tx.execute(
            text(f"SELECT * FROM connections c WHERE state <> 'disconnected' AND {condition} FOR UPDATE SKIP LOCKED"),  # noqa: S608 - constants only
            values,
        ).mappings()
    )
