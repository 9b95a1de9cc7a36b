"""The API's part about sync runs."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from flask import abort
from sqlalchemy import RowMapping

from backfill import runs
from gateway.domain.window import CHOICES_DAYS
from gateway.orders.schemas import Instant
from gateway.web.api_frame import MAX_ID, PageArguments, blueprint
from gateway.web.request import requires, scope, transaction
from gateway.web.wording import problem_of

FAILED_LISTED = 200

sync_runs_api = blueprint("sync_runs_api", "Sync Order: ask for runs, and read what came of them.")


class NewRunSchema(ma.Schema):
    store_id = ma.fields.Integer(required=True, strict=True, validate=ma.validate.Range(1, MAX_ID))
    days = ma.fields.Integer(required=True, strict=True, validate=ma.validate.OneOf(CHOICES_DAYS))


class RunArguments(PageArguments):
    class Meta:
        unknown = ma.EXCLUDE
        exclude = ("cursor",)

    store_id = ma.fields.Integer(load_default=None, validate=ma.validate.Range(1, MAX_ID))


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


class RunSchema(ma.Schema):
    id = ma.fields.Integer()
    store_id = ma.fields.Integer(attribute="connection_id")
    kind = ma.fields.String(metadata={"description": "manual or catch_up"})
    days = ma.fields.Integer(allow_none=True)
    window_from = Instant()
    window_until = Instant(metadata={"description": "exclusive; by the platform's clock, on an order's updated time"})
    state = ma.fields.String(metadata={"description": "queued, running, finished or stopped"})
    waits_for = ma.fields.Integer(allow_none=True, metadata={"description": "the run that goes first"})
    waiting_until = Instant()
    verdict = ma.fields.String(allow_none=True, metadata={"description": "complete, incomplete or unknown"})
    result = ma.fields.String(allow_none=True, metadata={"description": "the line that merchants know"})
    problem = ma.fields.String(allow_none=True)
    expected = ma.fields.Integer(allow_none=True, metadata={"description": "the platform's own count"})
    counters = ma.fields.Nested(CountersSchema)
    requested_by = ma.fields.String(attribute="requested_by_email", allow_none=True)
    created_at = Instant()
    started_at = Instant()
    finished_at = Instant()


class FailedItemSchema(ma.Schema):
    """An order that could not be saved, and why."""

    external_id = ma.fields.String()
    order_id = ma.fields.Integer(allow_none=True)
    code = ma.fields.String(allow_none=True)
    title = ma.fields.String(allow_none=True)
    cause = ma.fields.String(allow_none=True)
    fix = ma.fields.String(allow_none=True)
    detail = ma.fields.String(allow_none=True)


class RunDetailSchema(RunSchema):
    failed_items = ma.fields.List(ma.fields.Nested(FailedItemSchema))


class RunListSchema(ma.Schema):
    sync_runs = ma.fields.List(ma.fields.Nested(RunSchema))


@sync_runs_api.get("/sync-runs")
@sync_runs_api.arguments(RunArguments, location="query")
@sync_runs_api.response(200, RunListSchema)
def list_runs(arguments: dict[str, Any]) -> dict[str, Any]:
    """The latest runs, newest first."""
    with transaction() as tx:
        rows = runs.recent_runs(tx, scope(), limit=arguments["limit"], store_id=arguments["store_id"])
    return {"sync_runs": [_shown(row) for row in rows]}


@sync_runs_api.post("/sync-runs")
@sync_runs_api.arguments(NewRunSchema)
@sync_runs_api.response(202, RunSchema)
@sync_runs_api.alt_response(200, schema=RunSchema, description="the same was asked for before; this is that run")
@requires("sync")
def start_run(wanted: dict[str, Any]) -> Any:
    """Ask for a Sync Order of a store."""
    with transaction() as tx:
        opened = runs.open_run(tx, scope(), wanted["store_id"], wanted["days"])
        found = runs.get_run(tx, scope(), opened.run_id)
    assert found is not None
    return _shown(found), 200 if opened.already_running else 202


@sync_runs_api.get("/sync-runs/<id:run_id>")
@sync_runs_api.response(200, RunDetailSchema)
def get_run(run_id: int) -> dict[str, Any]:
    """One run, with the orders that failed and why."""
    with transaction() as tx:
        found = runs.get_run(tx, scope(), run_id)
        if found is None:
            abort(404)
        failed = runs.run_items(tx, scope(), run_id, ["failed"], limit=FAILED_LISTED)
    return {**_shown(found), "failed_items": [_failed(item) for item in failed]}


def _shown(run: RowMapping) -> dict[str, Any]:
    waits = run["waits_for"] if run["state"] == "queued" else None
    return {**run, "counters": run, "result": runs.result_line(run), "waits_for": waits}


def _failed(item: RowMapping) -> dict[str, Any]:
    why = problem_of(item["problem"], item["problem_detail"])
    told = {"code": why.code, "title": why.title, "cause": why.cause, "fix": why.fix} if why else {}
    return {
        "external_id": item["external_id"],
        "order_id": item["order_id"],
        "detail": item["problem_detail"],
        **told,
    }
