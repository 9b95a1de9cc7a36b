"""Sync runs: asked for, taken by a worker, read by people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlalchemy import Connection, Row, RowMapping, text

from gateway import jobs
from gateway.connections import model
from gateway.domain.problems import (
    CATALOGUE,
    NOTHING_FAILED,
    PERMISSION_MISSING,
    RUN_NOT_FOUND,
    RUN_REPORT_NOT_KEPT,
    RUN_STOPPED,
    SHOP_FROZEN,
    SHOP_GONE,
    STORE_NOT_CONNECTED,
    STORE_NOT_FOUND,
    TOKEN_REVOKED,
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


BY_ITSELF = ("catch_up", "settle")
"""Kinds of runs that nobody asked for."""

RANK = """CASE WHEN kind IN ('manual', 'preview', 'retry') THEN 0 WHEN kind = 'catch_up' AND NOT deep THEN 1
  WHEN kind = 'settle' THEN 2 ELSE 3 END"""
"""Who goes first at a store: people, then what just happened, then what is only to be confirmed."""

MENDED_BY_RECONNECTING = frozenset(
    {problem.code for problem in (TOKEN_REVOKED, PERMISSION_MISSING, SHOP_GONE, SHOP_FROZEN, STORE_NOT_CONNECTED)}
)

KEPT_FOR = timedelta(days=7)
"""A run that waited longer for its store is not begun again by itself: its window is no longer what was meant."""


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
    deep: bool = False
    """Every order is read in full."""
    quiet: bool = False
    """What it changes is not announced downstream."""
    parent_id: int | None = None
    """The run whose failed orders this one tries again."""


def window_of_days(days: int, now: datetime, skew: timedelta) -> Window:
    """The last `days` times 24 hours by the store's own clock."""
    return Window.of_days(days, until=now - skew)


def open_run(
    tx: Connection,
    scope: AccountScope,
    store_id: int,
    days: int,
    *,
    deep: bool = False,
    preview: bool = False,
    quiet: bool | None = None,
) -> Opened:
    """Ask for a Sync Order of a store, or with `preview` for what one would do; the job commits with the run.

    `deep` reads every order in full. `quiet`: what it changes is not announced downstream; None: quiet for a store's
    first import. Raises Refused (no such store, no such window) or NeedsMerchant (the store is disconnected).
    """
    if days not in CHOICES_DAYS:
        raise Refused(WINDOW_REFUSED, f"{days} days", why=f"{days} days is not one of the choices.")
    connection = _hold_store(tx, scope, store_id)
    kind = "preview" if preview else "manual"
    open_runs = _asked_for(tx, store_id)
    for run in open_runs:
        if (run.kind, run.days, run.deep) == (kind, days, deep):
            return Opened(run.id, True, open_runs[0].id if open_runs[0].id != run.id else None)
    if quiet is None:
        quiet = is_first_import(tx, store_id)
    window = window_of_days(days, datetime.now(UTC), connection.skew)
    run_id = _insert(tx, connection, kind, window, days=days, user_id=scope.user_id, deep=deep, quiet=quiet)
    return Opened(run_id, False, open_runs[0].id if open_runs else None)


def open_for_all(
    tx: Connection, scope: AccountScope, days: int, *, deep: bool = False, preview: bool = False,
    quiet: bool | None = None,
) -> list[Opened]:  # fmt: skip
    """The same for each store of the account that is connected: one run a store, side by side."""
    stores = [store for store in model.list_stores(tx, scope) if store["state"] != "disconnected"]
    return [open_run(tx, scope, store["id"], days, deep=deep, preview=preview, quiet=quiet) for store in stores]


def retry_failed(tx: Connection, scope: AccountScope, run_id: int) -> Opened:
    """Ask for a run over the orders that failed in this one, and nothing else; its own counters never change.

    Raises Refused when there is no such run or nothing failed in it, NeedsMerchant when the store is disconnected.
    """
    parent = get_run(tx, scope, run_id)
    if parent is None:
        raise Refused(RUN_NOT_FOUND, str(run_id))
    if not parent["failed"] or parent["state"] != "finished":
        raise Refused(NOTHING_FAILED, str(run_id))
    if parent["items_dropped_at"] is not None:
        raise Refused(RUN_REPORT_NOT_KEPT, str(run_id))
    connection = _hold_store(tx, scope, parent["connection_id"])
    open_runs = _asked_for(tx, connection.id)
    for run in open_runs:
        if run.parent_id == run_id:
            return Opened(run.id, True, open_runs[0].id if open_runs[0].id != run.id else None)
    window = Window(parent["window_from"], parent["window_until"])
    child = _insert(
        tx, connection, "retry", window, user_id=scope.user_id, quiet=parent["quiet"], parent_id=run_id
    )  # fmt: skip
    return Opened(child, False, open_runs[0].id if open_runs else None)


def stop(tx: Connection, scope: AccountScope, run_id: int) -> bool:
    """Stop a run where it stands; what it did stays done, and it can go on later. False: it was not on its way.

    Raises Refused when the account has no such run.
    """
    if get_run(tx, scope, run_id) is None:
        raise Refused(RUN_NOT_FOUND, str(run_id))
    # A higher fencing number: the worker that has it in hand writes nothing more.
    done = tx.execute(
        text(
            "UPDATE sync_runs SET state = 'stopped', fence = fence + 1, finished_at = now(), waiting_until = NULL,"
            " problem = :problem, problem_detail = NULL"
            " WHERE id = :id AND account_id = :account AND state IN ('queued', 'running')"
        ),
        {"problem": RUN_STOPPED.code, "id": run_id, "account": scope.account_id},
    )
    return done.rowcount == 1


def resume(tx: Connection, scope: AccountScope, run_id: int) -> bool:
    """Let a stopped run go on from its checkpoint. False: it is not stopped, the same is on its way already, or it is
    a catch-up, whose window the next one covers.

    Raises Refused when the account has no such run, NeedsMerchant when the store is disconnected.
    """
    run = get_run(tx, scope, run_id)
    if run is None:
        raise Refused(RUN_NOT_FOUND, str(run_id))
    if run["state"] != "stopped" or run["kind"] == "catch_up":
        return False
    connection = _hold_store(tx, scope, run["connection_id"])
    key = ("kind", "days", "deep", "parent_id")
    if any(all(getattr(other, name) == run[name] for name in key) for other in _asked_for(tx, connection.id)):
        return False
    _requeue(tx, run_id, connection.id)
    return True


def resume_mended(tx: Connection) -> int:
    """Let runs go on that stopped because their store's connection did not work, once it does again; how many."""
    rows = tx.execute(
        text(
            "SELECT DISTINCT ON (r.connection_id) r.id, r.connection_id FROM sync_runs r"
            " JOIN connections c ON c.id = r.connection_id"
            " WHERE r.state = 'stopped' AND r.kind NOT IN ('catch_up', 'settle') AND r.problem = ANY(:codes)"
            " AND r.finished_at > now() - :kept AND c.state IN ('connected', 'degraded')"
            " AND c.state_since > r.finished_at"
            " AND NOT EXISTS (SELECT 1 FROM sync_runs o WHERE o.connection_id = r.connection_id AND o.id > r.id"
            "                 AND o.kind NOT IN ('catch_up', 'settle'))"
            " ORDER BY r.connection_id, r.id DESC"
        ),
        {"codes": sorted(MENDED_BY_RECONNECTING), "kept": KEPT_FOR},
    ).all()
    for row in rows:
        _requeue(tx, row.id, row.connection_id)
    return len(rows)


def _requeue(tx: Connection, run_id: int, connection_id: int) -> None:
    tx.execute(
        text(
            "UPDATE sync_runs SET state = 'queued', problem = NULL, problem_detail = NULL, finished_at = NULL,"
            ' waiting_until = NULL, checkpoint = checkpoint || \'{"failures": 0, "refreshed": false}\''
            " WHERE id = :id AND state = 'stopped'"
        ),
        {"id": run_id},
    )
    jobs.defer(tx, TASK, once=f"sync:{connection_id}", connection_id=connection_id)


def is_first_import(tx: Connection, store_id: int) -> bool:
    """Whether no Sync Order of this store was ever finished."""
    done = tx.execute(
        text("SELECT 1 FROM sync_runs WHERE connection_id = :id AND kind = 'manual' AND state = 'finished' LIMIT 1"),
        {"id": store_id},
    ).first()
    return done is None


def open_by_itself(
    tx: Connection, connection: model.Connection, kind: str, window: Window, *, deep: bool = False
) -> bool:
    """Queue a run that nobody asked for, catch_up or settle; False while the same is on its way already."""
    there = tx.execute(
        text("SELECT 1 FROM sync_runs WHERE connection_id = :id AND kind = :kind AND deep = :deep"
             " AND state IN ('queued', 'running')"),
        {"id": connection.id, "kind": kind, "deep": deep},
    ).first()  # fmt: skip
    if there is None:
        _insert(tx, connection, kind, window, deep=deep)
    return there is None


def is_outranked(tx: Connection, taken: Taken) -> bool:
    """Whether another run of the store is due that goes before this one."""
    return (
        tx.execute(
            text(
                f"SELECT 1 FROM sync_runs WHERE connection_id = :connection AND state = 'queued'"  # noqa: S608 - constants only
                " AND (waiting_until IS NULL OR waiting_until <= now())"
                f" AND {RANK} < (SELECT {RANK} FROM sync_runs WHERE id = :id)"
            ),
            {"connection": taken.connection_id, "id": taken.id},
        ).first()
        is not None
    )


def _hold_store(tx: Connection, scope: AccountScope, store_id: int) -> model.Connection:
    """The account's store, locked; who asks for runs of one store goes one after the other."""
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
    return model.Connection.of(store)


def _asked_for(tx: Connection, store_id: int) -> Sequence[Row[Any]]:
    """What people asked for and is not done yet, in the order in which it will be worked on."""
    return tx.execute(
        text("SELECT id, kind, days, deep, parent_id, state FROM sync_runs WHERE connection_id = :id"
             " AND kind NOT IN ('catch_up', 'settle') AND state IN ('queued', 'running')"
             " ORDER BY state = 'running' DESC, id"),
        {"id": store_id},
    ).all()  # fmt: skip


def _insert(
    tx: Connection, connection: model.Connection, kind: str, window: Window, *, days: int | None = None,
    user_id: int | None = None, deep: bool = False, quiet: bool = False, parent_id: int | None = None,
) -> int:  # fmt: skip
    run_id: int = tx.execute(
        text(
            "INSERT INTO sync_runs (account_id, connection_id, kind, days, window_from, window_until, requested_by,"
            " deep, quiet, parent_id) VALUES (:account, :connection, :kind, :days, :from, :until, :user, :deep, :quiet,"
            " :parent) RETURNING id"
        ),
        {"account": connection.account_id, "connection": connection.id, "kind": kind, "days": days,
         "from": window.from_, "until": window.until, "user": user_id, "deep": deep, "quiet": quiet,
         "parent": parent_id},
    ).scalar_one()  # fmt: skip
    jobs.defer(tx, TASK, once=f"sync:{connection.id}", connection_id=connection.id)
    return run_id


# --- taking ----------------------------------------------------------------------------------------------------
def take(tx: Connection, connection_id: int, *, now: datetime) -> Taken | None:
    """The run of this connection that has to be worked on next, with a new fencing number.

    A merchant's run goes before those that begin by themselves. None while a living worker has one, or nothing is due.
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
                "SELECT * FROM sync_runs WHERE connection_id = :id AND state = 'queued'"  # noqa: S608 - constants only
                f" AND (waiting_until IS NULL OR waiting_until <= :now) ORDER BY {RANK}, id LIMIT 1"
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
        is_new=not (row["checkpoint"] or {}).get("slices"), stage=row["stage"], checkpoint=row["checkpoint"] or {},
        deep=row["deep"], quiet=row["quiet"], parent_id=row["parent_id"],
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
SELECT = """
SELECT r.*, c.name AS store_name, c.platform, c.time_zone, c.scopes, u.email AS requested_by_email,
  (SELECT min(o.id) FROM sync_runs o WHERE o.connection_id = r.connection_id AND o.kind NOT IN ('catch_up', 'settle')
     AND o.id <> r.id AND (o.state = 'running' OR (o.state = 'queued' AND o.id < r.id))) AS waits_for
FROM sync_runs r JOIN connections c ON c.id = r.connection_id LEFT JOIN users u ON u.id = r.requested_by
WHERE r.account_id = :account
"""


def get_run(tx: Connection, scope: AccountScope, run_id: int) -> RowMapping | None:
    """One run with its store's name, platform and time zone, and who asked for it."""
    values = {"account": scope.account_id, "run": run_id}
    return tx.execute(text(SELECT + " AND r.id = :run"), values).mappings().first()


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
    if run["state"] != "finished" or run["finished_at"] is None or run["kind"] == "preview":
        return None
    word = "incomplete" if run["verdict"] == "incomplete" else "complete"
    moment = store_time(run["finished_at"], run["time_zone"])
    return (
        f"Synchronize {moment} {word}, Plan execution: Total additions {run['created']},"
        f" To update {run['updated']}, fail {run['failed']}"
    )
