"""Reading deliveries for people and programs: lists by keyset, one delivery with its headers and body."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from sqlalchemy import Connection, RowMapping, text

from gateway.domain.problems import Refused
from gateway.domain.scope import AccountScope
from gateway.orders.payloads import Payloads, place_of_delivery

SHOWN_BYTES = 256 * 1024
"""Of a longer body only the beginning is shown: the web process computes nothing longer than 20 ms."""

MASKED = "••••••••"
_SECRET = re.compile(r"signature|hmac|authorization|cookie|secret|token|key|password", re.IGNORECASE)

_SELECT = """
SELECT d.id, d.connection_id, d.platform, d.topic, d.received_at, d.observed_at, d.body_bytes, d.state, d.attempts,
  d.crashes, d.next_attempt_at, d.done_at, d.erased_at, d.order_external_id, d.outcome, d.problem, d.problem_detail,
  c.name AS store_name, c.time_zone, o.id AS order_id, o.number AS order_number
FROM deliveries d LEFT JOIN connections c ON c.id = d.connection_id
LEFT JOIN orders o ON o.connection_id = d.connection_id AND o.external_id = d.order_external_id
  AND o.core_digest IS NOT NULL
WHERE d.account_id = :account
"""


@dataclass(frozen=True, slots=True)
class Content:
    """What came in. `headers` are masked; `body` is its beginning when `is_whole` is False."""

    headers: list[tuple[str, str]]
    body: bytes
    is_whole: bool


def list_deliveries(
    tx: Connection,
    scope: AccountScope,
    *,
    state: str | None = None,
    store_id: int | None = None,
    topic: str | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[RowMapping]:
    """The account's deliveries, newest first; `before` is the last id of the page before this one."""
    conditions = [
        condition
        for value, condition in (
            (state, " AND d.state = :state"),
            (store_id, " AND d.connection_id = :store"),
            (topic, " AND d.topic = :topic"),
            (before, " AND d.id < :before"),
        )
        if value is not None
    ]
    statement = text(_SELECT + "".join(conditions) + " ORDER BY d.id DESC LIMIT :limit")
    values = {"account": scope.account_id, "state": state, "store": store_id, "topic": topic, "before": before}
    used = {name: value for name, value in values.items() if value is not None}
    return list(tx.execute(statement, {**used, "limit": limit}).mappings())


def recent_topics(tx: Connection, scope: AccountScope) -> list[str]:
    """The topics among the account's latest thousand deliveries."""
    statement = text(
        "SELECT DISTINCT topic FROM (SELECT topic FROM deliveries WHERE account_id = :account"
        " ORDER BY id DESC LIMIT 1000) AS latest ORDER BY topic"
    )
    return list(tx.execute(statement, {"account": scope.account_id}).scalars())


def get_delivery(tx: Connection, scope: AccountScope, delivery_id: int) -> RowMapping | None:
    """One delivery without its body, and whether that is still kept; None when the account has none of this id."""
    kept = "SELECT FROM delivery_bodies b WHERE b.delivery_id = d.id AND b.received_at = d.received_at"
    statement = text(f"SELECT d.*, EXISTS ({kept}) AS body_kept FROM ({_SELECT} AND d.id = :id) AS d")  # noqa: S608 - constants
    return tx.execute(statement, {"account": scope.account_id, "id": delivery_id}).mappings().first()


def get_content(tx: Connection, payloads: Payloads, scope: AccountScope, delivery_id: int) -> Content | None:
    """Headers and body as received; None when they are no longer kept, or when the role may not see who ordered."""
    if not scope.may("see_people"):
        return None
    row = tx.execute(
        text(
            "SELECT b.headers, b.body, d.received_at"
            " FROM deliveries d JOIN delivery_bodies b ON b.delivery_id = d.id AND b.received_at = d.received_at"
            " WHERE d.account_id = :account AND d.id = :id"
        ),
        {"account": scope.account_id, "id": delivery_id},
    ).first()
    if row is None:
        return None
    try:
        body = payloads.open(tx, bytes(row.body), place_of_delivery(row.received_at))
    except Refused:
        return None
    return Content(_masked(bytes(row.headers)), body[:SHOWN_BYTES], len(body) <= SHOWN_BYTES)


def _masked(stored: bytes) -> list[tuple[str, str]]:
    return [(str(name), MASKED if _SECRET.search(str(name)) else str(value)) for name, value in json.loads(stored)]


def pretty(content: Content) -> str | None:
    """The body as indented JSON; None when it is not JSON, or not whole."""
    if not content.is_whole:
        return None
    try:
        shown = json.dumps(json.loads(content.body), indent=2, ensure_ascii=False)
        return shown.encode("utf-8", "backslashreplace").decode()  # a lone surrogate stays what it was: \udXXX
    except (ValueError, RecursionError):
        return None
