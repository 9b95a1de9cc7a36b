"""Which connection a webhook's address means, and with which secrets it may be signed: from a short-lived cache."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import timedelta

from gateway.connections import model
from gateway.db.engine import Database
from gateway.orders.payloads import DataKey, Payloads
from gateway.platforms.base import App

LIVES_SECONDS = 10.0
FRESH_READS_PER_SECOND = 50.0
MAX_ENTRIES = 10_000

LOOK_UP_SECONDS = 2.0
"""Shopify waits 5 s for an answer, and storing takes its time too."""


class Busy(Exception):
    """Too many unknown addresses at once: whether this one is known can't be told now."""


@dataclass(frozen=True, slots=True)
class Entry:
    """`connection_id` None: no such connection (yet)."""

    connection_id: int | None
    account_id: int | None
    secrets: tuple[str, ...]
    skew: timedelta
    data_key: DataKey
    """Seals what is stored for it."""
    read_at: float


def _within(seconds: float, read: Callable[[], Entry]) -> Entry:
    """What `read` gives, or TimeoutError; it is then left to itself, and ends when its connection does."""
    answer: Future[Entry] = Future()

    def run() -> None:
        try:
            answer.set_result(read())
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=run, name="look-up", daemon=True).start()  # a greenlet under gevent
    return answer.result(timeout=seconds)


@dataclass(slots=True)
class Directory:
    database: Database
    payloads: Payloads
    app: App
    _entries: OrderedDict[tuple[str, str], Entry] = field(default_factory=OrderedDict)
    _allowance: float = FRESH_READS_PER_SECOND
    _allowed_at: float = field(default_factory=time.monotonic)

    def look_up(self, platform: str, key: str, *, fresh: bool = False) -> Entry:
        """The entry; `fresh` reads the row again before a 401 or 404, since a secret may be new.

        Raises Busy when strangers' look-ups use up the allowance; a known entry is then served as it is cached. Raises
        TimeoutError when PostgreSQL says nothing: one that stands still keeps no time limit of its own.
        """
        name = (platform, key)
        entry = self._entries.get(name)
        age = float("inf") if entry is None else time.monotonic() - entry.read_at
        if entry is not None and (age < 1.0 if fresh else age < LIVES_SECONDS):
            return entry
        if not self._may_read():
            if entry is not None:
                return entry
            raise Busy
        entry = _within(LOOK_UP_SECONDS, lambda: self._read(platform, key))
        self._entries[name] = entry
        self._entries.move_to_end(name)
        while len(self._entries) > MAX_ENTRIES:
            self._entries.popitem(last=False)
        return entry

    def remembered(self, platform: str, key: str) -> int | None:
        """The connection that was last found there, however long ago; asks nobody."""
        entry = self._entries.get((platform, key))
        return None if entry is None else entry.connection_id

    def _may_read(self) -> bool:
        moment = time.monotonic()
        self._allowance = min(
            FRESH_READS_PER_SECOND, self._allowance + (moment - self._allowed_at) * FRESH_READS_PER_SECOND
        )
        self._allowed_at = moment
        if self._allowance < 1.0:
            return False
        self._allowance -= 1.0
        return True

    def _read(self, platform: str, key: str) -> Entry:
        secrets = self._app_secrets(platform)
        with self.database.transaction() as tx:
            connection = model.find(tx, platform, key) if key else None
            data_key = self.payloads.key_of(tx, connection.id if connection is not None else None)
        if connection is None:
            return Entry(None, None, secrets, timedelta(0), data_key, time.monotonic())
        own = tuple(self.payloads.vault.open_list(connection.hook_secrets)) if connection.hook_secrets else ()
        return Entry(connection.id, connection.account_id, own + secrets, connection.skew, data_key, time.monotonic())

    def _app_secrets(self, platform: str) -> tuple[str, ...]:
        """Shopify and Etsy sign with our app's secrets, the same for all shops; both during a rotation."""
        if platform == "shopify":
            both = (self.app.shopify_client_secret, self.app.shopify_client_secret_previous)
            return tuple(secret for secret in both if secret)
        return self.app.etsy_webhook_secrets if platform == "etsy" else ()
