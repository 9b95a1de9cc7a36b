"""From a connection to calls: credentials opened, tokens fresh, calls paced."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import requests
from sqlalchemy import Connection as Transaction
from sqlalchemy import text

from gateway.connections import model, pacing
from gateway.connections.model import Connection
from gateway.connections.pacing import Purpose
from gateway.db.engine import Database
from gateway.domain.problems import STORE_NOT_CONNECTED, STORE_THROTTLED, NeedsMerchant, Retry
from gateway.http import Answer, Http
from gateway.orders.payloads import Payloads
from gateway.platforms import REGISTRY
from gateway.platforms.base import App, StoreAccess
from gateway.vault import Vault

REFRESH_BEFORE = timedelta(minutes=5)
PATIENCE_SECONDS = 6.0
"""Waiting longer than this for a platform's budget is the caller's decision, and is shown as waiting. A full bucket of
Shopify's is full again so long after a page of heads: shorter, and a run would never come to read what they show."""

LOOK_AGAIN_SECONDS = 1.0

PAGE_SECONDS = 10.0

REFRESH_SECONDS = 25.0
"""An answer may take twice as long to end, and PostgreSQL ends a transaction that is idle for FROZEN_SECONDS: the new
tokens must be written before that, since the old ones are used up."""

_REFRESHING = 4_242_100
"""First half of the advisory lock of a token refresh; the second is the connection's id."""


@dataclass(slots=True)
class Access:
    """All that a job or a command needs to reach stores."""

    database: Database
    vault: Vault
    app: App
    public_url: str
    session: Callable[[], requests.Session] = requests.Session
    allow_private: bool = False
    """Whether stores may have private addresses and answer without TLS."""
    payloads: Payloads = field(init=False)
    _unblocked: dict[str, float] = field(default_factory=dict)
    _sizes: dict[int, dict[str, Any]] = field(default_factory=dict)
    """What adapters learnt of each store, as long as this process lives."""
    _sessions: threading.local = field(default_factory=threading.local)

    def __post_init__(self) -> None:
        self.payloads = Payloads(self.vault)

    def store(
        self,
        connection: Connection,
        *,
        purpose: Purpose = "user",
        session: requests.Session | None = None,
        read_seconds: float | None = None,
    ) -> StoreAccess:
        """How to call this store now, with a token that lives at least a few minutes longer.

        `purpose`: who waits for the answers, which decides who goes first where the platform's budget is short.
        """
        credentials = self._fresh(connection)
        if not credentials:
            raise NeedsMerchant(STORE_NOT_CONNECTED, "it was disconnected.", state="disconnected",
                                why="it was disconnected.")  # fmt: skip
        platform = REGISTRY[connection.platform]
        bucket = platform.bucket(connection.id, self.app)
        rate = {
            "capacity": platform.capabilities.calls_capacity,
            "restore_per_second": platform.capabilities.calls_per_second,
        }

        def before(cost: float) -> None:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while wait := (
                pacing.reserve(self.database, bucket, cost, **rate, purpose=purpose)
                if rate["restore_per_second"]
                else self._blocked_for(bucket)
            ):
                if time.monotonic() + wait > deadline:
                    raise Retry(STORE_THROTTLED, bucket, after_seconds=wait)
                time.sleep(wait)

        def after(answer: Answer) -> None:
            budget = platform.budget(answer)
            if budget is not None:
                pacing.correct(self.database, bucket, budget)
            if answer.status == 429 and answer.retry_after is not None:
                pacing.block(self.database, bucket, answer.retry_after, **rate)
                self._unblocked.pop(bucket, None)
            if answer.skew is not None:
                self._note_clock(connection, answer.skew)

        return StoreAccess(
            shop_id=connection.shop_id,
            domain=connection.domain,
            base_url=connection.base_url,
            currency=connection.currency,
            time_zone=connection.time_zone,
            credentials=credentials,
            app=self.app,
            http=Http(session or self._session(), before, after, read_seconds),
            sizes=self._sizes.setdefault(connection.id, {}),
        )

    def _blocked_for(self, bucket: str) -> float:
        """Where there is no rate to keep, it is enough to look once a second whether the platform asked for a pause."""
        if time.monotonic() < self._unblocked.get(bucket, 0.0):
            return 0.0
        wait = pacing.blocked_for(self.database, bucket)
        if not wait:
            self._unblocked[bucket] = time.monotonic() + LOOK_AGAIN_SECONDS
        return wait

    def stranger(self) -> Http:
        """How to call an address that is no connection yet, while a person waits: neither keys nor pacing."""
        return Http(self._session(), read_seconds=PAGE_SECONDS)

    def _session(self) -> requests.Session:
        """One session a thread: connections to a store are kept open between calls."""
        session: requests.Session | None = getattr(self._sessions, "session", None)
        if session is None:
            session = self._sessions.session = self.session()
        return session

    def _note_clock(self, connection: Connection, skew: timedelta) -> None:
        if abs(skew - connection.skew) > timedelta(seconds=1):
            with self.database.transaction() as tx:
                model.note_clock(tx, connection, skew)

    def _fresh(self, connection: Connection) -> dict[str, str]:
        credentials = self.vault.open_mapping(connection.credentials)
        return credentials if not _expires_soon(credentials) else self._refreshed(connection.id)

    def expire(self, connection_id: int) -> None:
        """Treat the access token as used up: the next call refreshes it first."""
        with self.database.transaction() as tx:
            connection = model.get(tx, connection_id)
            assert connection is not None
            credentials = self.vault.open_mapping(connection.credentials)
            if "refresh_token" in credentials:
                credentials["expires_at"] = datetime.now(UTC).isoformat()
                tx.execute(
                    text("UPDATE connections SET credentials = :credentials WHERE id = :id"),
                    {"credentials": self.vault.close(credentials), "id": connection_id},
                )

    def lock_credentials(self, tx: Transaction, connection_id: int) -> None:
        """Let no refresh read and write this connection's tokens until the transaction ends."""
        tx.execute(text("SELECT pg_advisory_xact_lock(:one, :two)"), {"one": _REFRESHING, "two": connection_id})

    def _refreshed(self, connection_id: int) -> dict[str, str]:
        """Refresh under a lock, and store both tokens before either is used: a lost one means a new install."""
        with self.database.transaction() as tx:
            self.lock_credentials(tx, connection_id)
            connection = model.get(tx, connection_id)
            assert connection is not None
            credentials = self.vault.open_mapping(connection.credentials)
            if not _expires_soon(credentials):
                return credentials
            plain = StoreAccess(
                shop_id=connection.shop_id, domain=connection.domain, base_url=connection.base_url,
                currency=connection.currency, time_zone=connection.time_zone, credentials=credentials, app=self.app,
                http=Http(self._session(), read_seconds=REFRESH_SECONDS),
            )  # fmt: skip
            tokens = REGISTRY[connection.platform].refresh(plain)
            if tokens is None:
                return credentials
            tx.execute(
                text("UPDATE connections SET credentials = :credentials, tokens_at = now() WHERE id = :id"),
                {"credentials": self.vault.close(tokens.credentials), "id": connection_id},
            )
            return dict(tokens.credentials)


def _expires_soon(credentials: dict[str, str]) -> bool:
    expires_at = credentials.get("expires_at")
    return expires_at is not None and datetime.fromisoformat(expires_at) - datetime.now(UTC) < REFRESH_BEFORE
