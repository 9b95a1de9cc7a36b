"""Connections as values, and the queries by which they are found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from sqlalchemy import Connection as Transaction
from sqlalchemy import RowMapping, text

from gateway.domain.order import PartName
from gateway.domain.problems import (
    ACCESS_RUNS_OUT,
    CLOCK_OFF,
    KEYS_READ_ONLY,
    WEBHOOKS_BROKEN,
    WEBHOOKS_CONTRADICT,
    WEBHOOKS_MISSED,
    WEBHOOKS_MISSIGNED,
    WEBHOOKS_SILENT,
)
from gateway.domain.scope import AccountScope
from gateway.platforms.base import Shop

JUDGED = frozenset(
    problem.code
    for problem in (
        ACCESS_RUNS_OUT,
        WEBHOOKS_MISSIGNED,
        WEBHOOKS_MISSED,
        WEBHOOKS_CONTRADICT,
        WEBHOOKS_SILENT,
        CLOCK_OFF,
    )
)
"""Problems that no call shows: health sets and lifts them, from what arrives and what is noted here."""


@dataclass(frozen=True, slots=True)
class Connection:
    """Our authorised link to one store. Its secrets stay closed until they are used."""

    id: int
    account_id: int
    platform: str
    shop_id: str
    key: str
    name: str
    domain: str
    base_url: str
    currency: str
    time_zone: str
    generation: int
    state: str
    granted_parts: tuple[PartName, ...]
    skew: timedelta
    """Our clock minus the platform's."""
    watermark: datetime | None
    watermark_skew: timedelta
    """The skew by which the watermark was fixed."""
    installed_at: datetime
    credentials: bytes
    hook_secrets: bytes
    aliases: tuple[str, ...] = ()
    """Former domains."""

    @classmethod
    def of(cls, row: RowMapping | Mapping[str, Any]) -> Self:
        return cls(
            id=row["id"], account_id=row["account_id"], platform=row["platform"], shop_id=row["shop_id"],
            key=row["key"], name=row["name"], domain=row["domain"], base_url=row["base_url"],
            currency=row["currency"], time_zone=row["time_zone"], generation=row["generation"], state=row["state"],
            granted_parts=tuple(row["granted_parts"]), skew=timedelta(milliseconds=row["skew_ms"]),
            watermark=row["watermark"], watermark_skew=timedelta(milliseconds=row["watermark_skew_ms"]),
            installed_at=row["installed_at"], credentials=bytes(row["credentials"]),
            hook_secrets=bytes(row["hook_secrets"]), aliases=tuple(row["aliases"]),
        )  # fmt: skip


def get(tx: Transaction, connection_id: int) -> Connection | None:
    row = tx.execute(text("SELECT * FROM connections WHERE id = :id"), {"id": connection_id}).mappings().first()
    return None if row is None else Connection.of(row)


def hold(tx: Transaction, connection_id: int) -> bool:
    """Whether the store is connected; it can't be taken off until this transaction ends."""
    statement = text("SELECT 1 FROM connections WHERE id = :id AND state <> 'disconnected' FOR SHARE")
    return tx.execute(statement, {"id": connection_id}).first() is not None


def any_off(tx: Transaction, ids: list[int]) -> bool:
    """Whether one of these connections is disconnected by now."""
    statement = text("SELECT 1 FROM connections WHERE id = ANY(:ids) AND state = 'disconnected' LIMIT 1")
    return tx.execute(statement, {"ids": ids}).first() is not None


def by_ids(tx: Transaction, ids: list[int]) -> dict[int, Connection]:
    rows = tx.execute(text("SELECT * FROM connections WHERE id = ANY(:ids)"), {"ids": ids}).mappings()
    return {row["id"]: Connection.of(row) for row in rows}


def find(tx: Transaction, platform: str, key: str) -> Connection | None:
    """The connection that a webhook's address names: WooCommerce's path key, Shopify's domain or a former one."""
    if platform == "woocommerce":
        statement = "SELECT * FROM connections WHERE platform = :platform AND key = :key"
    else:
        statement = (
            "SELECT * FROM connections WHERE platform = :platform"
            " AND (domain = :key OR shop_id = :key OR :key = ANY(aliases)) ORDER BY domain = :key DESC LIMIT 1"
        )
    row = tx.execute(text(statement), {"platform": platform, "key": key}).mappings().first()
    return None if row is None else Connection.of(row)


def find_shop(tx: Transaction, platform: str, shop_id: str) -> Connection | None:
    """The connection to this shop, by the platform's own id of it."""
    row = tx.execute(
        text("SELECT * FROM connections WHERE platform = :platform AND shop_id = :shop"),
        {"platform": platform, "shop": shop_id},
    ).mappings().first()  # fmt: skip
    return None if row is None else Connection.of(row)


_STORE = """
SELECT c.id, c.account_id, c.platform, c.shop_id, c.name, c.domain, c.base_url, c.currency, c.time_zone, c.state,
       c.state_problem, c.state_detail, c.granted_parts, c.scopes, c.skew_ms, c.watermark, c.installed_at,
       c.last_delivery_at,
       (SELECT max(r.finished_at) FROM sync_runs r WHERE r.account_id = c.account_id AND r.connection_id = c.id
         AND r.state = 'finished') AS last_sync_at
FROM connections c WHERE c.account_id = :account
"""


def list_stores(tx: Transaction, scope: AccountScope) -> list[RowMapping]:
    """The account's stores by name, without their secrets."""
    rows = tx.execute(text(_STORE + " ORDER BY c.name, c.id"), {"account": scope.account_id})
    return list(rows.mappings())


def get_store(tx: Transaction, scope: AccountScope, store_id: int) -> RowMapping | None:
    statement = text(_STORE + " AND c.id = :store")
    return tx.execute(statement, {"account": scope.account_id, "store": store_id}).mappings().first()


def note_clock(tx: Transaction, connection: Connection, skew: timedelta) -> None:
    """Keep the store's clock skew when it moved by more than what a Date of whole seconds blurs."""
    if abs(skew - connection.skew) > timedelta(seconds=1):
        tx.execute(
            text("UPDATE connections SET skew_ms = :skew WHERE id = :id"),
            {"skew": int(skew.total_seconds() * 1000), "id": connection.id},
        )


def note_shop(tx: Transaction, connection: Connection, shop: Shop) -> None:
    """Keep what a shop says of itself now: a former domain becomes an alias."""
    if shop.shop_id != connection.shop_id:
        return  # another shop answers at this address: nothing of it is ours to keep
    moved = shop.domain not in ("", connection.domain)
    tx.execute(
        text(
            "UPDATE connections SET name = coalesce(nullif(:name, ''), name), time_zone = coalesce(nullif(:zone, ''),"
            " time_zone), currency = coalesce(nullif(:currency, ''), currency), domain = CASE WHEN :moved THEN :domain"
            " ELSE domain END, aliases = CASE WHEN :moved AND domain <> ALL(aliases) THEN aliases || domain"
            " ELSE aliases END WHERE id = :id"
        ),
        {"name": shop.name, "zone": shop.time_zone, "currency": shop.currency, "domain": shop.domain, "moved": moved,
         "id": connection.id},
    )  # fmt: skip


def set_state(tx: Transaction, connection_id: int, state: str, problem: str | None = None, detail: str = "") -> None:
    """Say how the connection is; a sentence for people comes from the problem's entry."""
    tx.execute(
        text(
            "UPDATE connections SET state = :state, state_problem = :problem, state_detail = :detail,"
            " state_since = CASE WHEN (state, coalesce(state_problem, '')) = (:state, coalesce(:problem, ''))"
            " THEN state_since ELSE now() END WHERE id = :id"
            " AND (state, state_problem, state_detail) IS DISTINCT FROM (:state, :problem, :detail)"
        ),
        {"state": state, "problem": problem, "detail": detail, "id": connection_id},
    )


_OF_WEBHOOKS = frozenset({WEBHOOKS_BROKEN.code, KEYS_READ_ONLY.code})
"""Problems that only an audit of the webhooks lifts: reading orders works all the while."""


def works_again(tx: Transaction, connection_id: int, *, webhooks: bool = False) -> None:
    """Lift a state that a failed call set, since a call worked (`webhooks`: and the webhooks are known to be sound);
    what health judges from arrivals stays its own, and a store that was taken off stays off."""
    tx.execute(
        text(
            "UPDATE connections SET state = 'connected', state_problem = NULL, state_detail = '', state_since = now()"
            " WHERE id = :id AND state IN ('degraded', 'action_needed') AND coalesce(state_problem, '') <> ALL(:judged)"
        ),
        {"id": connection_id, "judged": sorted(JUDGED if webhooks else JUDGED | _OF_WEBHOOKS)},
    )


def want_catch_up(tx: Transaction, connection_id: int) -> None:
    """Have the connection's next catch-up run now."""
    tx.execute(
        text("UPDATE connections SET catch_up_wanted_at = now() WHERE id = :id AND state <> 'disconnected'"),
        {"id": connection_id},
    )


def set_scopes(tx: Transaction, connection_id: int, scopes: tuple[str, ...]) -> None:
    """What the platform says that we may ask for now."""
    tx.execute(
        text("UPDATE connections SET scopes = :scopes WHERE id = :id"), {"scopes": list(scopes), "id": connection_id}
    )


def set_granted(tx: Transaction, connection_id: int, parts: tuple[PartName, ...]) -> None:
    """Which parts of an order the platform lets us read now."""
    tx.execute(
        text("UPDATE connections SET granted_parts = :parts WHERE id = :id"),
        {"parts": list(parts), "id": connection_id},
    )
