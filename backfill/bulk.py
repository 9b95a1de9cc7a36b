"""A slice of many whole orders by one operation of the platform: begun, waited for, read in portions.

The run's checkpoint says under "bulk" how it stands with the slice: None, not tried; an operation's id, which is under
way, and "cursor" is then where its file goes on; "whole", "part" or "nothing", what it brought. Links are not kept:
each look brings a fresh one, and whoever has it can read the orders. An operation that a crash left without its
checkpoint is never asked for again; it ends by itself, and until then counts to the few that run at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from backfill.runs import Taken
from gateway.connections.model import Connection
from gateway.domain.order import PARTS
from gateway.domain.problems import PERMISSION_MISSING, STORE_PREPARING, GatewayError, NeedsMerchant, Refused, Retry
from gateway.domain.window import Window
from gateway.platforms.base import BulkImport, Page, StoreAccess

log = structlog.get_logger("backfill.bulk")

LOOK_AFTER = (timedelta(seconds=5), timedelta(seconds=60))
"""At least and at most so long between two looks; between the two a quarter of what the operation took so far."""

PAGES_TOO_SLOW = timedelta(minutes=10)
"""A slice that pages would bring sooner is listed in pages: an operation waits its turn at the platform, and what that
takes can't be known before. At a standard shop this is 5,300 orders (`bench pages`). The sheet names some 10,000 for a
whole window; a window over 20,000 is cut in halves until each has less, so slices have half of that and more."""

MOST_BROKEN_OFF = 4
"""A file that breaks off so often is read no further: it may lie where this machine may not connect to."""


def suits(able: BulkImport | None, store: StoreAccess, orders: int, taken: Taken) -> bool:
    """Whether a slice that is to be read whole has so many orders that pages would take long. A preview leaves no
    operation behind."""
    return able is not None and taken.kind != "preview" and able.in_pages(store, orders) >= PAGES_TOO_SLOW


def begin(able: BulkImport, store: StoreAccess, window: Window, connection: Connection) -> dict[str, Any] | str:
    """How it stands with the slice then: an operation, or "nothing" where there is none for us now.

    Which fields were denied stands nowhere in an operation's file, so there must be none.
    """
    if not _is_shown_all(connection):
        return "nothing"
    try:
        return {"operation": able.begin(store, window), "broken_off": 0}
    except (Refused, NeedsMerchant) as error:
        _raise_what_pages_would_meet(error)
        return "nothing"


def _is_shown_all(connection: Connection) -> bool:
    return set(PARTS) <= set(connection.granted_parts)


def pages(
    able: BulkImport, store: StoreAccess, window: Window, orders: int, connection: Connection, state: dict[str, Any]
) -> Iterator[Page]:
    """What the operation over so many orders brought, from the checkpoint on; if it is less than all, it ends early.

    Raises Retry while the operation is on its way, and when its file breaks off.
    """
    if not _is_shown_all(connection):
        return  # since it began: null would be taken for what the buyer left empty
    try:
        look = able.look(store, state["bulk"]["operation"])
    except (Refused, NeedsMerchant) as error:
        _raise_what_pages_would_meet(error)
        return
    state["failures"] = 0  # it was answered
    if look.state == "running":
        _wait(able.in_pages(store, orders), orders, connection, look.created_at)
        return
    if look.state == "failed":
        log.warning("run.bulk_failed", connection=connection.id, reason=look.reason, partial=bool(look.url))
    try:
        yield from able.rows(store, look, window, state["cursor"])
    except Retry as error:
        state["bulk"]["broken_off"] += 1
        if state["bulk"]["broken_off"] < MOST_BROKEN_OFF:
            raise
        log.warning("run.bulk_unreadable", connection=connection.id, problem=error.problem.code)
    except (Refused, NeedsMerchant) as error:
        # The file lies with another host: that it can't be read there says nothing about the store.
        log.warning("run.bulk_unreadable", connection=connection.id, problem=error.problem.code)


def _wait(most: timedelta, orders: int, connection: Connection, created_at: datetime | None) -> None:
    """Wait for it, but not longer than pages would have taken."""
    taken = datetime.now(UTC) - connection.skew - (created_at or datetime.min.replace(tzinfo=UTC))
    if taken > most:
        log.warning("run.bulk_too_slow", connection=connection.id, seconds=round(taken.total_seconds()))
        return
    seconds = min(max(taken / 4, LOOK_AFTER[0]), LOOK_AFTER[1]).total_seconds()
    raise Retry(STORE_PREPARING, f"{orders} orders", after_seconds=seconds)


def _raise_what_pages_would_meet(error: GatewayError) -> None:
    """A refusal ends the operation and not the run, unless the store itself is out of reach."""
    if isinstance(error, NeedsMerchant) and error.problem is not PERMISSION_MISSING:
        raise error
    log.warning("run.bulk_refused", problem=error.problem.code, detail=error.detail[:200])
