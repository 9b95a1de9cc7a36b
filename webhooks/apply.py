"""The drain loop: stored deliveries become orders, in batches, in the transaction that also marks them done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import Connection as Transaction
from sqlalchemy import text

from config.logging import way_to
from gateway import jobs
from gateway.connections import model, privacy
from gateway.connections.model import Connection
from gateway.db.engine import Database, is_passing
from gateway.domain.points import reached
from gateway.domain.problems import (
    CONNECTION_UNKNOWN,
    STORE_NOT_CONNECTED,
    UNEXPECTED,
    GatewayError,
    Problem,
    Retry,
)
from gateway.orders.apply import apply
from gateway.orders.erase import erase_bodies
from gateway.orders.payloads import Payloads, place_of_delivery
from gateway.orders.reading import Reading, read_order
from gateway.orders.rereads import Wish, want
from gateway.platforms import REGISTRY
from gateway.platforms.base import (
    Ignored,
    OrderDeleted,
    OrderNotice,
    PrivacyRequest,
    ShopChanged,
    SomethingChanged,
    Uninstalled,
)
from webhooks import inbox
from webhooks.inbox import Claimed, Verdict

log = structlog.get_logger("webhooks.apply")

BATCH = 250
_ABOUT_ORDERS = (OrderNotice, OrderDeleted, SomethingChanged)
THIN_DELAY = timedelta(seconds=2)
"""Thin notices of one order within this are one read (Etsy sheet: coalesce for 2 s)."""

SHORTEST_NAP = 0.05
LONGEST_NAP = 0.25
HOUSEKEEPING_SECONDS = 1.0


@dataclass(slots=True)
class _Batch:
    """What the notices of one batch add up to before anything is written."""

    readings: list[Reading] = field(default_factory=list)
    owners: list[Claimed] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    wishes: list[Wish] = field(default_factory=list)
    catch_ups: set[int] = field(default_factory=set)
    checks: set[tuple[int, bool]] = field(default_factory=set)
    """Connections to ask, and whether an uninstall is what was told."""
    failed: list[Verdict] = field(default_factory=list)
    """Among the verdicts: those that were set aside."""


class _TakenOff(Exception):
    """A store of the batch was disconnected or erased while it was applied: nothing of the batch is kept."""


class Drainer:
    """One drain loop; a worker process runs two, so that one parses while the other waits for PostgreSQL."""

    def __init__(
        self, database: Database, payloads: Payloads, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._database = database
        self._payloads = payloads
        self._clock = clock
        # A second connection: it holds the sign of life, and notes each batch in a commit of its own.
        self._notes = database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        self._number = self._notes.execute(text("SELECT (random() * 2147483647)::int4")).scalar_one()
        self._notes.execute(
            text("SELECT pg_advisory_lock(:lock, :number)"), {"lock": inbox.DRAINER_LOCK, "number": self._number}
        )
        self._kept_house_at = 0.0
        self._arrived: dict[int, datetime] = {}
        self._about: dict[int, str] = {}

    def close(self) -> None:
        self._notes.invalidate()
        self._notes.close()

    def run(self, stop: threading.Event) -> None:
        """Drain until told to stop; naps grow while nothing comes."""
        nap = SHORTEST_NAP
        while not stop.is_set():
            if self.drain_once():
                nap = SHORTEST_NAP
                continue
            stop.wait(nap)
            nap = min(nap * 1.5, LONGEST_NAP)

    def drain_once(self, size: int = BATCH) -> int:
        """Claim one batch and apply it; how many deliveries it took."""
        moment = time.monotonic()
        if moment - self._kept_house_at > HOUSEKEEPING_SECONDS:
            self._kept_house_at = moment
            with self._database.transaction() as tx:
                inbox.suspect_orphans(tx)
                inbox.unpark(tx)
        batch_id = None
        try:
            with self._database.transaction() as tx:
                rows = inbox.claim(tx, size)
                if not rows:
                    return 0
                batch_id = inbox.note_batch(self._notes, self._number, [row.id for row in rows])
                reached("after_claim")
                self._about = {}
                self._apply(tx, rows)
                inbox.forget_batch(tx, batch_id)
                reached("before_apply_commit")
            reached("after_apply_commit")
        except _TakenOff:
            inbox.forget_batch(self._notes, batch_id or 0)
            return len(rows)  # the next claim finds the store as it is now
        except Exception:
            # It failed, but this process lives: the batch is under no suspicion.
            if batch_id is not None:
                inbox.forget_batch(self._notes, batch_id)
            raise
        self._note_arrival()
        return len(rows)

    def _note_arrival(self) -> None:
        """When each store was last heard of; outside the batch's transaction, since batches share these rows."""
        arrived, self._arrived = self._arrived, {}
        for connection_id, moment in sorted(arrived.items()):
            self._notes.execute(
                text(
                    "UPDATE connections SET last_delivery_at = :moment WHERE id = :id"
                    " AND (last_delivery_at IS NULL OR last_delivery_at < :moment)"
                ),
                {"moment": moment, "id": connection_id},
            )

    def _apply(self, tx: Transaction, rows: Sequence[Claimed]) -> None:
        """Apply a batch; whatever fails, halve it with savepoints, so that the guilty one fails alone."""
        try:
            with tx.begin_nested():
                self._apply_all(tx, rows)
        except Exception as error:
            if is_passing(error):
                raise  # no order's fault: the whole batch is done again
            if len(rows) == 1:
                detail = way_to(error)
                log.error("delivery.unexpected", delivery=rows[0].id, error=detail)
                inbox.finish(tx, [self._set_aside(rows[0], UNEXPECTED, detail, again=True)])
                return
            middle = len(rows) // 2
            self._apply(tx, rows[:middle])
            self._apply(tx, rows[middle:])

    def _apply_all(self, tx: Transaction, rows: Sequence[Claimed]) -> None:
        bodies = inbox.bodies(tx, rows)
        connections = model.by_ids(tx, sorted({row.connection_id for row in rows if row.connection_id is not None}))
        batch = _Batch()
        for row in rows:
            try:
                self._sort(tx, row, bodies.get(row.id, b""), connections, batch)
            except GatewayError as error:
                again = isinstance(error, Retry)
                batch.failed.append(self._set_aside(row, error.problem, error.detail, again=again))
        batch.verdicts += batch.failed
        platforms = {reading.connection_id: connections[reading.connection_id].platform for reading in batch.readings}
        outcomes = apply(tx, batch.readings, source="delivery", platforms=platforms, payloads=self._payloads)
        for row, reading, applied in zip(batch.owners, batch.readings, outcomes, strict=True):
            batch.verdicts.append(
                Verdict(
                    row.id, "done", row.attempts, outcome=applied.outcome, order_external_id=reading.external_id,
                    connection_id=reading.connection_id, account_id=reading.account_id,
                    parts=["core"] if reading.person is None else ["core", "person"],
                )
            )  # fmt: skip
        if batch.readings and model.any_off(tx, list(platforms)):
            # Since the connections were read above. The writer holds the store's data key, which an erasure drops, so
            # whoever erases from now on waits for this transaction and finds what it wrote.
            raise _TakenOff
        erased = [row.id for row, each in zip(batch.owners, outcomes, strict=True) if each.erased]
        erased += _about_erased(tx, batch.failed, rows)
        want(tx, batch.wishes + _deleted_before(tx, batch))
        if batch.catch_ups:
            tx.execute(
                text("UPDATE connections SET catch_up_wanted_at = now() WHERE id = ANY(:ids)"),
                {"ids": sorted(batch.catch_ups)},
            )
        for connection_id, uninstalled in sorted(batch.checks):
            jobs.defer(tx, "connections.check", once=f"check:{connection_id}:{uninstalled}",
                       connection_id=connection_id, uninstalled=uninstalled)  # fmt: skip
        inbox.finish(tx, batch.verdicts)
        erase_bodies(tx, erased)

    def _set_aside(self, row: Claimed, problem: Problem, detail: str, *, again: bool) -> Verdict:
        """The verdict on what can't be applied; it names its order where that could be read, so that an erasure of
        the order finds it."""
        about = self._about.get(row.id)
        return inbox.set_aside(row, problem, detail, self._clock(), again=again, order_external_id=about)

    def _sort(
        self, tx: Transaction, row: Claimed, sealed: bytes, connections: dict[int, Connection], batch: _Batch
    ) -> None:
        """Put one delivery where it belongs: a reading, a wish to read, or an end of its own."""
        platform = REGISTRY[row.platform]
        body = self._payloads.open(tx, sealed, place_of_delivery(row.received_at))
        notice = platform.read(row.topic, body)
        if isinstance(notice, Ignored):
            batch.verdicts.append(
                Verdict(row.id, "ignored", row.attempts, outcome="ignored", problem_detail=notice.reason)
            )
            return
        connection = self._connection(tx, row, getattr(notice, "shop", ""), connections)
        if connection is None and isinstance(notice, ShopChanged) and notice.shop_id:
            connection = model.find_shop(tx, row.platform, notice.shop_id)  # it has a new domain
        if connection is None:
            shop = getattr(notice, "shop", "") or None
            batch.verdicts.append(Verdict(row.id, "parked", row.attempts, problem=CONNECTION_UNKNOWN.code, shop=shop))
            return
        done = Verdict(row.id, "done", row.attempts, connection_id=connection.id, account_id=connection.account_id)
        if connection.state == "disconnected" and isinstance(notice, _ABOUT_ORDERS):
            # Nobody's business until the store is connected again: it waits as what comes before the first log-in does.
            batch.verdicts.append(
                Verdict(row.id, "parked", row.attempts, connection_id=connection.id, account_id=connection.account_id,
                        order_external_id=getattr(notice, "order_id", None), problem=STORE_NOT_CONNECTED.code,
                        problem_detail="it was disconnected.")
            )  # fmt: skip
            return
        self._arrived[connection.id] = max(row.received_at, self._arrived.get(connection.id, row.received_at))
        match notice:
            case OrderNotice(order_id, payload) if payload is not None:
                self._about[row.id] = order_id
                reading = read_order(
                    platform, payload, body, kind="webhook", observed_at=row.observed_at,
                    received_at=row.received_at, account_id=connection.account_id, connection_id=connection.id,
                    granted=connection.granted_parts, source_id=row.id,
                )  # fmt: skip
                batch.readings.append(reading)
                batch.owners.append(row)
                return
            case OrderNotice(order_id) | OrderDeleted(order_id):
                thin = isinstance(notice, OrderNotice)
                due_at = self._clock() + THIN_DELAY if thin else None
                batch.wishes.append(
                    Wish(
                        connection.account_id, connection.id, order_id, "notice" if thin else "deleted", due_at, row.id
                    )
                )
                done.outcome, done.order_external_id = "reread", order_id
            case SomethingChanged(reason):
                batch.catch_ups.add(connection.id)
                done.outcome, done.problem_detail = "catch_up", reason
            case Uninstalled(shop):
                if self._is_late(row, connection) or shop not in (connection.domain, connection.shop_id, ""):
                    done.state, done.outcome = "ignored", "ignored"
                    done.problem_detail = "it is older than this installation, or about another shop"
                else:
                    batch.checks.add((connection.id, True))
                    done.outcome = "checking"
            case ShopChanged():
                batch.checks.add((connection.id, False))
                done.outcome = "checking"
            case PrivacyRequest(kind, shop):
                if shop not in (connection.domain, connection.shop_id, *connection.aliases) or (
                    kind == "shop_redact" and self._is_late(row, connection)
                ):
                    done.state, done.outcome = "ignored", "ignored"
                    done.problem_detail = "it is older than this installation, or about another shop"
                else:
                    privacy.open_from_platform(tx, connection, notice, delivery_id=row.id, received_at=row.received_at)
                    done.outcome = "privacy"
        batch.verdicts.append(done)

    @staticmethod
    def _is_late(row: Claimed, connection: Connection) -> bool:
        """A late uninstall can arrive after a reinstall, and bears no generation (Shopify sheet, section 2)."""
        return row.observed_at is not None and row.observed_at + connection.skew < connection.installed_at

    @staticmethod
    def _connection(tx: Transaction, row: Claimed, shop: str, connections: dict[int, Connection]) -> Connection | None:
        """The delivery's connection; Etsy's is known only by the shop that its body names."""
        if row.connection_id is not None:
            return connections.get(row.connection_id)
        connection = model.find(tx, row.platform, shop or row.shop)
        if connection is not None:
            connections[connection.id] = connection
        return connection


def _about_erased(tx: Transaction, failed: Sequence[Verdict], rows: Sequence[Claimed]) -> list[int]:
    """Which of those that were set aside are about an order whose person was erased: their content goes as well."""
    stores = {row.id: row.connection_id for row in rows}
    named = [each for each in failed if each.order_external_id is not None and stores[each.id] is not None]
    if not named:
        return []
    found = tx.execute(
        text(
            "SELECT i.d FROM unnest(CAST(:ids AS int8[]), CAST(:connections AS int8[]), CAST(:orders AS text[]))"
            " AS i (d, c, e) JOIN orders o ON o.connection_id = i.c AND o.external_id = i.e"
            " WHERE o.erased_at IS NOT NULL"
        ),
        {"ids": [each.id for each in named], "connections": [stores[each.id] for each in named],
         "orders": [each.order_external_id for each in named]},
    ).scalars()  # fmt: skip
    return list(found)


def _deleted_before(tx: Transaction, batch: _Batch) -> list[Wish]:
    """Orders whose deletion was told before their creation arrived: where a look-up can't tell gone from hidden, the
    deletion left nothing behind, so the newborn is looked at once more."""
    owners = {
        (reading.connection_id, reading.external_id): reading
        for row, reading in zip(batch.owners, batch.readings, strict=True)
        if REGISTRY[row.platform].capabilities.look_back is not None
    }
    if not owners:
        return []
    told = tx.execute(
        text(
            "SELECT DISTINCT d.connection_id, d.order_external_id FROM deliveries d"
            " JOIN unnest(CAST(:connections AS int8[]), CAST(:orders AS text[])) AS k (c, e)"
            "   ON d.connection_id = k.c AND d.order_external_id = k.e"
            " WHERE d.outcome = 'reread' AND d.topic LIKE '%delete%'"
        ),
        {"connections": [key[0] for key in owners], "orders": [key[1] for key in owners]},
    ).all()
    return [
        Wish(reading.account_id, reading.connection_id, reading.external_id, "deleted_before", None, reading.source_id)
        for reading in (owners[row.connection_id, row.order_external_id] for row in told)
    ]
