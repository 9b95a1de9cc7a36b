"""The way to the database: one engine a process, one `transaction()`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import structlog
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DBAPIError, TimeoutError
from sqlalchemy.pool import NullPool

log = structlog.get_logger("gateway.db")

POOL_WAIT_SECONDS = 2
"""A page that gets no connection within this is answered 503 (DESIGN section 7)."""

FROZEN_SECONDS = 60
"""No transaction of ours waits for anything but PostgreSQL: one idle this long belongs to a frozen process, and its
locks must not hold up the others."""

SAY_SECONDS = 30.0
GONE_SECONDS = 15
"""A server whose host is gone says nothing; TCP by itself would wait for it for a quarter of an hour."""


def sqlalchemy_url(url: str) -> str:
    """The URL with the driver that we use: psycopg 3."""
    scheme, rest = url.split("://", 1)
    if scheme not in {"postgres", "postgresql", "postgresql+psycopg"}:
        raise ValueError("DATABASE_URL must begin with postgresql://")
    return f"postgresql+psycopg://{rest}"


def libpq_url(url: str) -> str:
    """The URL as psycopg and PostgreSQL's own tools want it."""
    return "postgresql://" + url.split("://", 1)[1]


def cursor(tx: Connection, **options: Any) -> psycopg.Cursor[Any]:
    """psycopg's own cursor within `tx`, for statements that take arrays in binary."""
    driver = tx.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    made: psycopg.Cursor[Any] = driver.cursor(**options)
    return made


_PASSING = ("08", "25", "40", "53", "55", "57", "58")
"""SQLSTATE classes: connection, transaction state, rollback, resources, locks, shutdown, system."""


def is_passing(error: Exception) -> bool:
    """Whether a failed statement may succeed when it is done again: a deadlock, a lost connection, a full disk.

    psycopg's classes don't tell: what is too large for an index or for a search (54) is an OperationalError too.
    """
    if isinstance(error, DBAPIError):
        if error.connection_invalidated:
            return True
        error = error.orig if isinstance(error.orig, Exception) else error
    if isinstance(error, psycopg.Error):
        code = error.sqlstate
        return isinstance(error, psycopg.OperationalError) if code is None else code.startswith(_PASSING)
    return isinstance(error, TimeoutError)  # no connection was free


class Database:
    """A pool of connections to one PostgreSQL."""

    def __init__(
        self, url: str, *, pool_size: int = 5, statement_timeout_seconds: float | None = None, name: str = "gateway"
    ) -> None:
        options = f"-c timezone=UTC -c lock_timeout=10s -c idle_in_transaction_session_timeout={FROZEN_SECONDS}s"
        if statement_timeout_seconds is not None:
            options += f" -c statement_timeout={int(statement_timeout_seconds * 1000)}"
        arguments: dict[str, object] = {
            "options": options, "application_name": name, "connect_timeout": 5,
            "tcp_user_timeout": GONE_SECONDS * 1000, "keepalives_idle": GONE_SECONDS, "keepalives_interval": 5,
            "keepalives_count": 3,
        }  # fmt: skip
        if pool_size:
            self.engine = create_engine(
                sqlalchemy_url(url),
                pool_size=pool_size,
                max_overflow=0,
                pool_timeout=POOL_WAIT_SECONDS,
                pool_pre_ping=True,
                connect_args=arguments,
            )
        else:
            self.engine = create_engine(sqlalchemy_url(url), poolclass=NullPool, connect_args=arguments)
        self.url = libpq_url(url)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Commit on a clean exit, roll back on any error."""
        with self.engine.begin() as tx:
            yield tx

    def is_there(self) -> bool:
        """Whether PostgreSQL answers."""
        try:
            with self.engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except Exception:
            return False
        return True

    def wait(self) -> None:
        """Return once PostgreSQL answers: it may be starting just as we are, or be away for a while."""
        said_at = float("-inf")
        while not self.is_there():
            if time.monotonic() - said_at > SAY_SECONDS:
                said_at = time.monotonic()
                log.warning("database.awaited")
            time.sleep(1.0)

    def close(self) -> None:
        self.engine.dispose()
