"""THE one writer of orders: live path, sync, re-read and replay all end here, behind one guard.

Stored state is, part by part, the maximum over a total order of versions (domain/version.py), so applying is
commutative, associative and idempotent. The guard stands in the SQL; no writer without it exists.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from psycopg import Cursor
from psycopg.rows import namedtuple_row
from psycopg.types.json import Jsonb
from sqlalchemy import Connection

from gateway.db.engine import cursor as cursor_of
from gateway.domain.order import SHAPE, PartName
from gateway.orders import guard, misses, ties
from gateway.orders.changes import differences
from gateway.orders.payloads import DataKey, Payloads, place_of_order
from gateway.orders.reading import Key, Part, Reading, canonical, digest
from gateway.orders.rereads import Wish, want
from gateway.platforms import REGISTRY, fields

Outcome = Literal["created", "updated", "unchanged", "newer_here", "superseded"]
Source = Literal["delivery", "run", "reread", "user"]


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
        cursor.execute(guard.UPSERT, _arrays([best[key] for key in keys], data_keys))
        written = {Key(row.connection_id, row.external_id): row for row in cursor.fetchall()}
        refused = [key for key in keys if key not in written]
        stored = _stored(cursor, refused)
        erased = {key for key, row in (written | stored).items() if row.erased_at is not None}
        if erased:
            # What they say of the person was not written, and is no difference either.
            readings = [replace(each, person=None) if each.key in erased else each for each in readings]
            best |= {key: replace(best[key], person=None) for key in erased}
        outcomes: dict[Key, Applied] = {}
        changes: list[tuple[Any, ...]] = []
        created: list[tuple[Reading, Any]] = []
        reshaped: list[int] = []
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
                    if any(getattr(row, f"old_{n}_shape") not in (None, p.shape) for n, p in reading.parts):
                        reshaped.append(row.id)
        _write_created(cursor, created, source, quiet)
        if reshaped:
            cursor.execute(guard.CHANGED_AT, (reshaped,))
        if changes:
            cursor.executemany(guard.CHANGES, changes)
    want(tx, ties.wishes(readings, best, written, stored))
    if source == "delivery":
        _note_contradictions(tx, [r for r in readings if r.key in stored and ties.contradicts(r, stored[r.key])])
    if len(readings) > len(best):
        again = _within_epochs(readings, best, written | stored)
        for reading, applied in zip(
            again,
            apply(tx, again, source=source, platforms=platforms, payloads=payloads, quiet=quiet),
            strict=True,
        ):
            best[reading.key] = reading
            if outcomes[reading.key].outcome not in ("created", "updated"):
                outcomes[reading.key] = applied
    return _answers(readings, best, outcomes)


def foresee(tx: Connection, readings: Sequence[Reading]) -> list[Outcome]:
    """What `apply` would make of these readings of different orders, without writing anything."""
    with cursor_of(tx, row_factory=namedtuple_row) as cursor:
        stored = _stored(cursor, [reading.key for reading in readings])
    outcomes: list[Outcome] = []
    for reading in readings:
        there = stored.get(reading.key)
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
            guard.REMOVE,
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
                guard.CHANGES,
                _removal(removal.account_id, row, removal.observed_at, quiet, source, removal.source_id),
            )
            if row.old_existence_observed_at == removal.observed_at:
                # Found and gone within one second: which came last, only another read can tell.
                want(tx, [Wish(removal.account_id, key.connection_id, key.external_id, "existence_tie", None,
                               removal.source_id)])  # fmt: skip
    return done


def _removal(
    account_id: int, row: Any, observed_at: datetime, quiet: bool, source: Source, source_id: int | None
) -> tuple[Any, ...]:
    """The Change that tells of a removal, for guard.CHANGES."""
    return (
        account_id, row.connection_id, row.id, "removed", ["existence"], quiet, source, source_id, 0, None, observed_at,
        True, Jsonb([]),
    )  # fmt: skip


def _reduce(readings: Sequence[Reading]) -> dict[Key, Reading]:
    """The greatest reading of each order, part by part: a key twice in one statement is an error."""
    best: dict[Key, Reading] = {}
    for reading in readings:
        key = reading.key
        other = best.get(key)
        best[key] = reading if other is None else _merge(other, reading)
    return best


def _within_epochs(readings: Sequence[Reading], best: dict[Key, Reading], there: dict[Key, Any]) -> list[Reading]:
    """For orders whose source once went back, and that stand in the batch more than once: the greatest reading by
    their epochs, where it is another than the one that was greatest without them."""
    of_later_epochs = {key for key, row in there.items() if (row.core_epoch or 0) + (row.person_epoch or 0) > 0}
    placed = [_placed(reading, there[reading.key]) for reading in readings if reading.key in of_later_epochs]
    return [
        reading
        for key, reading in sorted(_reduce(placed).items())
        if [part.version[1:] for _, part in reading.parts] != [part.version[1:] for _, part in best[key].parts]
    ]


def _placed(reading: Reading, there: Any) -> Reading:
    """The reading with the epochs that its parts belong to: what was observed before one began is of the one before."""

    def place(part: Part, name: PartName) -> Part:
        began, epoch = getattr(there, f"{name}_epoch_at"), getattr(there, f"{name}_epoch") or 0
        before = began is not None and part.version.observed_at < began
        return replace(part, version=part.version._replace(epoch=epoch - before))

    person = None if reading.person is None else place(reading.person, "person")
    return replace(reading, core=place(reading.core, "core"), person=person)


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
        key = reading.key
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
        return data_keys[reading.connection_id].seal(payload, place_of_order(*reading.key))

    lists: list[list[Any]] = [
        [r.account_id for r in rows], [r.connection_id for r in rows], [r.external_id for r in rows]
    ]  # fmt: skip
    for parts in ([r.core for r in rows], [r.person for r in rows]):
        for index in range(len(guard.PART)):
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
    cursor.execute(guard.STORED, ([key.connection_id for key in keys], [key.external_id for key in keys]))
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
    went_back = row.old_core_digest is not None and row.core_epoch > row.old_core_epoch
    kind = "restored" if restored else "created" if row.old_core_digest is None else "updated"
    version = reading.core.version
    change = (
        reading.account_id, reading.connection_id, row.id, "went_back" if went_back else kind,
        parts or ["existence"], quiet, source, reading.source_id, row.core_epoch,
        version.updated_at, version.observed_at, version.settled, Jsonb(rows),
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


def _note_contradictions(tx: Connection, readings: Sequence[Reading]) -> None:
    for connection_id in sorted({reading.connection_id for reading in readings}):
        of_store = [reading for reading in readings if reading.connection_id == connection_id]
        misses.note(tx, of_store[0].account_id, connection_id, contradicted=len(of_store))


def _write_created(cursor: Cursor[Any], created: list[tuple[Reading, Any]], source: Source, quiet: bool) -> None:
    if not created:
        return
    readings = [reading for reading, _ in created]
    cursor.execute(
        guard.CREATED,
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
