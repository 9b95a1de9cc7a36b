"""Whether a run saw all that there is: what it listed against the platform's own count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, text

from backfill.runs import Taken
from backfill.slices import Slice
from gateway.connections import model
from gateway.domain.window import Window
from gateway.platforms import REGISTRY
from gateway.platforms.base import Count

OUTCOMES = ("created", "updated", "unchanged", "newer_here", "failed", "removed", "hidden")

MAX_PASSES = 3

LISTED_ONCE = "the platform has no count, and a catch-up lists once"

COUNT_MOVED = "each time it was compared, the platform's count had moved on"


@dataclass(frozen=True, slots=True)
class Decision:
    """complete: proven. incomplete: something is missing. unknown: the platform has no exact count."""

    verdict: str
    expected: int | None
    detail: str


class Seen(NamedTuple):
    """Distinct orders of a stretch: those that the last listing named, and those that were only found singly."""

    listed: int
    singly: int


def seen(tx: Connection, run_id: int, part: Slice, number: int, window: Window | None = None) -> Seen:
    """What was seen of the slice, or of a stretch of it, and has not left it since; when an order was placed does not
    change, so by that none leaves."""
    bounds = window or part.window
    row = tx.execute(
        text(
            "SELECT count(*) FILTER (WHERE pass >= :pass) AS listed,"
            " count(*) FILTER (WHERE pass <= -:pass AND outcome <> 'hidden') AS singly"
            " FROM run_items WHERE run_id = :run AND outcome <> 'removed'"
            " AND (:placed OR updated_at IS NULL OR (updated_at >= :from AND updated_at < :until))"
        ),
        {"run": run_id, "pass": number, "placed": part.by_placed, "from": bounds.from_, "until": bounds.until},
    ).one()
    return Seen(row.listed, row.singly)


_UNLISTED = """
SELECT o.external_id FROM orders o LEFT JOIN run_items i ON i.run_id = :run AND i.external_id = o.external_id
WHERE o.account_id = :account AND o.connection_id = :connection AND o.{column} >= :from AND o.{column} < :until
  AND o.removed_at IS NULL AND o.core_digest IS NOT NULL AND (i.run_id IS NULL OR abs(i.pass) < :pass)
UNION SELECT external_id FROM run_items WHERE run_id = :run AND outcome = 'failed' AND abs(pass) < :pass
  AND (:placed OR (updated_at >= :from AND updated_at < :until))
ORDER BY external_id LIMIT :limit
"""


def unlisted(tx: Connection, taken: Taken, part: Slice, number: int, limit: int) -> list[str]:
    """Orders of the slice that this listing did not name and that were not looked up yet: stored ones that live, and
    what an earlier listing of this run named and could not store."""
    return list(
        tx.execute(
            text(_UNLISTED.replace("{column}", "placed_at" if part.by_placed else "core_updated_at")),
            {"run": taken.id, "account": taken.account_id, "connection": taken.connection_id,
             "from": part.window.from_, "until": part.window.until, "pass": number, "placed": part.by_placed,
             "limit": limit},
        ).scalars()
    )  # fmt: skip


def unsettled(tx: Connection, connection: model.Connection, after: str, limit: int, now: datetime) -> list[str]:
    """Live orders that no read has settled yet and that one would settle now, in the order of their ids.

    What the platform does not show any more, or a part that may not be read now, is not waited for.
    """
    able = REGISTRY[connection.platform].capabilities
    theirs = now - connection.skew
    return list(
        tx.execute(
            # orders_unsettled_idx
            text(
                "SELECT external_id FROM orders WHERE connection_id = :id AND external_id > :after"
                " AND removed_at IS NULL AND core_digest IS NOT NULL"
                " AND (core_settled IS FALSE OR person_settled IS FALSE)"
                " AND (core_settled IS FALSE OR (:person AND erased_at IS NULL)) AND core_updated_at < :before"
                " AND placed_at > :since ORDER BY external_id LIMIT :limit"
            ),
            {"id": connection.id, "after": after, "person": "person" in connection.granted_parts,
             "before": theirs - able.settled_after,
             "since": datetime.min.replace(tzinfo=UTC) if able.look_back is None else theirs - able.look_back,
             "limit": limit},
        ).scalars()
    )  # fmt: skip


def failed_before(tx: Connection, taken: Taken, after: str, limit: int) -> list[str]:
    """The failed orders of the run that this one tries again, in the order of their ids."""
    return list(
        tx.execute(
            text(
                "SELECT external_id FROM run_items WHERE run_id = :parent AND outcome = 'failed'"
                " AND external_id > :after ORDER BY external_id LIMIT :limit"
            ),
            {"parent": taken.parent_id, "after": after, "limit": limit},
        ).scalars()
    )


def of_all(decisions: Sequence[Decision]) -> Decision:
    """One verdict for all slices: the worst of theirs, and the sum of what the platform counted."""
    order = ("incomplete", "unknown", "complete")
    worst = min((decision.verdict for decision in decisions), key=order.index)
    counts = [decision.expected for decision in decisions]
    expected = None if None in counts else sum(count for count in counts if count is not None)
    return Decision(worst, expected, "; ".join(decision.detail for decision in decisions if decision.detail))


def decide(
    seen: Seen, counted: Count | None, number: int, before: int | None, *, once: bool, agrees: bool, is_steady: bool
) -> Decision | None:
    """The verdict, or None to list once more. `before`: what the listing before this one saw, if there was one.

    `agrees`: whether all that is counted was seen; `is_steady`: the count stood still while it was compared, so that
    what it differs by is lost. `once`: where the platform has no count, one listing must do: the next catch-up lists
    its last 15 minutes again, and calls are counted by the day.
    """
    if counted is not None and counted.exact:
        if agrees:
            return Decision("complete", counted.orders, "")
        if number < MAX_PASSES:
            return None
        if not is_steady:
            return Decision("unknown", counted.orders, COUNT_MOVED)
        missing = counted.orders - seen.listed
        return Decision(
            "incomplete", counted.orders, f"the platform counts {counted.orders} orders, {seen.listed} were listed"
            if missing > 0
            else f"the platform counts {counted.orders} orders, fewer than the {seen.listed} it listed",
        )  # fmt: skip
    if once:
        return Decision("unknown", None, LISTED_ONCE)
    if before is not None and before == seen.listed:
        return Decision("complete", None, "")
    return None if number < MAX_PASSES else Decision("unknown", None, "each listing differed from the one before")


def advance_watermark(tx: Connection, taken: Taken, skew: timedelta) -> None:
    """The connection is in step up to the window's end, if the window begins where it was in step before: at its
    watermark, by what is known of the store's clock now, or when it was installed. `skew`: what the window was fixed
    by."""
    tx.execute(
        text(
            "UPDATE connections c SET watermark = :until, watermark_skew_ms = :skew FROM (SELECT id, coalesce("
            "  watermark - greatest(0, :skew - watermark_skew_ms) * interval '1 millisecond',"
            "  date_trunc('second', installed_at - :skew * interval '1 millisecond')) AS in_step FROM connections) AS w"
            " WHERE c.id = :id AND w.id = c.id AND w.in_step >= :from AND w.in_step < :until"
        ),
        {"id": taken.connection_id, "from": taken.window.from_, "until": taken.window.until,
         "skew": int(skew.total_seconds() * 1000)},
    )  # fmt: skip
