"""The runner: lists a window page by page, applies each page in one transaction, and proves what it did."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import procrastinate
import structlog
from psycopg.types.json import Jsonb
from sqlalchemy import Connection as Transaction
from sqlalchemy import text

from backfill import catch_up, gaps, heads, runs, slices, verdict
from backfill.items import Item, record
from backfill.runs import RUN_LOCK, TASK, Taken
from config.logging import way_to
from gateway import jobs
from gateway.connections import model
from gateway.connections.access import Access
from gateway.connections.model import Connection
from gateway.connections.pacing import Purpose
from gateway.db.engine import Database, is_passing
from gateway.domain.order import PARTS, PartName
from gateway.domain.points import reached
from gateway.domain.problems import (
    ORDER_HIDDEN,
    RUN_SUPERSEDED,
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
from gateway.http import Answer
from gateway.orders.apply import Removal, apply, foresee, remove
from gateway.orders.lookups import judge
from gateway.orders.reading import Reading, read_order
from gateway.orders.rereads import Wish, want
from gateway.platforms import REGISTRY, fields
from gateway.platforms.base import Count, Cursor, Found, Gone, Head, Hidden, LookUp, Page, StoreAccess

log = structlog.get_logger("backfill.runner")

LOOK_UPS = 50
"""Orders that were not listed, looked up in one go."""

HEADS_AT_ONCE = 1_000
"""Heads of several pages are compared and noted together: most of them need nothing else."""

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

SIGN_SECONDS = 15.0
"""How often a run that waits for answers says that it lives; FROZEN_AFTER is eight times as long."""


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


class Looked(NamedTuple):
    """What was asked for singly: the orders found, what becomes of the others, the last one answered, and what cut the
    asking short."""

    found: Sequence[Found]
    removals: Sequence[Removal]
    items: Sequence[Item]
    last: str = ""
    cut_short: Retry | None = None


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
        self._state = {
            "slices": [], "slice": 0, "verdicts": [], "cursor": None, "pass": 1, "attempt": 1, "known": None,
            "tail": None, "tail_until": None, "counted": None, "equal": 0, "sample_from": None, "after": "",
            "stretch": "", "gaps": [], "failures": 0, "waits": 0, "skew_ms": 0,
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
        self._store.http.after = self._after(self._store.http.after)
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
        shop = None if self._lists_once else REGISTRY[self._connection.platform].shop(self._store)
        now = datetime.now(UTC)
        with self.access.database.transaction() as tx:
            if shop is not None and shop.time_zone not in ("", self._connection.time_zone):
                model.set_time_zone(tx, self._connection.id, shop.time_zone)
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
        with self.access.database.transaction() as tx:
            self._hold(tx)
            tx.execute(
                text(
                    "UPDATE sync_runs SET window_from = :from, window_until = :until, expected = :expected,"
                    " checkpoint = :checkpoint WHERE id = :id"
                ),
                {"from": window.from_, "until": window.until, "expected": expected, "checkpoint": Jsonb(self._state),
                 "id": self.taken.id},
            )  # fmt: skip
        self.taken = replace(self.taken, window=window, is_new=False)

    def _probe_granted(self, window: Window) -> None:
        """Heads show no person, so one whole order tells what may be read now."""
        platform = REGISTRY[self._connection.platform]
        if not platform.capabilities.denies_parts:
            return
        longest = Window(window.until - (platform.capabilities.look_back or timedelta(days=60)), window.until)
        page = platform.list_page(self._store, longest, None, size=1)
        with self.access.database.transaction() as tx:
            self._hold(tx)
            self._note_granted(tx, page.orders)

    def _work_on(self, part: slices.Slice) -> None:
        """List one slice and check it, as often as it takes; then its verdict stands and the next one's turn comes."""
        if self._stage() == "listing":
            self._list(part, tail=False)
            self._sample(part)
            self._set_stage("checking")
        seen, decision = self._check(part)
        if decision is None:
            self._state.update(cursor=None, known=seen, attempt=self._state["attempt"] + 1)
        else:
            self._state["verdicts"] = [
                *self._state["verdicts"], [decision.verdict, decision.expected, decision.detail]
            ]  # fmt: skip
            self._state.update(cursor=None, known=None, attempt=1, slice=self._state["slice"] + 1)
        self._state["pass"] += 1
        self._set_stage("listing")

    # --- listing -----------------------------------------------------------------------------------------------
    def _list(self, part: slices.Slice, *, tail: bool) -> None:
        for page, following in self._pages(part):
            self._write(page, following, number=0 if tail else self._state["pass"])

    def _pages(self, part: slices.Slice) -> Iterator[tuple[Page, Cursor | None]]:
        """Pages in order; the next one is asked for while this one is written."""
        platform = REGISTRY[self._connection.platform]
        ask: Callable[..., Page] = platform.list_page
        if part.by_placed and platform.relist is not None:
            ask = platform.relist
        elif part.by_heads and platform.list_heads is not None:
            ask = platform.list_heads
        with ThreadPoolExecutor(1, thread_name_prefix="next-page") as ahead:
            coming: Future[Page] | None = ahead.submit(ask, self._store, part.window, self._state["cursor"])
            heads_: list[Head] = []
            while coming is not None:
                try:
                    page = coming.result()
                except Retry:
                    if heads_:
                        # Or a budget that never holds what so many pages cost is spent on the first of them for ever.
                        yield replace(page, heads=_distinct(heads_)), page.cursor
                    raise
                reached("after_page_fetch")
                coming = None
                if page.cursor is not None:
                    coming = ahead.submit(ask, self._store, part.window, page.cursor)
                heads_ += page.heads
                if page.heads and page.cursor is not None and len(heads_) < HEADS_AT_ONCE:
                    continue
                yield replace(page, heads=_distinct(heads_)), page.cursor
                heads_ = []

    def _write(self, page: Page, following: Cursor | None, *, number: int, is_sample: bool = False) -> None:
        """Apply a page in ONE transaction with its items, counters and checkpoint; a crash repeats it, uncounted."""
        checkpoint = self._progressed(cursor=following)
        looked = self._whole(page, checkpoint, number) if page.heads else Looked(page.orders, [], [])
        if looked.cut_short is not None:
            checkpoint = self._progressed()  # the page comes again, with less to ask for
        readings, failed = self._read(looked.found, datetime.now(UTC))
        items = [*looked.items, *failed]
        with self.access.database.transaction() as tx:
            self._hold(tx)
            applied = self._apply(tx, readings)
            remove(tx, looked.removals, source="run", quiet=self.taken.quiet)
            counted = record(tx, self.taken, items + applied, number=number, since=self._connection.installed_at)
            self._want_failed(tx, items + applied)
            if is_sample:
                counted["sampled"] = len(applied)
                counted["drifted"] = sum(item.outcome == "updated" for item in applied)
            reached("inside_page")
            self._count(tx, counted, checkpoint)
            self._note_granted(tx, looked.found)
            interrupted = runs.is_outranked(tx, self.taken)
            reached("before_page_commit")
        reached("after_page_commit")
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
        platform = REGISTRY[self._connection.platform]
        ids = [head.external_id for head in wanted]
        moments = [head.updated_at for head in wanted if head.updated_at is not None]
        ranged: list[Found] = []
        begin = floor_second(min(moments)).isoformat() if moments else ""
        # A stretch that was cut short and has not moved since is one that the budget can't bear: by id some come along.
        if begin not in ("", self._state["stretch"]) and len(wanted) > platform.capabilities.by_id_share * len(listed):
            self._state["stretch"] = begin
            stretch = Window(floor_second(min(moments)), floor_second(max(moments)) + timedelta(seconds=1))
            cut_short: Retry | None = None
            cursor: Cursor | None = None
            while True:
                try:
                    part = platform.list_page(self._store, stretch, cursor)
                except Retry as error:
                    if not ranged:
                        raise
                    cut_short = error
                    break
                ranged += part.orders
                cursor = part.cursor
                if cursor is None:
                    break
            named = set(ids)
            ranged = list({order.external_id: order for order in ranged if order.external_id in named}.values())
            if cut_short is not None:
                return Looked(ranged, [], [], cut_short=cut_short)
            ids = sorted(named - {order.external_id for order in ranged})
        looked = self._look_up(ids)
        return looked._replace(found=[*ranged, *looked.found])

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
        """Ask for single orders. What was answered before the store's budget ran out is kept: or a store whose budget
        is smaller than what was asked for would never come to an end."""
        platform = REGISTRY[self._connection.platform]
        looks: list[LookUp] = []
        cut_short: Retry | None = None
        try:
            looks.extend(platform.fetch_orders(self._store, ids) if ids else ())
        except Retry as error:
            if not looks:
                raise
            cut_short = error
        reached("after_look_up")
        last = looks[-1].external_id if looks else ""
        with self.access.database.transaction() as tx:
            looks = judge(tx, platform, self._connection.id, looks, datetime.now(UTC))
        gone = [look for look in looks if isinstance(look, Gone)]
        removals = [
            Removal(self._connection.account_id, self._connection.id, look.external_id,
                    look.observed_at or floor_second(datetime.now(UTC) - self._connection.skew), self.taken.id)
            for look in gone
        ]  # fmt: skip
        items = [Item(look.external_id, "removed", None) for look in gone]
        items += [
            Item(look.external_id, "hidden", None, ORDER_HIDDEN.code) for look in looks if isinstance(look, Hidden)
        ]
        return Looked([look for look in looks if isinstance(look, Found)], removals, items, last, cut_short)

    def _want_failed(self, tx: Transaction, items: Sequence[Item]) -> None:
        """What fails in a run that nobody asked for is read again singly, for the next one begins after it."""
        if self.taken.kind in runs.BY_ITSELF:
            account, connection = self.taken.account_id, self.taken.connection_id
            want(tx, [Wish(account, connection, item.external_id, "failed in a run", None, None)
                      for item in items if item.outcome == "failed"])  # fmt: skip

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
        """Write them, or what can be written of them: an order that PostgreSQL refuses fails alone."""
        try:
            with tx.begin_nested():
                outcomes = self._outcomes(tx, readings)
        except Exception as error:
            if is_passing(error) or isinstance(error, GatewayError):
                raise
            if len(readings) == 1:
                log.error("run.order_refused", run=self.taken.id, error=way_to(error))
                moment = readings[0].core.version.updated_at
                return [Item(readings[0].external_id, "failed", moment, UNEXPECTED.code, way_to(error)[:500])]
            half = len(readings) // 2
            return self._apply(tx, readings[:half]) + self._apply(tx, readings[half:])
        return [
            Item(reading.external_id, outcome, reading.core.version.updated_at)
            for reading, outcome in zip(readings, outcomes, strict=True)
        ]

    def _outcomes(self, tx: Transaction, readings: Sequence[Reading]) -> Sequence[str]:
        if self.taken.kind == "preview":
            return foresee(tx, readings)
        applied = apply(
            tx, readings, source="run", platforms={self._connection.id: self._connection.platform},
            payloads=self.access.payloads, quiet=self.taken.quiet,
        )  # fmt: skip
        return [each.outcome for each in applied]

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
            counted = self._platforms_count(part)
        for _ in range(MOST_COMPARED):
            if not self._lists_once:
                # After the count, so that what left the slice before it is known to have left.
                self._list_tail()
            seen = self._seen(part)
            agrees, is_steady = counted is None or self._agrees(part, seen, counted), True
            if agrees:
                break
            # What changes between the two makes them differ: only a count that stands still shows that rows are lost.
            before, counted = counted, self._platforms_count(part)
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
        return seen.all, decision

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

    def _platforms_count(self, part: slices.Slice) -> Count | None:
        counted = None if part.by_placed else REGISTRY[self._connection.platform].count(self._store, part.window)
        self._state["counted"] = None if counted is None else [counted.orders, counted.exact]
        return counted

    def _seen(self, part: slices.Slice, window: Window | None = None) -> verdict.Seen:
        with self.access.database.transaction() as tx:
            return verdict.seen(tx, self.taken.id, part, self._state["pass"], window, attempt=self._state["attempt"])

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
        readings, failed = self._read(looked.found, datetime.now(UTC))
        with self.access.database.transaction() as tx:
            self._hold(tx)
            items = [*looked.items, *failed, *self._apply(tx, readings)]
            remove(tx, looked.removals, source="run", quiet=self.taken.quiet)
            counted = record(tx, self.taken, items, number=-self._state["pass"], since=self._connection.installed_at)
            self._want_failed(tx, items)
            self._count(tx, counted, checkpoint)
            interrupted = runs.is_outranked(tx, self.taken)
        self._state = checkpoint
        if looked.cut_short is not None:
            raise looked.cut_short
        if interrupted:
            raise _Yield

    def _after(self, after: Callable[[Answer], None] | None) -> Callable[[Answer], None]:
        """With each answer a sign of life: a page of a slow store may take longer than a worker may be silent, and one
        that is overtaken for it would be overtaken for ever."""
        signed = time.monotonic()

        def sign(answer: Answer) -> None:
            nonlocal signed
            if after is not None:
                after(answer)
            if time.monotonic() - signed >= SIGN_SECONDS:
                signed = time.monotonic()
                with self.access.database.transaction() as tx:
                    tx.execute(
                        text("UPDATE sync_runs SET seen_at = now() WHERE id = :id AND fence = :fence"
                             " AND state = 'running'"),
                        {"id": self.taken.id, "fence": self.taken.fence},
                    )  # fmt: skip

        return sign

    def _progressed(self, **changes: Any) -> dict[str, Any]:
        """The checkpoint after some progress: whatever failed or waited before it is over."""
        return {**self._state, "failures": 0, "waits": 0, "refreshed": False, **changes}

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
                " hidden = hidden + :hidden, missed = missed + :missed, sampled = sampled + :sampled,"
                " drifted = drifted + :drifted"
                " WHERE id = :id AND fence = :fence AND state = 'running'"
            ),
            {
                "checkpoint": Jsonb(checkpoint), "id": self.taken.id, "fence": self.taken.fence,
                "missed": counted["missed"], "sampled": counted["sampled"], "drifted": counted["drifted"],
                "listed": sum(counted[name] for name in verdict.OUTCOMES),
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


def _distinct(listed: Sequence[Head]) -> list[Head]:
    """An order that moved on within the window while it was listed is listed twice: its later head counts."""
    return list({head.external_id: head for head in listed}.values())


class Superseded(Retry):
    """Another worker has this run now."""

    def __init__(self) -> None:
        super().__init__(RUN_SUPERSEDED)


def _purpose(taken: Taken) -> Purpose:
    """Who waits for what this run asks of the store."""
    if taken.kind == "settle" or (taken.kind == "catch_up" and taken.deep):
        return "background"
    return "catch_up" if taken.kind == "catch_up" else "user"
