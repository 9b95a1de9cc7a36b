"""THE one writer of orders: live path, sync, re-read and replay all end here, behind one guard.

Stored state is, part by part, the maximum over a total order of versions (domain/version.py), so applying is
commutative, associative and idempotent. The guard stands in the SQL; no writer without it exists.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, NamedTuple

from psycopg import Cursor
from psycopg.rows import namedtuple_row
from psycopg.types.json import Jsonb
from sqlalchemy import Connection

from gateway.db.engine import cursor as cursor_of
from gateway.domain.order import SHAPE, PartName
from gateway.orders.changes import differences
from gateway.orders.payloads import DataKey, Payloads, place_of_order
from gateway.orders.reading import Part, Reading, canonical, digest
from gateway.orders.rereads import Wish, want
from gateway.platforms import REGISTRY, fields

Outcome = Literal["created", "updated", "unchanged", "newer_here", "superseded"]
Source = Literal["delivery", "run", "reread", "user"]


class Key(NamedTuple):
    """An order's name: sorted, so that two writers never wait for each other in a circle."""

    connection_id: int
    external_id: str


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of one reading. `superseded`: a greater one of the same batch was written in its place.

    `erased`: the person part of this order was erased for good; whatever else holds the payload must go too.
    """

    outcome: Outcome
    order_id: int
    erased: bool = False


@dataclass(frozen=True, slots=True)
class Removal:
    """One look-up that said Gone, at `observed_at` by the platform's clock."""

    account_id: int
    connection_id: int
    external_id: str
    observed_at: datetime
    source_id: int | None = None


# --- the statement ---------------------------------------------------------------------------------------------
_PART = ("epoch", "updated_at", "settled", "observed_at", "digest")
_TYPES = {
    "epoch": "int2", "updated_at": "timestamptz", "settled": "bool", "observed_at": "timestamptz",
    "digest": "bytea", "shape": "int2", "words": "text",
}  # fmt: skip


def _columns() -> list[tuple[str, str]]:
    columns = [("account_id", "int8"), ("connection_id", "int8"), ("external_id", "text")]
    for part in ("core", "person"):
        columns += [(f"{part}_{name}", kind) for name, kind in _TYPES.items()]
        columns.append((part, "bytea"))
    return [
        *columns,
        ("raw", "bytea"), ("raw_kind", "text"), ("person_raw", "bytea"), ("person_raw_kind", "text"),
        ("existence_observed_at", "timestamptz"), ("number", "text"), ("placed_at", "timestamptz"),
        ("payment_status", "text"), ("fulfilment_status", "text"), ("currency", "text"), ("total", "numeric"),
        ("item_count", "int4"), ("customer_name", "text"),
    ]  # fmt: skip


def _wins(part: str) -> str:
    """The version rule: only the greater version is written (DESIGN section 6); an erased person never again."""
    mask = " AND o.erased_at IS NULL" if part == "person" else ""
    new = ", ".join(f"excluded.{part}_{name}" for name in _PART)
    old = ", ".join(f"o.{part}_{name}" for name in _PART)
    return f"(excluded.{part}_digest IS NOT NULL AND (o.{part}_digest IS NULL OR ({new}) > ({old})){mask})"


_EXISTS = (
    "(excluded.existence_observed_at IS NOT NULL AND (o.existence_observed_at IS NULL"
    " OR excluded.existence_observed_at > o.existence_observed_at))"
)
"""A read that found it at the very second of one that found it gone does not lift the tombstone: both are ordered
by (time, gone), and the tie is read again."""


def _upsert() -> str:
    core, person = _wins("core"), _wins("person")
    columns = _columns()
    values = ", ".join(f"convert_from({n}, 'UTF8')::json" if n in ("core", "person") else n for n, _ in columns)
    sets = []
    for part, wins in (("core", core), ("person", person)):
        changed = (
            f"({wins} AND (excluded.{part}_digest, excluded.{part}_shape)"
            f" IS DISTINCT FROM (o.{part}_digest, o.{part}_shape))"
        )
        sets += [f"{part}_{n} = CASE WHEN {wins} THEN excluded.{part}_{n} ELSE o.{part}_{n} END" for n in _PART]
        # Equal content is not written again: its TOASTed value stays where it is.
        sets += [
            f"{n} = CASE WHEN {changed} THEN excluded.{n} ELSE o.{n} END"
            for n in (f"{part}_shape", f"{part}_words", part)
        ]
    listing = ("number", "placed_at", "payment_status", "fulfilment_status", "currency", "total", "item_count")
    sets += [f"{name} = CASE WHEN {core} THEN excluded.{name} ELSE o.{name} END" for name in listing]
    sets.append(f"customer_name = CASE WHEN {person} THEN excluded.customer_name ELSE o.customer_name END")
    # The payload follows its part: at another updated_at, digest or shape. One payload serves both parts where it can.
    newer = "(excluded.{0}_updated_at, excluded.{0}_digest, excluded.{0}_shape) IS DISTINCT FROM " \
            "(o.{0}_updated_at, o.{0}_digest, o.{0}_shape)"  # fmt: skip
    core_raw = f"({core} AND {newer.format('core')})"
    person_raw = f"({person} AND {newer.format('person')})"
    erased = "o.erased_at IS NOT NULL"  # a payload names the person too: none is kept beside an erased part
    for name in ("raw", "raw_kind"):
        sets.append(f"{name} = CASE WHEN {erased} THEN NULL WHEN {core_raw} THEN excluded.{name} ELSE o.{name} END")
        sets.append(
            f"person_{name} = CASE WHEN {erased} THEN NULL"
            f" WHEN {core_raw} AND {person_raw} THEN excluded.person_{name}"
            f" WHEN {person_raw} THEN coalesce(excluded.person_{name}, excluded.{name})"
            f" WHEN {core_raw} AND o.person_digest IS NOT NULL THEN coalesce(o.person_{name}, o.{name})"
            f" ELSE o.person_{name} END"
        )
    sets.append(
        f"existence_observed_at = CASE WHEN {_EXISTS} THEN excluded.existence_observed_at"
        " ELSE o.existence_observed_at END"
    )
    sets.append(f"removed_at = CASE WHEN {_EXISTS} THEN NULL ELSE o.removed_at END")
    sets.append(
        "changed_at = CASE WHEN"
        f" ({core} AND excluded.core_digest IS DISTINCT FROM o.core_digest)"
        f" OR ({person} AND excluded.person_digest IS DISTINCT FROM o.person_digest)"
        f" OR ({_EXISTS} AND o.removed_at IS NOT NULL) THEN now() ELSE o.changed_at END"
    )
    returning = [
        "new.id", "new.connection_id", "new.external_id", "old.id AS old_id", "old.removed_at AS old_removed_at",
        "new.removed_at AS removed_at", "new.erased_at AS erased_at",
    ]  # fmt: skip
    for part in ("core", "person"):
        returning += [
            f"old.{part}_digest AS old_{part}_digest", f"new.{part}_digest AS {part}_digest",
            f"old.{part}_shape AS old_{part}_shape", f"new.{part}_shape AS {part}_shape",
            f"old.{part}_updated_at AS old_{part}_updated_at", f"new.{part}_updated_at AS {part}_updated_at",
            f"new.{part}_observed_at AS {part}_observed_at", f"new.{part}_settled AS {part}_settled",
            f"new.{part}_epoch AS {part}_epoch",
            f"CASE WHEN old.{part}_digest IS DISTINCT FROM new.{part}_digest THEN old.{part}::text END AS old_{part}",
        ]  # fmt: skip
    returning += [
        "CASE WHEN old.core_shape IS DISTINCT FROM new.core_shape THEN old.raw END AS old_core_raw",
        "old.raw_kind AS old_core_raw_kind",
        "CASE WHEN old.person_shape IS DISTINCT FROM new.person_shape THEN coalesce(old.person_raw, old.raw) END"
        " AS old_person_raw",
        "coalesce(old.person_raw_kind, old.raw_kind) AS old_person_raw_kind",
    ]
    return (
        f"INSERT INTO orders AS o ({', '.join(n for n, _ in columns)})\n"
        f"SELECT {values} FROM unnest({', '.join(f'%b::{kind}[]' for _, kind in columns)})\n"
        f"AS i ({', '.join(n for n, _ in columns)})\n"
        f"ON CONFLICT (connection_id, external_id) DO UPDATE SET\n  {', '.join(sets)}\n"
        f"WHERE {core} OR {person} OR {_EXISTS}\n"
        f"RETURNING {', '.join(returning)}"
    )


_UPSERT = _upsert()

_STORED = """
SELECT o.id, o.connection_id, o.external_id, o.removed_at, o.erased_at,
       o.core_updated_at, o.core_settled, o.core_digest, o.core_shape,
       o.person_updated_at, o.person_settled, o.person_digest, o.person_shape
FROM orders o JOIN unnest(%b::int8[], %b::text[]) AS k (connection_id, external_id) USING (connection_id, external_id)
"""

_CHANGES = """
WITH made AS (
  INSERT INTO changes (account_id, connection_id, order_id, kind, parts, quiet, source, source_id,
                       epoch, updated_at, observed_at, settled, fields)
  VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING id, account_id)
INSERT INTO feed_pending (change_id, account_id) SELECT id, account_id FROM made
"""

_CREATED = """
WITH made AS (
  INSERT INTO changes (account_id, connection_id, order_id, kind, parts, quiet, source, source_id,
                       epoch, updated_at, observed_at, settled)
  SELECT a, c, o, 'created', CASE WHEN p THEN '{core,person}'::text[] ELSE '{core}' END, %s, %s, s, 0, u, t, f
  FROM unnest(%b::int8[], %b::int8[], %b::int8[], %b::bool[], %b::int8[], %b::timestamptz[], %b::timestamptz[],
              %b::bool[]) AS i (a, c, o, p, s, u, t, f)
  RETURNING id, account_id)
INSERT INTO feed_pending (change_id, account_id) SELECT id, account_id FROM made
"""

_REMOVE = """
INSERT INTO orders AS o (account_id, connection_id, external_id, existence_observed_at, removed_at)
SELECT a, c, e, t, t FROM unnest(%b::int8[], %b::int8[], %b::text[], %b::timestamptz[]) AS i (a, c, e, t)
ON CONFLICT (connection_id, external_id) DO UPDATE SET
  existence_observed_at = excluded.existence_observed_at, removed_at = excluded.removed_at,
  changed_at = CASE WHEN o.removed_at IS NULL THEN now() ELSE o.changed_at END
WHERE o.existence_observed_at IS NULL
   OR (excluded.existence_observed_at, true) > (o.existence_observed_at, o.removed_at IS NOT NULL)
RETURNING new.id, new.connection_id, new.external_id, old.removed_at AS old_removed_at,
  old.core_digest AS core_digest, old.existence_observed_at AS old_existence_observed_at
"""


# --- applying --------------------------------------------------------------------------------------------------
def apply(
    tx: Connection,
    readings: Sequence[Reading],
    *,
    source: Source,
    platforms: dict[int, str],
    payloads: Payloads,
    quiet: bool = False,
) -> list[Applied]:
    """Write the readings under the guard; one Applied for each, in their order. The caller owns the transaction.

    `platforms`: each connection's platform, to normalise a stored payload of an older shape again. `payloads` seals
    what is kept of the readings' own bytes.
    """
    if not readings:
        return []
    best = _reduce(readings)
    keys = sorted(best)
    data_keys = payloads.keys_of(tx, {key.connection_id for key in keys})
    with cursor_of(tx, row_factory=namedtuple_row) as cursor:
        cursor.execute(_UPSERT, _arrays([best[key] for key in keys], data_keys))
        written = {Key(row.connection_id, row.external_id): row for row in cursor.fetchall()}
        refused = [key for key in keys if key not in written]
        stored = _stored(cursor, refused)
        erased = {key for key, row in (written | stored).items() if row.erased_at is not None}
        if erased:
            # What they say of the person was not written, and is no difference either.
            readings = [replace(each, person=None) if _key(each) in erased else each for each in readings]
            best |= {key: replace(best[key], person=None) for key in erased}
        outcomes: dict[Key, Applied] = {}
        changes: list[tuple[Any, ...]] = []
        created: list[tuple[Reading, Any]] = []
        for key in keys:
            reading = best[key]
            row = written.get(key)
            if row is None:
                there = stored[key]
                outcome: Outcome = "unchanged" if _same(reading, there) else "newer_here"
                outcomes[key] = Applied(outcome, there.id, key in erased)
            elif row.old_core_digest is None and reading.core.version.digest == row.core_digest:
                created.append((reading, row))
                outcomes[key] = Applied("created", row.id, key in erased)
                if row.removed_at is not None:
                    # A read found it gone before we knew it; who follows the feed must not take it for a live order.
                    changes.append(_removal(reading.account_id, row, row.removed_at, quiet, source, reading.source_id))
            else:
                was_same = _Shapes(tx, payloads, platforms[key.connection_id], key)
                outcome, change = _judge(reading, row, source, quiet, was_same)
                outcomes[key] = Applied(outcome, row.id, key in erased)
                if change is not None:
                    changes.append(change)
        _write_created(cursor, created, source, quiet)
        if changes:
            cursor.executemany(_CHANGES, changes)
    want(tx, _wishes(readings, best, written, stored))
    return _answers(readings, best, outcomes)


def foresee(tx: Connection, readings: Sequence[Reading]) -> list[Outcome]:
    """What `apply` would make of these readings of different orders, without writing anything."""
    with cursor_of(tx, row_factory=namedtuple_row) as cursor:
        stored = _stored(cursor, [_key(reading) for reading in readings])
    outcomes: list[Outcome] = []
    for reading in readings:
        there = stored.get(_key(reading))
        if there is None or there.core_digest is None:
            outcomes.append("created")
        elif there.removed_at is None and _same(
            reading if there.erased_at is None else replace(reading, person=None), there
        ):
            outcomes.append("unchanged")
        else:
            outcomes.append("updated" if reading.core.version.updated_at >= there.core_updated_at else "newer_here")
    return outcomes


def remove(tx: Connection, removals: Iterable[Removal], *, source: Source, quiet: bool = False) -> dict[Key, bool]:
    """Make tombstones for orders that a read found gone; True for each that was a live order until now.

    An order that was never seen gets one too, so that a late webhook of its creation does not bring it to life.
    """
    latest: dict[Key, Removal] = {}
    for removal in removals:
        key = Key(removal.connection_id, removal.external_id)
        if key not in latest or latest[key].observed_at < removal.observed_at:
            latest[key] = removal
    if not latest:
        return {}
    rows = [latest[key] for key in sorted(latest)]
    done = dict.fromkeys(latest, False)
    with cursor_of(tx, row_factory=namedtuple_row) as cursor:
        cursor.execute(
            _REMOVE,
            (
                [row.account_id for row in rows],
                [row.connection_id for row in rows],
                [row.external_id for row in rows],
                [row.observed_at for row in rows],
            ),
        )
        for row in cursor.fetchall():
            key = Key(row.connection_id, row.external_id)
            if row.core_digest is None or row.old_removed_at is not None:
                continue
            done[key] = True
            removal = latest[key]
            cursor.execute(
                _CHANGES, _removal(removal.account_id, row, removal.observed_at, quiet, source, removal.source_id)
            )
            if row.old_existence_observed_at == removal.observed_at:
                # Found and gone within one second: which came last, only another read can tell.
                want(tx, [Wish(removal.account_id, key.connection_id, key.external_id, "existence_tie", None,
                               removal.source_id)])  # fmt: skip
    return done


def _removal(
    account_id: int, row: Any, observed_at: datetime, quiet: bool, source: Source, source_id: int | None
) -> tuple[Any, ...]:
    """The Change that tells of a removal, for _CHANGES."""
    return (
        account_id, row.connection_id, row.id, "removed", ["existence"], quiet, source, source_id, 0, None, observed_at,
        True, Jsonb([]),
    )  # fmt: skip


def _key(reading: Reading) -> Key:
    return Key(reading.connection_id, reading.external_id)


def _reduce(readings: Sequence[Reading]) -> dict[Key, Reading]:
    """The greatest reading of each order, part by part: a key twice in one statement is an error."""
    best: dict[Key, Reading] = {}
    for reading in readings:
        key = _key(reading)
        other = best.get(key)
        best[key] = reading if other is None else _merge(other, reading)
    return best


def _merge(one: Reading, two: Reading) -> Reading:
    newer, older = (two, one) if two.core.version > one.core.version else (one, two)
    person = _greater(one.person, two.person)
    exists = max((t for t in (one.exists_at, two.exists_at) if t is not None), default=None)
    if person is newer.person and exists == newer.exists_at:
        return newer
    if person is newer.person:
        return replace(newer, exists_at=exists)
    return replace(
        newer,
        person=person,
        customer_name=older.customer_name,
        exists_at=exists,
        person_raw=older.person_raw or older.raw,
        person_raw_kind=older.person_raw_kind or older.raw_kind,
    )


def _greater(one: Part | None, two: Part | None) -> Part | None:
    if one is None or two is None:
        return one or two
    return two if two.version > one.version else one


def _answers(readings: Sequence[Reading], best: dict[Key, Reading], outcomes: dict[Key, Applied]) -> list[Applied]:
    """What became of each reading: of those that say the same about one order, the first is told what was written."""
    told: set[Key] = set()
    answers = []
    for reading in readings:
        key = _key(reading)
        outcome = outcomes[key]
        if reading.core.version.digest != best[key].core.version.digest:
            outcome = replace(outcome, outcome="superseded")
        elif key in told:
            outcome = replace(outcome, outcome="unchanged")
        else:
            told.add(key)
        answers.append(outcome)
    return answers


def _arrays(rows: Sequence[Reading], data_keys: dict[int | None, DataKey]) -> list[list[Any]]:
    def sealed(reading: Reading, payload: bytes | None) -> bytes | None:
        if payload is None:
            return None
        return data_keys[reading.connection_id].seal(payload, place_of_order(*_key(reading)))

    lists: list[list[Any]] = [
        [r.account_id for r in rows], [r.connection_id for r in rows], [r.external_id for r in rows]
    ]  # fmt: skip
    for parts in ([r.core for r in rows], [r.person for r in rows]):
        for index in range(len(_PART)):
            lists.append([None if p is None else p.version[index] for p in parts])
        lists.append([None if p is None else p.shape for p in parts])
        lists.append([None if p is None else p.words for p in parts])
        lists.append([None if p is None else p.content for p in parts])
    lists += [[sealed(r, r.raw) for r in rows], [r.raw_kind for r in rows]]
    lists += [[sealed(r, r.person_raw) for r in rows], [r.person_raw_kind for r in rows], [r.exists_at for r in rows]]
    lists += [list(column) for column in zip(*(r.listing for r in rows), strict=True)]
    lists.append([r.customer_name for r in rows])
    return lists


def _stored(cursor: Cursor[Any], keys: Sequence[Key]) -> dict[Key, Any]:
    """What stands where the guard refused: the upsert has locked these rows, so it is what refused."""
    if not keys:
        return {}
    cursor.execute(_STORED, ([key.connection_id for key in keys], [key.external_id for key in keys]))
    return {Key(row.connection_id, row.external_id): row for row in cursor.fetchall()}


def _same(reading: Reading, there: Any) -> bool:
    return reading.core.version.digest == there.core_digest and (
        reading.person is None or reading.person.version.digest == there.person_digest
    )


def _judge(
    reading: Reading, row: Any, source: Source, quiet: bool, shapes: _Shapes
) -> tuple[Outcome, tuple[Any, ...] | None]:
    """Created or updated is what RETURNING old and new say, and nothing else."""
    parts: list[str] = []
    rows: list[list[Any]] = []
    refused = False
    for name, part in (("core", reading.core), ("person", reading.person)):
        if part is None:
            continue
        old_digest, new_digest = getattr(row, f"old_{name}_digest"), getattr(row, f"{name}_digest")
        if part.version.digest != new_digest:
            refused = True
        elif old_digest != new_digest and not shapes.same(name, row, new_digest):
            parts.append(name)
            old = getattr(row, f"old_{name}")
            rows += differences(None if old is None else old.encode(), part.content)
    restored = row.old_removed_at is not None and row.removed_at is None
    if not parts and not restored:
        return ("newer_here" if refused else "unchanged"), None
    kind = "restored" if restored else ("created" if row.old_core_digest is None else "updated")
    version = reading.core.version
    change = (
        reading.account_id, reading.connection_id, row.id, kind, parts or ["existence"], quiet, source,
        reading.source_id, version.epoch, version.updated_at, version.observed_at, version.settled, Jsonb(rows),
    )  # fmt: skip
    return ("created" if kind == "created" else "updated"), change


@dataclass(frozen=True, slots=True)
class _Shapes:
    """Tells a change of our own shape from a change of the order."""

    tx: Connection
    payloads: Payloads
    platform: str
    key: Key

    def same(self, name: PartName | str, row: Any, new_digest: bytes) -> bool:
        """Whether the stored payload, cut by this release, equals the new content."""
        if getattr(row, f"old_{name}_shape") in (None, SHAPE):
            return False
        sealed = getattr(row, f"old_{name}_raw")
        if sealed is None:
            # Erased with the person: all that is left to compare is when the platform says that it changed.
            return row.erased_at is not None and getattr(row, f"old_{name}_updated_at") == getattr(
                row, f"{name}_updated_at"
            )
        raw = self.payloads.open(self.tx, bytes(sealed), place_of_order(*self.key))
        order = REGISTRY[self.platform].normalise(fields.as_object(raw), kind=getattr(row, f"old_{name}_raw_kind"))
        part = order.core if name == "core" else order.person
        return part is not None and digest(canonical(part)) == new_digest


def _write_created(cursor: Cursor[Any], created: list[tuple[Reading, Any]], source: Source, quiet: bool) -> None:
    if not created:
        return
    readings = [reading for reading, _ in created]
    cursor.execute(
        _CREATED,
        (
            quiet,
            source,
            [reading.account_id for reading in readings],
            [reading.connection_id for reading in readings],
            [row.id for _, row in created],
            [reading.person is not None for reading in readings],
            [reading.source_id for reading in readings],
            [reading.core.version.updated_at for reading in readings],
            [reading.core.version.observed_at for reading in readings],
            [reading.core.version.settled for reading in readings],
        ),
    )


# --- ties ------------------------------------------------------------------------------------------------------
def _wishes(
    readings: Sequence[Reading], best: dict[Key, Reading], written: dict[Key, Any], stored: dict[Key, Any]
) -> list[Wish]:
    """Which orders only another read can settle.

    Two readings of one updated_at with different content, neither settled: which came last within that second is
    unknown until a settled read. A webhook refused by a settled read of its very second, with other content, is a
    contradiction. A webhook about an order that a read found gone hints that it is back.
    """
    wishes = []
    for reading in readings:
        key = _key(reading)
        row = written.get(key)
        if _tied_within(reading, best[key]) or (
            _tied_before(reading, row) if row is not None else _tied_with(reading, stored[key])
        ):
            wishes.append(_wish(reading, "tie", reading.reread_at))
        state = row if row is not None else stored[key]
        if state.removed_at is not None and (reading.exists_at is None or reading.exists_at >= state.removed_at):
            wishes.append(_wish(reading, "webhook_after_removal", None))
    return wishes


def _wish(reading: Reading, reason: str, due_at: datetime | None) -> Wish:
    return Wish(reading.account_id, reading.connection_id, reading.external_id, reason, due_at, reading.source_id)


def _parts(reading: Reading) -> list[tuple[str, Part]]:
    return [("core", reading.core)] + ([("person", reading.person)] if reading.person is not None else [])


def _tied_within(reading: Reading, best: Reading) -> bool:
    for name, part in _parts(reading):
        other: Part | None = getattr(best, name)
        if (
            other is not None
            and not part.version.settled
            and part.version.updated_at == other.version.updated_at
            and part.version.digest != other.version.digest
        ):
            return True
    return False


def _tied_before(reading: Reading, row: Any) -> bool:
    """Against what stood there before this write, and what stands there now."""
    for name, part in _parts(reading):
        if part.version.settled:
            continue
        old = getattr(row, f"old_{name}_digest")
        same_shape = getattr(row, f"old_{name}_shape") in (None, part.shape)
        if (
            old is not None
            and same_shape
            and old != part.version.digest
            and getattr(row, f"old_{name}_updated_at") == part.version.updated_at
        ):
            return True
    return False


def _tied_with(reading: Reading, there: Any) -> bool:
    return any(
        not part.version.settled
        and getattr(there, f"{name}_updated_at") == part.version.updated_at
        and getattr(there, f"{name}_digest") != part.version.digest
        and getattr(there, f"{name}_shape") == part.shape
        for name, part in _parts(reading)
    )
