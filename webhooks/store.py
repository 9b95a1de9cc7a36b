"""Deliveries to disk: all that wait go in one statement and one commit, and each request is answered after it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import psycopg
import structlog

from gateway.domain.problems import DATABASE_AWAY, Retry
from webhooks import refusals

log = structlog.get_logger("webhooks.store")

GIVE_UP_SECONDS = 4.0
"""Shopify waits 5 s for an answer; a request that can't be stored in 4 is told to come again."""

MAX_BATCH = 500
MAX_BATCH_BYTES = 8 * 1024 * 1024
RETRY_AFTER_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Delivery:
    """One verified request. `state` is waiting, or parked while its shop is unknown."""

    platform: str
    shop: str
    account_id: int | None
    connection_id: int | None
    delivery_key: str
    topic: str
    received_at: datetime
    observed_at: datetime | None
    headers: bytes
    body_bytes: int
    """As received."""
    body: bytes
    """Sealed."""
    state: str = "waiting"


class _Waiting:
    __slots__ = ("delivery", "done", "failure")

    def __init__(self, delivery: Delivery, done: _Signal) -> None:
        self.delivery = delivery
        self.done = done
        self.failure: Exception | None = None


class _Signal(Protocol):
    def set(self) -> None: ...
    def wait(self, timeout: float | None = None) -> bool: ...


def _signal_class() -> Callable[[], _Signal]:
    """Under gevent its own event, which costs a third of the patched threading one."""
    from gevent import event, monkey

    chosen: Callable[[], _Signal] = event.Event if monkey.is_module_patched("threading") else threading.Event
    return chosen


_INSERT = """
WITH made AS (
  INSERT INTO deliveries (platform, shop, account_id, connection_id, delivery_key, topic, received_at, observed_at,
                          body_bytes, state, next_attempt_at)
  SELECT p, s, a, c, k, t, r, o, n, f, r
  FROM unnest(%b::text[], %b::text[], %b::int8[], %b::int8[], %b::text[], %b::text[], %b::timestamptz[],
              %b::timestamptz[], %b::int4[], %b::text[]) AS i (p, s, a, c, k, t, r, o, n, f)
  ON CONFLICT (delivery_key) DO NOTHING
  RETURNING id, delivery_key, received_at)
INSERT INTO delivery_bodies (delivery_id, received_at, headers, body)
SELECT made.id, made.received_at, h, b
FROM made JOIN unnest(%b::text[], %b::bytea[], %b::bytea[]) AS i (k, h, b) ON k = made.delivery_key
"""


@dataclass(slots=True)
class Writer:
    """The one writer of a web process. Its thread (a greenlet under gevent) starts with the first request after fork.

    Its connection is its own: behind 15 slow pages a pooled look-up waited 5.9 s.
    """

    url: str
    _queue: deque[_Waiting] = field(default_factory=deque)
    _wake: threading.Event = field(default_factory=threading.Event)
    _start: threading.Lock = field(default_factory=threading.Lock)
    _thread: threading.Thread | None = None
    _connection: psycopg.Connection[Any] | None = None
    _refused: Counter[refusals.Refusal] = field(default_factory=Counter)
    _unanswered: set[int] = field(default_factory=set)
    _closed: bool = False
    _signal: Callable[[], _Signal] = field(default_factory=_signal_class)

    def store(self, delivery: Delivery) -> None:
        """Store one verified delivery; its commit is durable when this returns. A duplicate changes nothing.

        Raises Retry(internal.database_away) when it is not known to be stored within GIVE_UP_SECONDS.
        """
        waiting = _Waiting(delivery, self._signal())
        self._queue.append(waiting)
        self._wake.set()
        if self._thread is None:
            self._begin()
        if not waiting.done.wait(GIVE_UP_SECONDS):
            # Nobody waits for it any more: while PostgreSQL stands still, memory must not fill with what was refused.
            with contextlib.suppress(ValueError):
                self._queue.remove(waiting)
            raise Retry(DATABASE_AWAY, "no commit in time", after_seconds=RETRY_AFTER_SECONDS)
        if waiting.failure is not None:
            raise waiting.failure

    def note_refusal(self, refusal: refusals.Refusal) -> None:
        """Count a request that was answered 401; written down within seconds."""
        self._refused[refusal] += 1
        self._begin()

    def note_unanswered(self, connection_id: int | None) -> None:
        """Remember that a connection was given a non-2xx: a catch-up looks for what it may have missed."""
        if connection_id is not None:
            self._unanswered.add(connection_id)
            self._begin()

    def is_ready(self) -> bool:
        """Whether a delivery could be stored now."""
        try:
            with psycopg.connect(self.url, connect_timeout=2, autocommit=True) as connection:
                connection.execute("SELECT 1")
        except psycopg.Error:
            return False
        return True

    def close(self) -> None:
        """End the writer's thread and its connection, once nothing waits."""
        self._closed = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
        self._drop_connection()

    def _begin(self) -> None:
        with self._start:
            if self._thread is None:
                _require_cooperation()
                self._thread = threading.Thread(target=self._run, name="webhook-writer", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        noted_at = time.monotonic()
        while not self._closed or self._queue:
            self._wake.wait(1.0)
            self._wake.clear()
            while batch := self._take():
                self._write(batch)
            if (self._refused or self._unanswered) and time.monotonic() - noted_at > 1.0:
                noted_at = time.monotonic()
                self._write_notes()
        if self._refused or self._unanswered:
            self._write_notes()

    def _take(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        size = 0
        while self._queue and len(batch) < MAX_BATCH and size < MAX_BATCH_BYTES:
            waiting = self._queue.popleft()
            size += len(waiting.delivery.body)
            batch.append(waiting)
        return batch

    def _write(self, batch: list[_Waiting]) -> None:
        # Sorted by key: two processes that insert the same duplicates never wait for each other in a circle.
        batch.sort(key=lambda waiting: waiting.delivery.delivery_key)
        try:
            self._insert([waiting.delivery for waiting in batch])
        except (psycopg.OperationalError, psycopg.InterfaceError, TimeoutError) as error:
            self._drop_connection()
            log.warning("webhook.not_stored", waiting=len(batch), error=type(error).__name__)
            away = Retry(DATABASE_AWAY, type(error).__name__, after_seconds=RETRY_AFTER_SECONDS)
            for waiting in batch:
                waiting.failure = away
        except Exception as error:
            # Whatever it is, only the guilty request may fail.
            self._drop_connection()
            if len(batch) == 1:
                log.error("webhook.not_storable", error=type(error).__name__, platform=batch[0].delivery.platform)
                batch[0].failure = Retry(DATABASE_AWAY, type(error).__name__, after_seconds=RETRY_AFTER_SECONDS)
            else:
                for waiting in batch:
                    self._write([waiting])
                return
        for waiting in batch:
            waiting.done.set()

    def _insert(self, rows: list[Delivery]) -> None:
        # A delivery and its duplicate at once: its body is sealed for the moment at which the first one came.
        firsts: dict[str, Delivery] = {}
        for row in rows:
            firsts.setdefault(row.delivery_key, row)
        rows = list(firsts.values())
        keys = [row.delivery_key for row in rows]
        self._open().execute(
            _INSERT,
            (
                [row.platform for row in rows], [row.shop for row in rows], [row.account_id for row in rows],
                [row.connection_id for row in rows], keys, [row.topic for row in rows],
                [row.received_at for row in rows], [row.observed_at for row in rows], [row.body_bytes for row in rows],
                [row.state for row in rows], keys, [row.headers for row in rows], [row.body for row in rows],
            ),
        )  # fmt: skip

    def _open(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            connection = psycopg.connect(
                self.url,
                autocommit=True,
                connect_timeout=3,
                application_name="gateway receiver",
                prepare_threshold=1,
                # A server whose host is gone answers nothing, not even that it is gone.
                tcp_user_timeout=int(GIVE_UP_SECONDS * 1000),
                # Whatever the server's default is: an answered webhook is on disk.
                options="-c timezone=UTC -c statement_timeout=3500 -c lock_timeout=3000 -c synchronous_commit=on",
            )
            if connection.execute("SHOW fsync").fetchone() != ("on",):
                log.error("webhook.not_durable", reason="PostgreSQL runs with fsync off")
            self._connection = connection
        return self._connection

    def _drop_connection(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
            self._connection = None

    def _write_notes(self) -> None:
        counted, unanswered = self._refused.copy(), set(self._unanswered)
        try:
            refusals.write(self._open(), counted, unanswered)
        except (psycopg.Error, OSError) as error:
            self._drop_connection()
            log.warning("webhook.notes_kept_back", error=type(error).__name__)
            return
        self._refused -= counted
        self._unanswered -= unanswered


def _require_cooperation() -> None:
    """Under gevent, psycopg must wait by gevent's select: its C wait would stop every request of the process."""
    from gevent import monkey

    if monkey.is_module_patched("socket") and "wait_c" in getattr(psycopg.waiting.wait, "__name__", ""):
        raise RuntimeError("psycopg was imported before gevent patched sockets; it would block the whole process")
