"""The runner: lists a window page by page, applies each page in one transaction, and proves what it did."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import procrastinate
import structlog
from psycopg.types.json import Jsonb
from sqlalchemy import Connection as Transaction
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from backfill import catch_up, runs, verdict
from backfill.runs import RUN_LOCK, TASK, Taken
from gateway import jobs
from gateway.connections import model
from gateway.connections.access import Access
from gateway.connections.model import Connection
from gateway.db.engine import Database
from gateway.db.engine import cursor as cursor_of
from gateway.domain.order import PARTS, PartName
from gateway.domain.points import reached
from gateway.domain.problems import (
    ORDER_HIDDEN,
    RUN_SUPERSEDED,
    TOKEN_REVOKED,
    UNEXPECTED,
    GatewayError,
    NeedsMerchant,
    NeedsOperator,
    Refused,
    Retry,
)
from gateway.domain.window import Window, ceil_second, floor_second
from gateway.orders.apply import Removal, apply, remove
from gateway.orders.lookups import judge
from gateway.orders.reading import Reading, read_order
from gateway.platforms import REGISTRY, fields
from gateway.platforms.base import Cursor, Found, Gone, LookUp, Page, StoreAccess

log = structlog.get_logger("backfill.runner")

LOOK_UPS = 50
"""Orders that were not listed, looked up in one go."""

CLOCK_BLUR = timedelta(seconds=2)
"""How far off our idea of a store's clock may be: its Date has whole seconds, and an answer takes its time."""

MAX_FAILURES = 8
"""Failures in a row without a page of progress, after which the run stops and says so."""

DISPATCH_SECONDS = 2.0


class Item(NamedTuple):
    """What the run did with one order."""

    external_id: str
    outcome: str
    updated_at: datetime | None
    problem: str | None = None
    problem_detail: str | None = None


class _Yield(Exception):
    """A merchant's run waits: this catch-up goes on after it, from its checkpoint."""


def dispatch(database: Database, stop: threading.Event) -> None:
    """Queue a job for each connection whose run waits for a worker; a run outlives every worker."""
    while not stop.wait(DISPATCH_SECONDS):
        with database.transaction() as tx:
            for connection_id in runs.due_connections(tx):
                jobs.defer(tx, TASK, once=f"sync:{connection_id}", connection_id=connection_id)


@jobs.app.task(name=TASK, pass_context=True)
def work(context: procrastinate.JobContext, connection_id: int) -> None:
    """Work on the connection's runs, one after the other, until none is due."""
    work_all(context.additional_context["access"], connection_id)


def work_all(access: Access, connection_id: int) -> None:
    """The same, for callers that have no job."""
    while (taken := _take(access, connection_id)) is not None:
        Runner(access, taken).run()


def _take(access: Access, connection_id: int) -> Taken | None:
    with access.database.transaction() as tx:
        connection = model.get(tx, connection_id)
        if connection is None:
            return None
        return runs.take(tx, connection_id, now=datetime.now(UTC))


@dataclass(slots=True)
class Runner:
    """One run in one worker. All that must survive stands in sync_runs and run_items."""

    access: Access
    taken: Taken
    _store: StoreAccess = field(init=False)
    _connection: Connection = field(init=False)
    _state: dict[str, Any] = field(init=False)

    def run(self) -> None:
        """Go on from the checkpoint to a verdict, or leave the run waiting or stopped with its reason."""
        self._state = {"cursor": None, "pass": 1, "tail": None, "failures": 0, **self.taken.checkpoint}
        life = self.access.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            life.execute(text("SELECT pg_advisory_lock_shared(:lock, :id)"), {"lock": RUN_LOCK, "id": self.taken.id})
            self._run()
        except _Yield:
            self._leave("queued", None, wait=timedelta(0))
        except Retry as error:
            self._fail_for_now(error)
        except (NeedsMerchant, NeedsOperator, Refused) as error:
            if error.problem is TOKEN_REVOKED and not self._state.get("refreshed"):
                # One refresh may be all it takes; after it the platform's no is believed.
                self._state["refreshed"] = True
                self.access.expire(self.taken.connection_id)
                self._leave("queued", error, wait=timedelta(0))
                return
            self._stop(error)
        except DBAPIError:
            raise  # the database is away: the run is left as it stands, and taken again by whoever comes first
        except Exception as error:
            log.exception("run.unexpected", run=self.taken.id)
            why = type(error).__name__
            self._fail_for_now(Retry(UNEXPECTED, why, after_seconds=5, why=why))
        finally:
            life.invalidate()
            life.close()

    def _run(self) -> None:
        with self.access.database.transaction() as tx:
            connection = model.get(tx, self.taken.connection_id)
        assert connection is not None
        self._connection = connection
        self._store = self.access.store(connection)
        if self.taken.is_new:
            self._freeze()
        while True:
            if self._stage() == "listing":
                self._list(self.taken.window, tail=False)
                self._set_stage("checking")
            seen, decision = self._check()
            if decision is not None:
                self._finish(decision)
                return
            self._state.update(cursor=None, known=seen, **{"pass": self._state["pass"] + 1})
            self._set_stage("listing")

    def _freeze(self) -> None:
        """Fix the window by the store's own clock, which one call to it tells; the key is proven by the same call."""
        REGISTRY[self._connection.platform].shop(self._store)
        now = datetime.now(UTC)
        self._state["frozen"] = True
        with self.access.database.transaction() as tx:
            connection = model.get(tx, self._connection.id)
            assert connection is not None
            self._hold(tx)
            if self.taken.days is not None:
                window = runs.window_of_days(self.taken.days, now, connection.skew)
            else:
                window = catch_up.window_since(connection, now)
            tx.execute(
                text(
                    "UPDATE sync_runs SET window_from = :from, window_until = :until, checkpoint = :checkpoint"
                    " WHERE id = :id"
                ),
                {"from": window.from_, "until": window.until, "checkpoint": Jsonb(self._state), "id": self.taken.id},
            )
        self._connection = connection
        self.taken = replace(self.taken, window=window, is_new=False)

    # --- listing -----------------------------------------------------------------------------------------------
    def _list(self, window: Window, *, tail: bool) -> None:
        for page, following in self._pages(window):
            self._write(page, following, number=self._state["pass"], tail=tail)

    def _pages(self, window: Window) -> Iterator[tuple[Page, Cursor | None]]:
        """Pages in order; the next one is asked for while this one is written."""
        platform = REGISTRY[self._connection.platform]
        cursor = self._state["cursor"]
        with ThreadPoolExecutor(1, thread_name_prefix="next-page") as ahead:
            coming: Future[Page] | None = ahead.submit(platform.list_page, self._store, window, cursor)
            while coming is not None:
                page = coming.result()
                reached("after_page_fetch")
                coming = None
                if page.cursor is not None:
                    coming = ahead.submit(platform.list_page, self._store, window, page.cursor)
                yield page, page.cursor

    def _write(self, page: Page, following: Cursor | None, *, number: int, tail: bool) -> None:
        """Apply a page in ONE transaction with its items, counters and checkpoint; a crash repeats it, uncounted."""
        received_at = datetime.now(UTC)
        readings, items = self._read(page.orders, received_at)
        checkpoint = {**self._state, "cursor": following, "failures": 0}
        with self.access.database.transaction() as tx:
            self._hold(tx)
            items += self._apply(tx, readings)
            counted = _record(tx, self.taken, items, number=0 if tail else number, since=self._connection.installed_at)
            reached("inside_page")
            self._count(tx, counted, checkpoint)
            self._note_granted(tx, page.orders)
            interrupted = self.taken.kind == "catch_up" and _merchant_waits(tx, self.taken.connection_id)
            reached("before_page_commit")
        reached("after_page_commit")
        self._state = checkpoint
        if interrupted:
            raise _Yield

    def _read(self, orders: Sequence[Found], received_at: datetime) -> tuple[list[Reading], list[Item]]:
        """Each order as a reading, or as a failed item with its reason: one bad payload stops no page."""
        platform = REGISTRY[self._connection.platform]
        readings: list[Reading] = []
        failed: list[Item] = []
        seen: set[str] = set()
        for order in orders:
            if order.external_id in seen:
                continue
            seen.add(order.external_id)
            try:
                readings.append(
                    read_order(
                        platform, fields.as_object(order.raw), order.raw, kind="api", observed_at=order.observed_at,
                        received_at=received_at, account_id=self._connection.account_id,
                        connection_id=self._connection.id,
                        granted=[part for part in PARTS if part not in order.denied],
                        source_id=self.taken.id,
                    )
                )  # fmt: skip
            except GatewayError as error:
                failed.append(
                    Item(order.external_id, "failed", order.updated_at, error.problem.code, error.detail[:500])
                )
        return readings, failed

    def _apply(self, tx: Transaction, readings: Sequence[Reading]) -> list[Item]:
        platforms = {self._connection.id: self._connection.platform}
        outcomes = apply(tx, readings, source="run", platforms=platforms, payloads=self.access.payloads)
        return [
            Item(reading.external_id, applied.outcome, reading.core.version.updated_at)
            for reading, applied in zip(readings, outcomes, strict=True)
        ]

    # --- checking ----------------------------------------------------------------------------------------------
    def _check(self) -> tuple[int, verdict.Decision | None]:
        """Look up what was not listed, read again what changed meanwhile, and hold it against the platform's count.

        How many orders of the window were seen, and the verdict; None: list once more.
        """
        self._look_up_unlisted()
        counted = REGISTRY[self._connection.platform].count(self._store, self.taken.window)
        # After the count, so that what left the window before it is known to have left. What changes between the two
        # makes them differ, and one more listing decides.
        self._list_tail()
        with self.access.database.transaction() as tx:
            seen = verdict.seen_in_window(tx, self.taken.id, self.taken.window, self._state["pass"])
        return seen, verdict.decide(seen, counted, self._state["pass"], self._state.get("known"))

    def _list_tail(self) -> None:
        """Orders that changed since the window was frozen left it: they are read here."""
        cursor, self._state["cursor"] = self._state["cursor"], None
        frozen = self.taken.window.until - CLOCK_BLUR
        begin = self._state["tail"] or frozen.isoformat()
        theirs = datetime.now(UTC) - self._connection.skew
        until = ceil_second(theirs + CLOCK_BLUR)
        window = Window(datetime.fromisoformat(begin), max(until, datetime.fromisoformat(begin)))
        if window.until > window.from_:
            self._list(window, tail=True)
        self._state["tail"] = max(frozen, floor_second(theirs - CLOCK_BLUR)).isoformat()
        self._state["cursor"] = cursor

    def _look_up_unlisted(self) -> None:
        """Stored live orders of the window that no page named: found, gone or hidden, each asked for singly."""
        while True:
            with self.access.database.transaction() as tx:
                ids = verdict.unlisted(tx, self.taken, self._state["pass"], LOOK_UPS)
            if not ids:
                return
            looks = list(REGISTRY[self._connection.platform].fetch_orders(self._store, ids))
            reached("after_look_up")
            with self.access.database.transaction() as tx:
                looks = judge(tx, REGISTRY[self._connection.platform], self._connection.id, looks, datetime.now(UTC))
            self._write_looks(looks)

    def _write_looks(self, looks: Sequence[LookUp]) -> None:
        readings, items = self._read([look for look in looks if isinstance(look, Found)], datetime.now(UTC))
        gone = [look for look in looks if isinstance(look, Gone)]
        removals = [
            Removal(self._connection.account_id, self._connection.id, look.external_id,
                    look.observed_at or floor_second(datetime.now(UTC) - self._connection.skew), self.taken.id)
            for look in gone
        ]  # fmt: skip
        items += [Item(look.external_id, "removed", None) for look in gone]
        items += [
            Item(look.external_id, "hidden", None, ORDER_HIDDEN.code)
            for look in looks
            if not isinstance(look, Found | Gone)
        ]
        with self.access.database.transaction() as tx:
            self._hold(tx)
            items += self._apply(tx, readings)
            remove(tx, removals, source="run")
            counted = _record(tx, self.taken, items, number=-self._state["pass"], since=self._connection.installed_at)
            self._count(tx, counted, {**self._state, "failures": 0})

    # --- the run's own row -------------------------------------------------------------------------------------
    def _hold(self, tx: Transaction) -> None:
        """Lock the run's row if it is still ours: a frozen worker that wakes up must not write."""
        held = tx.execute(
            text("SELECT 1 FROM sync_runs WHERE id = :id AND fence = :fence AND state = 'running' FOR UPDATE"),
            {"id": self.taken.id, "fence": self.taken.fence},
        ).first()
        if held is None:
            raise Superseded

    def _count(self, tx: Transaction, counted: Counter[str], checkpoint: dict[str, Any]) -> None:
        changed = tx.execute(
            text(
                "UPDATE sync_runs SET checkpoint = :checkpoint, seen_at = now(), problem = NULL,"
                " problem_detail = NULL, listed = listed + :listed, created = created + :created,"
                " updated = updated + :updated, unchanged = unchanged + :unchanged,"
                " newer_here = newer_here + :newer_here, failed = failed + :failed, removed = removed + :removed,"
                " hidden = hidden + :hidden, missed = missed + :missed"
                " WHERE id = :id AND fence = :fence AND state = 'running'"
            ),
            {
                "checkpoint": Jsonb(checkpoint), "id": self.taken.id, "fence": self.taken.fence,
                "missed": counted["missed"], "listed": sum(counted[name] for name in verdict.OUTCOMES),
                **{name: counted[name] for name in verdict.OUTCOMES},
            },
        ).rowcount  # fmt: skip
        if changed != 1:
            raise Superseded

    def _note_granted(self, tx: Transaction, orders: Sequence[Found]) -> None:
        """Webhooks say null for what was not granted: whether it was is known from reads."""
        if not orders:
            return
        denied = frozenset[PartName]().union(*(order.denied for order in orders))
        granted = tuple(part for part in PARTS if part not in denied)
        if granted != self._connection.granted_parts:
            model.set_granted(tx, self._connection.id, granted)
            self._connection = replace(self._connection, granted_parts=granted)

    def _stage(self) -> str:
        with self.access.database.transaction() as tx:
            row = tx.execute(text("SELECT stage FROM sync_runs WHERE id = :id"), {"id": self.taken.id}).scalar_one()
        return str(row)

    def _set_stage(self, stage: str) -> None:
        with self.access.database.transaction() as tx:
            self._hold(tx)
            tx.execute(
                text("UPDATE sync_runs SET stage = :stage, checkpoint = :checkpoint, seen_at = now() WHERE id = :id"),
                {"stage": stage, "checkpoint": Jsonb(self._state), "id": self.taken.id},
            )

    def _finish(self, decision: verdict.Decision) -> None:
        with self.access.database.transaction() as tx:
            self._hold(tx)
            tx.execute(
                text(
                    "UPDATE sync_runs SET state = 'finished', verdict = :verdict, expected = :expected,"
                    " problem_detail = :detail, finished_at = now(), seen_at = now() WHERE id = :id"
                ),
                {"verdict": decision.verdict, "expected": decision.expected, "detail": decision.detail,
                 "id": self.taken.id},
            )  # fmt: skip
            if decision.verdict != "incomplete":
                verdict.advance_watermark(tx, self.taken)
            if self._connection.state != "connected":
                model.works_again(tx, self._connection.id)
        log.info("run.finished", run=self.taken.id, verdict=decision.verdict)

    def _leave(self, state: str, error: GatewayError | None, *, wait: timedelta) -> None:
        """Give the run back: its checkpoint is kept, and whoever takes it goes on from there."""
        with self.access.database.transaction() as tx:
            tx.execute(
                text(
                    "UPDATE sync_runs SET state = CAST(:state AS text), problem = :problem, problem_detail = :detail,"
                    " checkpoint = :checkpoint, waiting_until = :until,"
                    " finished_at = CASE WHEN CAST(:state AS text) = 'stopped' THEN now() END"
                    " WHERE id = :id AND fence = :fence AND state = 'running'"
                ),
                {
                    "state": state, "problem": error.problem.code if error else None,
                    "detail": error.detail[:500] if error else None, "checkpoint": Jsonb(self._state),
                    "until": datetime.now(UTC) + wait if wait else None, "id": self.taken.id,
                    "fence": self.taken.fence,
                },
            )  # fmt: skip

    def _fail_for_now(self, error: Retry) -> None:
        if isinstance(error, Superseded):
            log.warning("run.superseded", run=self.taken.id)
            return
        self._state["failures"] += 1
        if self._state["failures"] >= MAX_FAILURES:
            self._stop(error)
            return
        wait = min(max(error.after_seconds, 1.0) * 2 ** (self._state["failures"] - 1), 600.0)
        log.warning("run.waits", run=self.taken.id, problem=error.problem.code, seconds=round(wait))
        self._leave("queued", error, wait=timedelta(seconds=wait))

    def _stop(self, error: GatewayError) -> None:
        log.warning("run.stopped", run=self.taken.id, problem=error.problem.code)
        self._leave("stopped", error, wait=timedelta(0))
        if isinstance(error, NeedsMerchant):
            with self.access.database.transaction() as tx:
                model.set_state(tx, self.taken.connection_id, "action_needed", error.problem.code, error.detail)


class Superseded(Retry):
    """Another worker has this run now."""

    def __init__(self) -> None:
        super().__init__(RUN_SUPERSEDED)


_RECORD = """
INSERT INTO run_items AS i (run_id, account_id, external_id, outcome, pass, updated_at, problem, problem_detail)
SELECT %s::int8, %s::int8, e, o, %s::int2, u, p, d
FROM unnest(%b::text[], %b::text[], %b::timestamptz[], %b::text[], %b::text[]) AS n (e, o, u, p, d)
ON CONFLICT (run_id, external_id) DO UPDATE SET
  pass = CASE WHEN excluded.pass = 0 THEN i.pass ELSE excluded.pass END,
  updated_at = coalesce(greatest(i.updated_at, excluded.updated_at), i.updated_at),
  outcome = CASE WHEN i.outcome IN ('created', 'updated') AND excluded.outcome <> 'removed' THEN i.outcome
                 WHEN i.outcome IN ('unchanged', 'newer_here') AND excluded.outcome IN ('unchanged', 'newer_here')
                 THEN i.outcome ELSE excluded.outcome END,
  problem = excluded.problem, problem_detail = excluded.problem_detail
RETURNING old.outcome AS before, new.outcome AS after, new.updated_at
"""


def _record(tx: Transaction, taken: Taken, items: Sequence[Item], *, number: int, since: datetime) -> Counter[str]:
    """Write what became of each order; by how much the counters move. An order counts once, however often listed.

    `number`: the listing that named them; 0: read again because they changed meanwhile; negative: looked up singly
    after that listing. "missed" counts what this run brought of changes after `since`, when webhooks were on.
    """
    counted: Counter[str] = Counter()
    if not items:
        return counted
    rows = sorted(items)
    with cursor_of(tx) as cursor:
        cursor.execute(
            _RECORD,
            (taken.id, taken.account_id, number, [row.external_id for row in rows], [row.outcome for row in rows],
             [row.updated_at for row in rows], [row.problem for row in rows], [row.problem_detail for row in rows]),
        )  # fmt: skip
        for before, after, updated_at in cursor.fetchall():
            if before is not None:
                counted[before] -= 1
            counted[after] += 1
            brought = after in ("created", "updated") and before not in ("created", "updated")
            if brought and updated_at is not None and updated_at >= since:
                counted["missed"] += 1
    return counted


def _merchant_waits(tx: Transaction, connection_id: int) -> bool:
    return (
        tx.execute(
            text("SELECT 1 FROM sync_runs WHERE connection_id = :id AND kind = 'manual' AND state = 'queued'"),
            {"id": connection_id},
        ).first()
        is not None
    )
