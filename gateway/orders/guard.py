"""The guard in SQL: an order is written only where the version rule says that what comes is newer.

Used by apply.py alone, the one writer. Set-based: one statement a batch, whose RETURNING old and new is the only right
source of created and updated under several workers.
"""

from __future__ import annotations

PART = ("epoch", "updated_at", "settled", "observed_at", "digest")
_TYPES = {
    "epoch": "int2", "updated_at": "timestamptz", "settled": "bool", "observed_at": "timestamptz",
    "digest": "bytea", "shape": "int2", "words": "text",
}  # fmt: skip


_APART = "interval '60 seconds'"
"""How long the two reads lie apart that must agree before a source is believed to have gone back (DESIGN section 6)."""


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


def _epoch(part: str) -> str:
    """What was observed before the stored epoch began belongs to the one before it."""
    return f"CASE WHEN excluded.{part}_observed_at < o.{part}_epoch_at THEN o.{part}_epoch - 1 ELSE o.{part}_epoch END"


def _behind(part: str) -> str:
    """A settled read, later than all that is stored, shows an older time: a first sight that the source went back."""
    return (
        f"(excluded.{part}_settled AND excluded.{part}_updated_at < o.{part}_updated_at"
        f" AND excluded.{part}_observed_at > greatest(o.{part}_updated_at, o.{part}_observed_at))"
    )


def _went_back(part: str) -> str:
    """The second such sight, far enough from the first."""
    return (
        f"(o.{part}_back_at IS NOT NULL AND excluded.{part}_observed_at >= o.{part}_back_at + {_APART}"
        f" AND {_behind(part)})"
    )


def _mask(part: str) -> str:
    """An erased person is never written again."""
    return " AND o.erased_at IS NULL" if part == "person" else ""


def _wins(part: str) -> str:
    """The version rule: only the greater version is written, or what a source is that went back."""
    new = ", ".join([_epoch(part), *(f"excluded.{part}_{name}" for name in PART[1:])])
    old = ", ".join(f"o.{part}_{name}" for name in PART)
    return (
        f"(excluded.{part}_digest IS NOT NULL AND (o.{part}_digest IS NULL OR ({new}) > ({old})"
        f" OR {_went_back(part)}){_mask(part)})"
    )


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
        sets += [f"{part}_{n} = CASE WHEN {wins} THEN excluded.{part}_{n} ELSE o.{part}_{n} END" for n in PART[1:]]
        sets += [
            f"{part}_epoch = CASE WHEN {_went_back(part)}{_mask(part)} THEN o.{part}_epoch + 1"
            f" ELSE coalesce(o.{part}_epoch, excluded.{part}_epoch) END",
            f"{part}_epoch_at = CASE WHEN {_went_back(part)}{_mask(part)} THEN o.{part}_back_at"
            f" ELSE o.{part}_epoch_at END",
            f"{part}_back_at = CASE WHEN {wins} THEN NULL"
            f" WHEN {_behind(part)}{_mask(part)} THEN least(o.{part}_back_at, excluded.{part}_observed_at)"
            f" ELSE o.{part}_back_at END",
        ]
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
    # Content of another shape may be the same content: whether it changed is judged by apply.py.
    moved = " OR ".join(
        f"({wins} AND excluded.{part}_digest IS DISTINCT FROM o.{part}_digest"
        f" AND excluded.{part}_shape = coalesce(o.{part}_shape, excluded.{part}_shape))"
        for part, wins in (("core", core), ("person", person))
    )
    sets.append(
        f"changed_at = CASE WHEN {moved} OR ({_EXISTS} AND o.removed_at IS NOT NULL) THEN now() ELSE o.changed_at END"
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
            f"old.{part}_epoch AS old_{part}_epoch", f"new.{part}_epoch AS {part}_epoch",
            f"new.{part}_epoch_at AS {part}_epoch_at", f"new.{part}_back_at AS {part}_back_at",
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
        f"WHERE {core} OR {person} OR {_EXISTS} OR {_behind('core')} OR ({_behind('person')}{_mask('person')})\n"
        f"RETURNING {', '.join(returning)}"
    )


UPSERT = _upsert()

STORED = """
SELECT o.id, o.connection_id, o.external_id, o.removed_at, o.erased_at,
       o.core_updated_at, o.core_settled, o.core_digest, o.core_shape, o.core_epoch, o.core_epoch_at,
       o.person_epoch, o.person_epoch_at, o.person_updated_at, o.person_settled, o.person_digest, o.person_shape
FROM unnest(%b::int8[], %b::text[]) AS k (connection_id, external_id) CROSS JOIN LATERAL (
  SELECT * FROM orders WHERE connection_id = k.connection_id AND external_id = k.external_id LIMIT 1) AS o
"""

CHANGES = """
WITH made AS (
  INSERT INTO changes (account_id, connection_id, order_id, kind, parts, quiet, source, source_id,
                       epoch, updated_at, observed_at, settled, fields)
  VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING id, account_id)
INSERT INTO feed_pending (change_id, account_id) SELECT id, account_id FROM made
"""

CREATED = """
WITH made AS (
  INSERT INTO changes (account_id, connection_id, order_id, kind, parts, quiet, source, source_id,
                       epoch, updated_at, observed_at, settled)
  SELECT a, c, o, 'created', CASE WHEN p THEN '{core,person}'::text[] ELSE '{core}' END, %s, %s, s, 0, u, t, f
  FROM unnest(%b::int8[], %b::int8[], %b::int8[], %b::bool[], %b::int8[], %b::timestamptz[], %b::timestamptz[],
              %b::bool[]) AS i (a, c, o, p, s, u, t, f)
  RETURNING id, account_id)
INSERT INTO feed_pending (change_id, account_id) SELECT id, account_id FROM made
"""

CHANGED_AT = "UPDATE orders SET changed_at = now() WHERE id = ANY(%s)"

REMOVE = """
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
