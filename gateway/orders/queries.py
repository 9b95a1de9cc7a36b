"""Reading orders: lists by keyset, one order with its history, and the change feed. Nothing here writes.

Every list is cut by (placed_at, id), never by OFFSET, and nothing is counted beyond a cap: at 1,000,000 orders a page
must take less than 50 ms (DESIGN section 10).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import Connection, RowMapping, text

from gateway.domain.order import Person
from gateway.domain.scope import AccountScope

_PERSON_FIELDS = frozenset(field.name for field in fields(Person))

COUNT_CAP = 1_000
RARE = 5_000
"""Words found in at most so many orders are looked up first; else the newest orders are walked until enough fit."""

_LISTED = "o.account_id = :account AND o.removed_at IS NULL AND o.core_digest IS NOT NULL"
"""The condition of the partial indexes orders_page_idx, _store_idx, _payment_idx and _fulfilment_idx."""

_COLUMNS = """o.id, o.connection_id, o.external_id, o.number, o.placed_at, o.payment_status, o.fulfilment_status,
 o.currency, o.total, o.item_count, o.customer_name, o.core_updated_at, o.core_observed_at, o.changed_at"""


def _columns(scope: AccountScope) -> str:
    return _COLUMNS if scope.may("see_people") else _COLUMNS.replace("o.customer_name", "NULL AS customer_name")


def _person(scope: AccountScope) -> str:
    return "o.person" if scope.may("see_people") else "NULL::json"


def _without_people(values: Mapping[str, Any]) -> list[str]:
    """For a role that may not see who ordered: finding by a name or an e-mail address would tell it."""
    if "query" not in values:
        return []
    return ["to_tsvector('simple', coalesce(o.core_words, '')) @@ to_tsquery('simple', :query)"]


def _impersonal(scope: AccountScope, rows: list[RowMapping]) -> list[Any]:
    """Changes without what they say of people, where the role may not see that."""
    if scope.may("see_people"):
        return rows
    return [{**row, "fields": [each for each in row["fields"] if _step(each[0]) not in _PERSON_FIELDS]} for row in rows]


def people_in(changes: Iterable[Any]) -> int:
    """How many of these changes tell something of a person."""
    return sum(any(_step(field[0]) in _PERSON_FIELDS for field in change["fields"]) for change in changes)


def _step(path: str) -> str:
    return re.split(r"[.\[]", path, maxsplit=1)[0]


class BadCursor(ValueError):
    """A cursor that we did not make."""


@dataclass(frozen=True, slots=True)
class OrderFilter:
    """What a list is narrowed to. Times are half-open [from, until)."""

    store_id: int | None = None
    payment_status: str | None = None
    fulfilment_status: str | None = None
    placed_from: datetime | None = None
    placed_until: datetime | None = None
    updated_from: datetime | None = None
    q: str = ""

    def is_empty(self) -> bool:
        return self == OrderFilter()

    def without(self, *names: str) -> OrderFilter:
        """The same filter, wider by these fields."""
        return replace(self, **{name: getattr(OrderFilter(), name) for name in names})


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a list between two orders. `towards`: which neighbours are wanted."""

    towards: Literal["older", "newer"]
    placed_at: datetime
    id: int

    def opaque(self) -> str:
        """The form in which it leaves us; readers must not look inside."""
        raw = f"{self.towards[0]} {self.placed_at.isoformat()} {self.id}"
        return base64.urlsafe_b64encode(raw.encode()).decode().rstrip("=")

    @classmethod
    def read(cls, opaque: str) -> Cursor:
        """Raises BadCursor."""
        try:
            raw = base64.urlsafe_b64decode(opaque + "=" * (-len(opaque) % 4)).decode()
            towards, placed_at, number = raw.split(" ")
            moment = datetime.fromisoformat(placed_at)
            if moment.tzinfo is None or not 0 < int(number) < 2**63:
                raise ValueError(opaque)
            return cls("older" if towards == "o" else "newer", moment, int(number))
        except (ValueError, binascii.Error) as error:
            raise BadCursor(opaque) from error


@dataclass(frozen=True, slots=True)
class OrderPage:
    """Orders, newest first, and the cursors of the neighbouring pages where there are any."""

    orders: list[RowMapping]
    newer: Cursor | None
    older: Cursor | None


def list_orders(
    tx: Connection, scope: AccountScope, wanted: OrderFilter, *, limit: int, cursor: Cursor | None = None
) -> OrderPage:
    """One page, newest first; equal placing times are ordered by id, so that no order is skipped or shown twice."""
    conditions, values = _conditions(scope, wanted)
    if wanted.q.strip():
        condition, query = _search(tx, wanted.q)
        conditions.append(condition)
        values |= {"query": query, "rare": RARE}
    newer_first = cursor is None or cursor.towards == "older"
    if cursor is not None:
        conditions.append(f"(o.placed_at, o.id) {'<' if newer_first else '>'} (:at, :beyond)")
        values |= {"at": cursor.placed_at, "beyond": cursor.id}
    direction = "DESC" if newer_first else "ASC"
    if not scope.may("see_people"):
        conditions += _without_people(values)
    statement = (
        f"SELECT {_columns(scope)} FROM orders o WHERE {' AND '.join(conditions)}"  # noqa: S608 - fragments of this module
        f" ORDER BY o.placed_at {direction}, o.id {direction} LIMIT :limit"
    )
    rows = list(tx.execute(text(statement), {**values, "limit": limit + 1}).mappings())
    more = len(rows) > limit
    rows = rows[:limit]
    if not newer_first:
        rows.reverse()
    if not rows:
        return OrderPage([], None, None)
    first, last = rows[0], rows[-1]
    has_newer = more if not newer_first else cursor is not None
    has_older = more if newer_first else True
    return OrderPage(
        rows,
        Cursor("newer", first["placed_at"], first["id"]) if has_newer else None,
        Cursor("older", last["placed_at"], last["id"]) if has_older else None,
    )


def count_orders(tx: Connection, scope: AccountScope) -> tuple[int, bool]:
    """How many orders the account has, and whether there are more than that: counting stops at COUNT_CAP."""
    found = tx.execute(
        text(f"SELECT count(*) FROM (SELECT 1 FROM orders o WHERE {_LISTED} LIMIT :cap) AS capped"),  # noqa: S608
        {"account": scope.account_id, "cap": COUNT_CAP + 1},
    ).scalar_one()
    return min(found, COUNT_CAP), found > COUNT_CAP


def _conditions(scope: AccountScope, wanted: OrderFilter) -> tuple[list[str], dict[str, Any]]:
    conditions, values = [_LISTED], {"account": scope.account_id}
    for name, condition in (
        ("store_id", "o.connection_id = :store_id"),
        ("payment_status", "o.payment_status = :payment_status"),
        ("fulfilment_status", "o.fulfilment_status = :fulfilment_status"),
        ("placed_from", "o.placed_at >= :placed_from"),
        ("placed_until", "o.placed_at < :placed_until"),
        ("updated_from", "o.core_updated_at >= :updated_from"),
    ):
        if getattr(wanted, name) is not None:
            conditions.append(condition)
            values[name] = getattr(wanted, name)
    return conditions, values


def _search(tx: Connection, typed: str) -> tuple[str, str]:
    """The condition for what was typed, and the tsquery in it.

    The planner can't know how many orders a word's beginning fits, and either of its guesses is slow when wrong: so
    they are counted, up to RARE, and the plan is fixed by OFFSET 0.
    """
    query = search_query(typed)
    if not query:
        return "(:query <> '' AND :rare > 0)", ""
    matching = "SELECT s.id FROM orders s WHERE s.search @@ to_tsquery('simple', :query)"
    found = tx.execute(
        text(f"SELECT count(*) FROM ({matching} LIMIT :rare + 1) AS capped"),  # noqa: S608 - a fragment of ours
        {"query": query, "rare": RARE},
    ).scalar_one()
    if found > RARE:
        return "(o.search @@ to_tsquery('simple', :query) AND :rare > 0)", query
    return f"o.id IN ({matching} OFFSET 0 LIMIT :rare)", query


_WORD = re.compile(r"[^\s'\\&|!():*<>,;\"\x00]+")


def search_query(typed: str) -> str:
    """What was typed as a tsquery: each word by its beginning, all of them wanted; "" when there is no word in it.

    The words are quoted, so that nothing typed is an operator. PostgreSQL cuts e-mail addresses and numbers itself,
    the same way as it did when the order was stored.
    """
    words = [word.strip("#-.") for word in _WORD.findall(typed)[:8]]
    return " & ".join(f"'{word[:100]}':*" for word in words if word)


def get_order(tx: Connection, scope: AccountScope, order_id: int) -> RowMapping | None:
    """One order whole, also a removed one; None when the account has none of this id or nothing of it is known."""
    return (
        tx.execute(
            text(
                f"SELECT {_columns(scope)}, o.core, {_person(scope)} AS person, o.removed_at, o.erased_at, o.created_at"  # noqa: S608
                " FROM orders o WHERE o.account_id = :account AND o.id = :id AND o.core_digest IS NOT NULL"
            ),
            {"account": scope.account_id, "id": order_id},
        )
        .mappings()
        .first()
    )


_CHANGE = """SELECT c.id, c.order_id, c.connection_id, c.at, c.kind, c.parts, c.quiet, c.source, c.source_id,
 c.updated_at, c.fields"""


def order_changes(
    tx: Connection, scope: AccountScope, order_id: int, *, limit: int = 100, before: int | None = None
) -> list[Any]:
    """The order's history, newest first (changes_account_id_order_id_id_idx)."""
    statement = text(
        f"{_CHANGE} FROM changes c WHERE c.account_id = :account AND c.order_id = :order"
        " AND (CAST(:before AS bigint) IS NULL OR c.id < :before) ORDER BY c.id DESC LIMIT :limit"
    )
    values = {"account": scope.account_id, "order": order_id, "before": before, "limit": limit}
    return _impersonal(scope, list(tx.execute(statement, values).mappings()))


def order_deliveries(tx: Connection, scope: AccountScope, order: RowMapping, *, limit: int = 50) -> list[RowMapping]:
    """Deliveries about this order, newest first, those that changed nothing too (deliveries_order_idx)."""
    statement = text(
        "SELECT id, topic, received_at, state, outcome, problem FROM deliveries WHERE connection_id = :store"
        " AND order_external_id = :external AND account_id = :account ORDER BY id DESC LIMIT :limit"
    )
    values = {
        "store": order["connection_id"],
        "external": order["external_id"],
        "account": scope.account_id,
        "limit": limit,
    }
    return list(tx.execute(statement, values).mappings())


# --- the feed --------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class FeedPage:
    """Changes in the one order in which all readers see them; `position` is where the next page begins."""

    changes: list[Any]
    position: int
    generation: str
    more: bool


class OtherGeneration(ValueError):
    """The cursor is of a feed that a restore has replaced: the reader must start over."""


def read_feed(tx: Connection, scope: AccountScope, *, after: tuple[str, int] | None, limit: int) -> FeedPage:
    """The account's changes after a place of the feed (generation, position); None: from its beginning.

    Raises OtherGeneration.
    """
    generation = tx.execute(text("SELECT generation FROM feed_state WHERE id = 1")).scalar_one()
    if after is not None and after[0] != generation:
        raise OtherGeneration(after[0])
    position = after[1] if after else 0
    statement = text(
        f"{_CHANGE}, f.position, o.external_id, o.number FROM feed f JOIN changes c ON c.id = f.change_id"
        " JOIN orders o ON o.id = c.order_id"
        " WHERE f.account_id = :account AND f.position > :position ORDER BY f.position LIMIT :limit"
    )
    values = {"account": scope.account_id, "position": position, "limit": limit + 1}
    rows = list(tx.execute(statement, values).mappings())
    more = len(rows) > limit
    rows = rows[:limit]
    return FeedPage(_impersonal(scope, rows), rows[-1]["position"] if rows else position, str(generation), more)


def feed_cursor(generation: str, position: int) -> str:
    """The opaque form of a place in the feed."""
    return base64.urlsafe_b64encode(f"{generation} {position}".encode()).decode().rstrip("=")


def read_feed_cursor(opaque: str) -> tuple[str, int]:
    """Raises BadCursor."""
    try:
        raw = base64.urlsafe_b64decode(opaque + "=" * (-len(opaque) % 4)).decode()
        generation, position = raw.split(" ")
        if not 0 <= int(position) < 2**63:
            raise ValueError(opaque)
        return generation, int(position)
    except (ValueError, binascii.Error) as error:
        raise BadCursor(opaque) from error


def instant_text(moment: datetime) -> str:
    """ISO 8601 in UTC with a Z, as everywhere in what we send."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
