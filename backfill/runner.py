"""The runner: lists a window page by page, applies each page in one transaction, and proves what it did."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import procrastinate
import structlog
from sqlalchemy import Connection as Transaction
from sqlalchemy import text

from backfill import bulk, catch_up, gaps, heads, looks, runs, slices, verdict, writing
from backfill.hold import Hold, Superseded
from backfill.items import Item, record
from backfill.looks import Looked
from backfill.runs import RUN_LOCK, TASK, Taken
from config.logging import way_to
from gateway import jobs
from gateway.connections import model
from gateway.connections.access import Access
from gateway.connections.model import Connection
from gateway.connections.pacing import Purpose
from gateway.db.engine import Database, is_passing
from gateway.domain import points
from gateway.domain.order import PARTS, PartName
from gateway.domain.problems import (
    STORE_PREPARING,
    STORE_THROTTLED,
    TOKEN_REVOKED,
    UNEXPECTED,
    GatewayError,
    NeedsMerchant,
    NeedsOperator,
    Refused,
    Retry,
)
from gateway.domain.window import Window, ceil_second, floor_second
from gateway.orders.apply import remove
from gateway.orders.rereads import Wish, want
from gateway.platforms import REGISTRY
from gateway.platforms.base import Count, Cursor, Found, Head, Page, StoreAccess

log = structlog.get_logger("backfill.runner")

LOOK_UPS = 50
"""Orders that were not listed, looked up in one go."""

CLOCK_BLUR = timedelta(seconds=2)
"""How far off our idea of a store's clock may be: its Date has whole seconds, and an answer takes its time."""

SAMPLED = 0.01
"""Of equal heads so many are read all the same, at random: what they show to differ is drift."""

MOST_SAMPLED_AT_ONCE = 100

MOST_COMPARED = 5
"""Counts asked for, one after the other, while orders change between the count and what is compared with it."""

MAX_FAILURES = 8
"""Failures in a row without a page of progress, after which the run stops and says so."""

DISPATCH_SECONDS = 2.0


class _Yield(Exception):
    """A run waits that goes before this one, which goes on after it, from its checkpoint."""


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
    _hold: Hold = field(init=False)

    def __post_init__(self) -> None:
        self._hold = Hold(self.access.database, self.taken)

    def run(self) -> None:
        """Go on from the checkpoint to a verdict, or leave the run waiting or stopped with its reason."""
        self._state = {
            "slices": [], "slice": 0, "verdicts": [], "cursor": None, "pass": 1, "attempt": 1, "known": None,
            "tail": None, "tail_until": None, "counted": None, "equal": 0, "sample_from": None, "after": "",
            "stretch": "", "gaps": [], "failures": 0, "waits": 0, "skew_ms": 0, "bulk": None,
            **self.taken.checkpoint,
        }  # fmt: skip
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
        except Exception as error:
            if is_passing(error):
                raise  # the database is away: the run is left as it stands, and taken again by whoever comes first
            log.error("run.unexpected", run=self.taken.id, error=way_to(error))
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
        self._store = self.access.store(connection, purpose=_purpose(self.taken))
        self._store.http.after = self._hold.signing(self._store.http.after)
        if self.taken.is_new:
            self._freeze()
        if self.taken.kind in ("retry", "settle"):
            self._read_singly()
            return
        while self._state["slice"] < len(self._state["slices"]):
            self._work_on(slices.Slice.of(self._state["slices"][self._state["slice"]]))
        self._finish(verdict.of_all([verdict.Decision(*each) for each in self._state["verdicts"]]))

    @property
    def _lists_once(self) -> bool:
        """Whether this is a catch-up at a platform that counts the app's calls by the day: it asks for no more than it
        must, so that it can come by more often. The last answer, whenever it was, tells the store's clock."""
        able = REGISTRY[self._connection.platform].capabilities
        return self.taken.kind == "catch_up" and not self.taken.deep and able.calls_per_day > 0

    def _freeze(self) -> None:
        """Fix the window by the store's own clock, which one call to it tells; the key is proven by the same call."""
        if not self._lists_once:
            REGISTRY[self._connection.platform].shop(self._store)
        now = datetime.now(UTC)
        with self.access.database.transaction() as tx:
            connection = model.get(tx, self._connection.id)
        assert connection is not None
        self._connection = connection
        window = self.taken.window
        if self.taken.days is not None:
            window = runs.window_of_days(self.taken.days, now, connection.skew)
        elif self.taken.kind == "catch_up" and not self.taken.deep:
            window = catch_up.window_since(connection, now)
        self._state["skew_ms"] = int(connection.skew.total_seconds() * 1000)
        self._probe_granted(window)
        expected: int | None = None
        if self.taken.kind not in ("retry", "settle"):
            parts = slices.cut(self.access.database, self._store, connection, window, self.taken)
            self._state["slices"] = [part.to_store() for part in parts]
            counts = [part.expected for part in parts]
            expected = None if None in counts else sum(count for count in counts if count is not None)
        self._hold.freeze(window, expected, self._state)
        self.taken = self._hold.taken = replace(self.taken, window=window, is_new=False)

    def _probe_granted(self, window: Window) -> None:
        """Heads show no person, so one whole order tells what may be read now."""
        platform = REGISTRY[self._connection.platform]
        if not platform.capabilities.denies_parts:
            return
        longest = Window(window.until - (platform.capabilities.look_back or timedelta(days=60)), window.until)
        page = platform.list_page(self._store, longest, None, size=1)
        with self.access.database.transaction() as tx:
            self._hold.check(tx)
            self._note_granted(tx, page.orders)

    def _work_on(self, part: slices.Slice) -> None:
        """List one slice and check it, as often as it takes; then its verdict stands and the next one's turn comes."""
        if self._hold.stage() == "listing":
            self._list_slice(part)
            self._sample(part)
            self._hold.set_stage("checking", self._state)
        seen, decision = self._check(part)
        if decision is None:
            self._state.update(cursor=None, known=seen, attempt=self._state["attempt"] + 1)
        else:
            self._state["verdicts"] = [
                *self._state["verdicts"], [decision.verdict, decision.expected, decision.detail]
            ]  # fmt: skip
            self._state.update(cursor=None, known=None, attempt=1, bulk=None, slice=self._state["slice"] + 1)
        self._state["pass"] += 1
        self._hold.set_stage("listing", self._state)

    # --- listing -----------------------------------------------------------------------------------------------
    def _list_slice(self, part: slices.Slice) -> None:
        """In one operation of the platform where there are many, else in pages. What an operation brought is known by
        its heads from then on, but to a deep run, which counts on nothing that it did not read itself."""
        if self._state["attempt"] == 1 and self._bring(part):
            return
        by_heads = part.by_heads or (self._state["bulk"] in ("whole", "part") and not self.taken.deep)
        self._list(replace(part, by_heads=by_heads), tail=False)

    def _bring(self, part: slices.Slice) -> bool:
        """Whether an operation of the platform brought the whole slice. Waits for one that is on its way."""
        able = REGISTRY[self._connection.platform].bulk
        if able is None or not part.by_bulk:
            return False
        if self._state["bulk"] is None:
            self._state["bulk"] = bulk.begin(able, self._store, part.window, self._connection)
            points.reached("after_bulk_begin")
            self._hold.set_stage("listing", self._state)
            points.reached("after_bulk_checkpoint")
        if isinstance(self._state["bulk"], dict):
            orders = part.expected or 0
            for page in bulk.pages(able, self._store, part.window, orders, self._connection, self._state):
                points.reached("after_page_fetch")
                done = {"bulk": "whole"} if page.cursor is None else {}
                self._write(page, page.cursor, number=self._state["pass"], also=done)
            if self._state.get("bulk") != "whole":
                self._state.update(bulk="part" if self._state["cursor"] else "nothing", cursor=None)
                self._hold.set_stage("listing", self._state)
        return bool(self._state.get("bulk") == "whole")

    def _list(self, part: slices.Slice, *, tail: bool) -> None:
        for page in looks.pages(self._connection, self._store, part, self._state["cursor"]):
            self._write(page, page.cursor, number=0 if tail else self._state["pass"])

    def _write(
        self, page: Page, following: Cursor | None, *, number: int, is_sample: bool = False,
        also: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Apply a page; a crash repeats it, uncounted. `also`: what else the checkpoint says from then on."""
        checkpoint = self._progressed(cursor=following, **(also or {}))
        looked = self._whole(page, checkpoint, number) if page.heads else Looked(page.orders, [], [])
        if looked.cut_short is not None:
            checkpoint = self._progressed()  # the page comes again, with less to ask for
        self._put(looked, checkpoint, number=number, is_sample=is_sample)

    def _put(self, looked: Looked, checkpoint: dict[str, Any], *, number: int, is_sample: bool = False) -> None:
        """Write what was found with its items, counters and checkpoint in ONE transaction."""
        readings, failed = writing.read(self._connection, looked.found, datetime.now(UTC), self.taken.id)
        with self.access.database.transaction() as tx:
            self._hold.check(tx)
            applied = writing.write(tx, self._connection, self.taken, self.access.payloads, readings)
            remove(tx, looked.removals, source="run", quiet=self.taken.quiet)
            items = [*looked.items, *failed, *applied]
            counted = record(tx, self.taken, items, number=number, since=self._connection.installed_at)
            self._want_failed(tx, items)
            if is_sample:
                counted["sampled"] = len(applied)
                counted["drifted"] = sum(item.outcome == "updated" for item in applied)
            points.reached("inside_page")
            self._hold.move_counters(tx, counted, checkpoint)
            self._note_granted(tx, looked.found)
            interrupted = runs.is_outranked(tx, self.taken)
            points.reached("before_page_commit")
        points.reached("after_page_commit")
        self._state = checkpoint
        if counted["drifted"]:
            log.warning("run.drift", run=self.taken.id, orders=counted["drifted"])
        if looked.cut_short is not None:
            raise looked.cut_short
        if interrupted:
            raise _Yield

    def _whole(self, page: Page, checkpoint: dict[str, Any], number: int) -> Looked:
        """The whole orders of a page of heads that are missing, differ or are not settled, and what becomes of the
        others without them. Which of the equal ones a sample may begin with is noted in the checkpoint."""
        with self.access.database.transaction() as tx:
            standings = list(zip(page.heads, heads.compare(tx, self._connection, page.heads), strict=True))
        if self.taken.kind == "preview":
            outcomes = {"missing": "created", "differs": "updated", "unsettled": "unchanged", "equal": "unchanged"}
            return Looked([], [], [Item(h.external_id, outcomes[standing], h.updated_at) for h, standing in standings])
        # A catch-up comes by too often to settle what a webhook brought and the marks confirm: the nightly job does.
        enough = {"equal", "unsettled"} if self.taken.kind == "catch_up" else {"equal"}
        equal = [head for head, standing in standings if standing in enough]
        wanted = [head for head, standing in standings if standing not in enough]
        for head in equal if number else ():
            checkpoint["equal"] += 1
            if head.updated_at is not None and random.random() * checkpoint["equal"] < 1:  # noqa: S311 - no secret
                checkpoint["sample_from"] = head.updated_at.isoformat()
        items = [Item(head.external_id, "unchanged", head.updated_at) for head in equal]
        looked = self._fetch(page.heads, wanted)
        known = {item.external_id for item in items}
        found = [order for order in looked.found if order.external_id not in known]
        return looked._replace(found=found, items=[*items, *looked.items])

    def _fetch(self, listed: Sequence[Head], wanted: Sequence[Head]) -> Looked:
        """Whole orders by their ids; or, where so many are wanted that this costs less, their stretch of the list."""
        able = REGISTRY[self._connection.platform].capabilities
        ids = [head.external_id for head in wanted]
        found: list[Found] = []
        stretch = looks.stretch_of(wanted)
        if stretch is not None and len(wanted) > able.by_id_share * len(listed):
            begin = stretch.from_.isoformat()
            # One that was cut short and has not moved since is one that the budget can't bear: by id some come along.
            if begin != self._state["stretch"]:
                self._state["stretch"] = begin
                found, cut_short = looks.by_stretch(self._connection, self._store, stretch, ids)
                if cut_short is not None:
                    return Looked(found, [], [], cut_short=cut_short)
                ids = sorted(set(ids) - {order.external_id for order in found})
        looked = self._look_up(ids)
        return looked._replace(found=[*found, *looked.found])

    def _sample(self, part: slices.Slice) -> None:
        """Read one in a hundred of the equal orders all the same, from a random one on: what differs is drift."""
        count = int(self._state["equal"] * SAMPLED + random.random())  # noqa: S311 - no secret
        begin = self._state["sample_from"]
        self._state.update(equal=0, sample_from=None)
        if self.taken.kind == "preview" or not count or begin is None:
            return
        stretch = Window(datetime.fromisoformat(begin), part.window.until)
        cursor: Cursor | None = None
        while count > 0:
            page = REGISTRY[self._connection.platform].list_page(
                self._store, stretch, cursor, size=min(count, MOST_SAMPLED_AT_ONCE)
            )  # fmt: skip
            self._write(page, None, number=self._state["pass"], is_sample=True)
            count, cursor = count - len(page.orders), page.cursor
            if cursor is None:
                return

    def _look_up(self, ids: Sequence[str]) -> Looked:
        return looks.singly(self.access.database, self._connection, self._store, ids, self.taken.id)

    def _want_failed(self, tx: Transaction, items: Sequence[Item]) -> None:
        """What fails in a run that nobody asked for is read again singly, for the next one begins after it."""
        if self.taken.kind in runs.BY_ITSELF:
            account, connection = self.taken.account_id, self.taken.connection_id
            want(tx, [Wish(account, connection, item.external_id, "failed in a run", None, None)
                      for item in items if item.outcome == "failed"])  # fmt: skip

    # --- checking ----------------------------------------------------------------------------------------------
    def _check(self, part: slices.Slice) -> tuple[int, verdict.Decision | None]:
        """Look up what was not listed, read again what changed meanwhile, and hold it against the platform's count.

        How many orders of the slice were seen, and the verdict; None: list once more.
        """
        if self._state["tail_until"] is not None and self._state["counted"] is not None:
            counted: Count | None = Count(*self._state["counted"])  # what came after it was cut short, and goes on
        else:
            if self.taken.kind != "preview":
                self._look_up_unlisted(part)
            counted = self._count(part)
        for _ in range(MOST_COMPARED):
            if not self._lists_once:
                # After the count, so that what left the slice before it is known to have left.
                self._list_tail()
            seen = self._seen(part)
            agrees, is_steady = counted is None or self._agrees(part, seen, counted), True
            if agrees:
                break
            # What changes between the two makes them differ: only a count that stands still shows that rows are lost.
            before, counted = counted, self._count(part)
            is_steady = counted == before
            if is_steady:
                break
        decision = verdict.decide(
            seen, counted, self._state["attempt"], self._state["known"], once=self._lists_once, agrees=agrees,
            is_steady=is_steady,
        )  # fmt: skip
        if decision is not None and decision.verdict == "incomplete" and counted is not None:
            whole = gaps.Gap(part.window, counted.orders, seen.listed)
            found = gaps.find(self._counted, lambda window: self._seen(part, window).listed, whole)
            self._state["gaps"] = [*self._state["gaps"], *(gap.to_store() for gap in found)]
        return seen.listed, decision

    def _agrees(self, part: slices.Slice, seen: verdict.Seen, counted: Count) -> bool:
        """Whether all that is counted was seen. What no list named may be counted all the same, or not: then each
        second of which more are counted than listed must have as many that were found singly."""
        if not counted.exact or counted.orders == seen.listed:
            return True
        if not seen.listed < counted.orders <= seen.listed + seen.singly:
            return False
        whole = gaps.Gap(part.window, counted.orders, seen.listed)
        found = gaps.find(self._counted, lambda window: self._seen(part, window).listed, whole)
        return all(0 < gap.counted - gap.seen <= self._seen(part, gap.window).singly for gap in found)

    def _count(self, part: slices.Slice) -> Count | None:
        counted = None if part.by_placed else REGISTRY[self._connection.platform].count(self._store, part.window)
        self._state["counted"] = None if counted is None else [counted.orders, counted.exact]
        return counted

    def _seen(self, part: slices.Slice, window: Window | None = None) -> verdict.Seen:
        with self.access.database.transaction() as tx:
            return verdict.seen(tx, self.taken.id, part, self._state["pass"], window)

    def _counted(self, window: Window) -> int | None:
        counted = REGISTRY[self._connection.platform].count(self._store, window)
        return counted.orders if counted is not None and counted.exact else None

    def _list_tail(self) -> None:
        """Orders that changed since the window was frozen left it: they are read here. One that was cut short goes on
        where it stopped, or a small budget would be spent on its first pages for ever."""
        frozen = self.taken.window.until - CLOCK_BLUR
        begin = datetime.fromisoformat(self._state["tail"]) if self._state["tail"] else frozen
        theirs = datetime.now(UTC) - self._connection.skew
        if self._state["tail_until"] is None:
            self._state.update(cursor=None, tail_until=max(ceil_second(theirs + CLOCK_BLUR), begin).isoformat())
        window = Window(begin, datetime.fromisoformat(self._state["tail_until"]))
        if window.until > window.from_:
            by_heads = REGISTRY[self._connection.platform].list_heads is not None
            self._list(slices.Slice(window, by_heads, None), tail=True)
        in_step = max(frozen, floor_second(min(theirs, window.until - CLOCK_BLUR) - CLOCK_BLUR))
        self._state.update(cursor=None, tail=max(begin, in_step).isoformat(), tail_until=None)

    def _look_up_unlisted(self, part: slices.Slice) -> None:
        """Stored live orders of the slice that no page named: found, gone or hidden, each asked for singly."""
        while True:
            with self.access.database.transaction() as tx:
                ids = verdict.unlisted(tx, self.taken, part, self._state["pass"], LOOK_UPS)
            if not ids:
                return
            self._write_looks(ids, self._progressed())

    def _read_singly(self) -> None:
        """Orders by their ids: those that failed in the run before this one, whose own counters never change; or those
        that no read has settled."""
        while True:
            with self.access.database.transaction() as tx:
                if self.taken.kind == "retry":
                    ids = verdict.failed_before(tx, self.taken, self._state["after"], LOOK_UPS)
                else:
                    ids = verdict.unsettled(tx, self._connection, self._state["after"], LOOK_UPS, datetime.now(UTC))
            if not ids:
                break
            self._write_looks(ids, self._progressed(after=ids[-1]))
        self._finish(verdict.Decision("complete", None, ""))

    def _write_looks(self, ids: Sequence[str], checkpoint: dict[str, Any]) -> None:
        looked = self._look_up(ids)
        if looked.cut_short is not None and checkpoint["after"]:
            checkpoint = {**checkpoint, "after": looked.last}
        self._put(looked, checkpoint, number=-self._state["pass"])

    def _progressed(self, **changes: Any) -> dict[str, Any]:
        """The checkpoint after some progress: whatever failed or waited before it is over."""
        return {**self._state, "failures": 0, "waits": 0, "refreshed": False, **changes}

    def _note_granted(self, tx: Transaction, orders: Sequence[Found]) -> None:
        """Webhooks say null for what was not granted: whether it was is known from reads."""
        if not orders:
            return
        denied = frozenset[PartName]().union(*(order.denied for order in orders))
        granted = tuple(part for part in PARTS if part not in denied)
        if granted != self._connection.granted_parts:
            model.set_granted(tx, self._connection.id, granted)
            self._connection = replace(self._connection, granted_parts=granted)

    # --- the end -----------------------------------------------------------------------------------------------
    def _finish(self, decision: verdict.Decision) -> None:
        with self.access.database.transaction() as tx:
            self._hold.finish(tx, decision)
            if self.taken.kind in ("manual", "catch_up") and self._is_in_step(decision):
                verdict.advance_watermark(tx, self.taken, timedelta(milliseconds=self._state["skew_ms"]))
            if self._connection.state != "connected":
                model.works_again(tx, self._connection.id)
        log.info("run.finished", run=self.taken.id, verdict=decision.verdict)

    def _is_in_step(self, decision: verdict.Decision) -> bool:
        """Whether nothing that was updated in the window can be missing, as far as the platform lets anyone know. By
        when orders were placed, updates of older ones are not listed."""
        parts = map(slices.Slice.of, self._state["slices"])
        return (decision.verdict, decision.detail) in (("complete", ""), ("unknown", verdict.LISTED_ONCE)) and not all(
            part.by_placed for part in parts
        )

    def _leave(self, to: str, error: GatewayError | None, *, wait: timedelta) -> None:
        self._hold.leave(to, error, self._state, wait=wait)

    def _fail_for_now(self, error: Retry) -> None:
        if isinstance(error, Superseded):
            log.warning("run.superseded", run=self.taken.id)
            return
        if error.problem is STORE_PREPARING:
            # An operation that is under way is no failure, and says itself when it is worth looking.
            self._leave("queued", error, wait=timedelta(seconds=error.after_seconds))
            return
        if error.problem is STORE_THROTTLED:
            # A spent budget is no failure: the run waits as long as it takes, and is shown as waiting.
            # Without any progress between them waits grow: not every store says how long it wants to be left alone.
            self._state["waits"] += 1
            longer = min(2.0 ** (self._state["waits"] - 3), 300.0) if self._state["waits"] > 3 else 1.0
            self._leave("queued", error, wait=timedelta(seconds=min(max(error.after_seconds, longer), 3600.0)))
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


def _purpose(taken: Taken) -> Purpose:
    """Who waits for what this run asks of the store."""
    if taken.kind == "settle" or (taken.kind == "catch_up" and taken.deep):
        return "background"
    return "catch_up" if taken.kind == "catch_up" else "user"
