"""Sync runs: asked for, taken by a worker, read by people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlalchemy import Connection, RowMapping, text

from gateway import jobs
from gateway.connections import model
from gateway.domain.problems import (
    CATALOGUE,
    STORE_NOT_CONNECTED,
    STORE_NOT_FOUND,
    WINDOW_REFUSED,
    NeedsMerchant,
    Refused,
)
from gateway.domain.scope import AccountScope
from gateway.domain.window import CHOICES_DAYS, Window

TASK = "sync.work"

RUN_LOCK = 4_242_300
"""First half of the advisory lock that the worker of a run holds while it lives; the second is the run's id."""

FROZEN_AFTER = timedelta(seconds=120)
"""A worker that gave no sign of life for so long is overtaken; its fencing number keeps it from writing."""


@dataclass(frozen=True, slots=True)
class Opened:
    """`already_running`: the same store and window was asked for before, this is that run. `waits_for`: the run that
    goes first."""

    run_id: int
    already_running: bool
    waits_for: int | None


@dataclass(frozen=True, slots=True)
class Taken:
    """A run that this worker may work on, as long as its fencing number is the run's."""

    id: int
    fence: int
    account_id: int
    connection_id: int
    kind: str
    window: Window
    days: int | None
    is_new: bool
    """Nobody worked on it yet: its window is frozen now."""
    stage: str
    checkpoint: Mapping[str, Any]


def window_of_days(days: int, now: datetime, skew: timedelta) -> Window:
    """The last `days` times 24 hours by the store's own clock."""
    return Window.of_days(days, until=now - skew)


def open_run(tx: Connection, scope: AccountScope, store_id: int, days: int) -> Opened:
    """Ask for a Sync Order of a store; the job commits with the run.

    Raises Refused (no such store, no such window) or NeedsMerchant (the store is disconnected).
    """
    if days not in CHOICES_DAYS:
        raise Refused(WINDOW_REFUSED, f"{days} days", why=f"{days} days is not one of the choices.")
    store = tx.execute(
        text("SELECT * FROM connections WHERE id = :id AND account_id = :account FOR UPDATE"),
        {"id": store_id, "account": scope.account_id},
    ).mappings().first()  # fmt: skip
    if store is None:
        raise Refused(STORE_NOT_FOUND, str(store_id))
    if store["state"] == "disconnected":
        problem = CATALOGUE.get(store["state_problem"] or "")
        why = problem.title if problem else "it was disconnected."
        raise NeedsMerchant(STORE_NOT_CONNECTED, why, state="disconnected", why=why)
    connection = model.Connection.of(store)
    open_runs = tx.execute(
        text("SELECT id, kind, days, state FROM sync_runs WHERE connection_id = :id"
             " AND state IN ('queued', 'running') ORDER BY state = 'running' DESC, id"),
        {"id": store_id},
    ).all()  # fmt: skip
    manual = [run for run in open_runs if run.kind == "manual"]
    for run in manual:
        if run.days == days:
            return Opened(run.id, True, manual[0].id if manual[0].id != run.id else None)
    window = window_of_days(days, datetime.now(UTC), connection.skew)
    run_id = _insert(tx, connection, "manual", window, days=days, user_id=scope.user_id)
    return Opened(run_id, False, manual[0].id if manual else None)


def open_catch_up(tx: Connection, connection: model.Connection, window: Window) -> int | None:
    """Queue a catch-up run of a connection; None while one is queued or running already."""
    there = tx.execute(
        text("SELECT 1 FROM sync_runs WHERE connection_id = :id AND kind = 'catch_up'"
             " AND state IN ('queued', 'running')"),
        {"id": connection.id},
    ).first()  # fmt: skip
    return None if there is not None else _insert(tx, connection, "catch_up", window)


def _insert(
    tx: Connection, connection: model.Connection, kind: str, window: Window, *, days: int | None = None,
    user_id: int | None = None,
) -> int:  # fmt: skip
    run_id: int = tx.execute(
        text(
            "INSERT INTO sync_runs (account_id, connection_id, kind, days, window_from, window_until, requested_by)"
            " VALUES (:account, :connection, :kind, :days, :from, :until, :user) RETURNING id"
        ),
        {"account": connection.account_id, "connection": connection.id, "kind": kind, "days": days,
         "from": window.from_, "until": window.until, "user": user_id},
    ).scalar_one()  # fmt: skip
    jobs.defer(tx, TASK, once=f"sync:{connection.id}", connection_id=connection.id)
    return run_id


# --- taking ----------------------------------------------------------------------------------------------------
def take(tx: Connection, connection_id: int, *, now: datetime) -> Taken | None:
    """The run of this connection that has to be worked on next, with a new fencing number.

    A merchant's run goes before a catch-up. None while a living worker has one, or nothing is due.
    """
    tx.execute(text("SELECT 1 FROM connections WHERE id = :id FOR UPDATE"), {"id": connection_id})
    row = tx.execute(
        text(
            "SELECT *, pg_try_advisory_xact_lock(:lock, id::int4) AS orphaned FROM sync_runs"
            " WHERE connection_id = :id AND state = 'running'"
        ),
        {"lock": RUN_LOCK, "id": connection_id},
    ).mappings().first()  # fmt: skip
    if row is not None:
        if not row["orphaned"] and row["seen_at"] > now - FROZEN_AFTER:
            return None
    else:
        row = tx.execute(
            text(
                "SELECT * FROM sync_runs WHERE connection_id = :id AND state = 'queued'"
                " AND (waiting_until IS NULL OR waiting_until <= :now) ORDER BY kind <> 'manual', id LIMIT 1"
            ),
            {"id": connection_id, "now": now},
        ).mappings().first()  # fmt: skip
        if row is None:
            return None
    fence: int = tx.execute(
        text(
            "UPDATE sync_runs SET state = 'running', fence = fence + 1, seen_at = :now, waiting_until = NULL,"
            " started_at = coalesce(started_at, :now) WHERE id = :id RETURNING fence"
        ),
        {"id": row["id"], "now": now},
    ).scalar_one()
    return Taken(
        id=row["id"], fence=fence, account_id=row["account_id"], connection_id=connection_id, kind=row["kind"],
        window=Window(row["window_from"], row["window_until"]), days=row["days"],
        is_new="frozen" not in (row["checkpoint"] or {}), stage=row["stage"], checkpoint=row["checkpoint"] or {},
    )  # fmt: skip


def due_connections(tx: Connection) -> list[int]:
    """Connections with a run that waits for a worker: queued and due, or left by one that died."""
    return list(
        tx.execute(
            text(
                "SELECT DISTINCT r.connection_id FROM sync_runs r WHERE"
                " (r.state = 'queued' AND (r.waiting_until IS NULL OR r.waiting_until <= now())"
                "  AND NOT EXISTS (SELECT 1 FROM sync_runs o WHERE o.connection_id = r.connection_id"
                "                  AND o.state = 'running'))"
                " OR (r.state = 'running' AND (r.seen_at < now() - :frozen"
                "     OR pg_try_advisory_xact_lock(:lock, r.id::int4)))"
            ),
            {"lock": RUN_LOCK, "frozen": FROZEN_AFTER},
        ).scalars()
    )


# --- reading ---------------------------------------------------------------------------------------------------
_SELECT = """
SELECT r.*, c.name AS store_name, c.platform, c.time_zone, u.email AS requested_by_email,
  (SELECT min(o.id) FROM sync_runs o WHERE o.connection_id = r.connection_id AND o.kind = 'manual'
     AND o.id <> r.id AND (o.state = 'running' OR (o.state = 'queued' AND o.id < r.id))) AS waits_for
FROM sync_runs r JOIN connections c ON c.id = r.connection_id LEFT JOIN users u ON u.id = r.requested_by
WHERE r.account_id = :account
"""


def get_run(tx: Connection, scope: AccountScope, run_id: int) -> RowMapping | None:
    """One run with its store's name, platform and time zone, and who asked for it."""
    values = {"account": scope.account_id, "run": run_id}
    return tx.execute(text(_SELECT + " AND r.id = :run"), values).mappings().first()


def recent_runs(
    tx: Connection, scope: AccountScope, *, limit: int = 20, store_id: int | None = None
) -> list[RowMapping]:
    """The newest runs first."""
    condition = " AND r.connection_id = :store" if store_id is not None else ""
    statement = text(_SELECT + condition + " ORDER BY r.id DESC LIMIT :limit")
    return list(
        tx.execute(statement, {"account": scope.account_id, "store": store_id, "limit": limit}).mappings()
        if store_id is not None
        else tx.execute(statement, {"account": scope.account_id, "limit": limit}).mappings()
    )


def run_items(
    tx: Connection, scope: AccountScope, run_id: int, outcomes: Sequence[str], *, limit: int = 200, after: str = ""
) -> list[RowMapping]:
    """What became of single orders in a run, by external id; with the order's number and id where it is stored."""
    return list(
        tx.execute(
            text(
                "SELECT i.external_id, i.outcome, i.problem, i.problem_detail, i.updated_at, o.id AS order_id, o.number"
                " FROM run_items i JOIN sync_runs r ON r.id = i.run_id"
                " LEFT JOIN orders o ON o.connection_id = r.connection_id AND o.external_id = i.external_id"
                " WHERE i.account_id = :account AND i.run_id = :run AND i.outcome = ANY(:outcomes)"
                " AND i.external_id > :after ORDER BY i.external_id LIMIT :limit"
            ),
            {"account": scope.account_id, "run": run_id, "outcomes": list(outcomes), "after": after, "limit": limit},
        ).mappings()
    )


def store_time(moment: datetime, time_zone: str) -> str:
    """A moment as the store's own clock shows it, to the minute."""
    try:
        zone: Any = ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError):
        zone = UTC
    return moment.astimezone(zone).strftime("%Y-%m-%d %H:%M")


def result_line(run: Mapping[Any, Any]) -> str | None:
    """The sentence that merchants know, word for word; None until the run is finished."""
    if run["state"] != "finished" or run["finished_at"] is None:
        return None
    word = "incomplete" if run["verdict"] == "incomplete" else "complete"
    moment = store_time(run["finished_at"], run["time_zone"])
    return (
        f"Synchronize {moment} {word}, Plan execution: Total additions {run['created']},"
        f" To update {run['updated']}, fail {run['failed']}"
    )
