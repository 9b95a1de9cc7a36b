"""How runs are written as JSON: by the API, and at the head of a run's report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import marshmallow as ma

from backfill import runs, words
from gateway.orders.schemas import Instant


class CountersSchema(ma.Schema):
    """listed = created + updated + unchanged + newer_here + failed + hidden + removed."""

    listed = ma.fields.Integer()
    created = ma.fields.Integer()
    updated = ma.fields.Integer()
    unchanged = ma.fields.Integer()
    newer_here = ma.fields.Integer()
    failed = ma.fields.Integer()
    removed = ma.fields.Integer()
    hidden = ma.fields.Integer()
    missed = ma.fields.Integer(metadata={"description": "what no webhook had brought"})
    sampled = ma.fields.Integer(metadata={"description": "equal by their heads, and read in full all the same"})
    drifted = ma.fields.Integer(metadata={"description": "those of the sampled that differed"})


class GapSchema(ma.Schema):
    """A stretch of updated time, one second where the looking reached so far, of which more is counted than listed."""

    window_from = Instant()
    window_until = Instant(metadata={"description": "exclusive"})
    counted = ma.fields.Integer()
    listed = ma.fields.Integer()


class RunSchema(ma.Schema):
    id = ma.fields.Integer()
    store_id = ma.fields.Integer(attribute="connection_id")
    kind = ma.fields.String(
        metadata={
            "description": "manual, preview (tells and writes nothing), retry (the failed orders of parent_id),"
            " catch_up (by schedule) or settle (nightly: what no read has confirmed)"
        }
    )
    days = ma.fields.Integer(allow_none=True)
    deep = ma.fields.Boolean(metadata={"description": "every order is read in full"})
    quiet = ma.fields.Boolean(metadata={"description": "what it changes is not announced in the change feed"})
    parent_id = ma.fields.Integer(allow_none=True, metadata={"description": "the run whose failed orders it retries"})
    window_from = Instant()
    window_until = Instant(metadata={"description": "exclusive; by the platform's clock, on an order's updated time"})
    state = ma.fields.String(metadata={"description": "queued, running, finished or stopped"})
    stage = ma.fields.String(metadata={"description": "listing or checking"})
    waits_for = ma.fields.Integer(allow_none=True, metadata={"description": "the run that goes first"})
    waiting_until = Instant()
    verdict = ma.fields.String(allow_none=True, metadata={"description": "complete, incomplete or unknown"})
    gaps = ma.fields.List(
        ma.fields.Nested(GapSchema), metadata={"description": "where an incomplete run's count and list part"}
    )
    verdict_detail = ma.fields.String(allow_none=True, metadata={"description": "why it is not complete"})
    result = ma.fields.String(allow_none=True, metadata={"description": "the line that merchants know; no preview's"})
    problem = ma.fields.String(allow_none=True, metadata={"description": "why it waits or was stopped: a code"})
    problem_detail = ma.fields.String(allow_none=True)
    expected = ma.fields.Integer(allow_none=True, metadata={"description": "the platform's own count"})
    counters = ma.fields.Nested(CountersSchema)
    requested_by = ma.fields.String(attribute="requested_by_email", allow_none=True)
    created_at = Instant()
    started_at = Instant()
    finished_at = Instant()
    items_dropped_at = Instant(metadata={"description": "since when its report on single orders is no longer kept"})


class ReportLineSchema(ma.Schema):
    """What a run did with one order, and why."""

    external_id = ma.fields.String(metadata={"description": "the platform's id of the order"})
    order_number = ma.fields.String(allow_none=True)
    outcome = ma.fields.String(
        metadata={"description": "created, updated, unchanged, newer_here, failed, removed or hidden"}
    )
    updated_at = Instant(metadata={"description": "by the platform"})
    reason_code = ma.fields.String(allow_none=True)
    reason_title = ma.fields.String(allow_none=True)
    reason_detail = ma.fields.String(allow_none=True)


class ReportSchema(ma.Schema):
    run = ma.fields.Nested(RunSchema)
    orders = ma.fields.List(ma.fields.Nested(ReportLineSchema))


def as_shown(run: Mapping[Any, Any]) -> dict[str, Any]:
    """A run's row as RunSchema reads it."""
    is_over = run["state"] == "finished"
    return {
        **run,
        "counters": run,
        "result": runs.result_line(run),
        "waits_for": run["waits_for"] if run["state"] == "queued" else None,
        # One column holds both: a finished run has no problem, and no other one a verdict.
        "verdict_detail": run["problem_detail"] or None if is_over else None,
        "problem_detail": None if is_over else run["problem_detail"],
        "gaps": words.gaps_of(run),
    }
