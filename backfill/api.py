"""The API's part about sync runs."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from flask import Response, abort
from sqlalchemy import Connection, RowMapping

from backfill import history, runs
from backfill.pages import report_answer
from backfill.schemas import ReportSchema, RunSchema, as_shown
from gateway.domain.problems import RUN_NOT_RESUMED, Refused
from gateway.domain.window import CHOICES_DAYS
from gateway.web.api_frame import MAX_ID, PageArguments, blueprint, number_cursor
from gateway.web.request import requires, scope, transaction
from gateway.web.wording import problem_of

FAILED_LISTED = 200

sync_runs_api = blueprint("sync_runs_api", "Sync Order: ask for runs, and read what came of them.")


class NewRunsSchema(ma.Schema):
    days = ma.fields.Integer(required=True, strict=True, validate=ma.validate.OneOf(CHOICES_DAYS))
    deep = ma.fields.Boolean(load_default=False, metadata={"description": "read every order in full"})
    quiet = ma.fields.Boolean(
        load_default=None, allow_none=True,
        metadata={"description": "do not announce in the change feed what it changes; null: only a store's first sync"
                  " is quiet"},
    )  # fmt: skip
    preview = ma.fields.Boolean(
        load_default=False, metadata={"description": "tell how many would be added, updated and left; write nothing"}
    )


class NewRunSchema(NewRunsSchema):
    store_id = ma.fields.Integer(required=True, strict=True, validate=ma.validate.Range(1, MAX_ID))


class RunArguments(PageArguments):
    store_id = ma.fields.Integer(load_default=None, validate=ma.validate.Range(1, MAX_ID))
    kind = ma.fields.String(load_default=None, validate=ma.validate.OneOf(history.KINDS))


class ReportArguments(ma.Schema):
    class Meta:
        unknown = ma.EXCLUDE

    format = ma.fields.String(load_default="json", validate=ma.validate.OneOf(["json", "csv"]))


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
    failed_items = ma.fields.List(
        ma.fields.Nested(FailedItemSchema), metadata={"description": f"the first {FAILED_LISTED}; the report has all"}
    )
    retries = ma.fields.List(
        ma.fields.Integer(), metadata={"description": "the runs that tried its failed orders again"}
    )


class RunPageSchema(ma.Schema):
    sync_runs = ma.fields.List(ma.fields.Nested(RunSchema))
    next_cursor = ma.fields.String(allow_none=True)


class RunsSchema(ma.Schema):
    sync_runs = ma.fields.List(ma.fields.Nested(RunSchema))


# --- asking ----------------------------------------------------------------------------------------------------
@sync_runs_api.post("/sync-runs")
@sync_runs_api.arguments(NewRunSchema)
@sync_runs_api.response(202, RunSchema)
@sync_runs_api.alt_response(200, schema=RunSchema, description="the same was asked for before; this is that run")
@requires("sync")
def start_run(wanted: dict[str, Any]) -> Any:
    """Ask for a Sync Order of a store."""
    with transaction() as tx:
        opened = runs.open_run(
            tx, scope(), wanted["store_id"], wanted["days"], deep=wanted["deep"], preview=wanted["preview"],
            quiet=wanted["quiet"],
        )  # fmt: skip
        return as_shown(_run(tx, opened.run_id)), 200 if opened.already_running else 202


@sync_runs_api.post("/sync-runs/all-stores")
@sync_runs_api.arguments(NewRunsSchema)
@sync_runs_api.response(202, RunsSchema)
@requires("sync")
def start_all(wanted: dict[str, Any]) -> dict[str, Any]:
    """Ask for a Sync Order of each connected store: one run a store, also where the same was asked for before."""
    with transaction() as tx:
        opened = runs.open_for_all(
            tx, scope(), wanted["days"], deep=wanted["deep"], preview=wanted["preview"], quiet=wanted["quiet"]
        )
        found = history.by_ids(tx, scope(), [one.run_id for one in opened])
    return {"sync_runs": [as_shown(row) for row in found]}


@sync_runs_api.post("/sync-runs/<id:run_id>/stop")
@sync_runs_api.response(200, RunSchema)
@requires("sync")
def stop_run(run_id: int) -> dict[str, Any]:
    """Stop a run where it stands; what it did stays done. One that is over already is given as it is."""
    with transaction() as tx:
        runs.stop(tx, scope(), run_id)
        return as_shown(_run(tx, run_id))


@sync_runs_api.post("/sync-runs/<id:run_id>/resume")
@sync_runs_api.response(202, RunSchema)
@requires("sync")
def resume_run(run_id: int) -> dict[str, Any]:
    """Let a stopped run go on from where it stopped; one that is on its way is given as it is."""
    with transaction() as tx:
        resumed = runs.resume(tx, scope(), run_id)
        found = _run(tx, run_id)
    if not resumed and found["state"] not in ("queued", "running"):
        raise Refused(RUN_NOT_RESUMED, str(run_id))
    return as_shown(found)


@sync_runs_api.post("/sync-runs/<id:run_id>/retry-failed")
@sync_runs_api.response(202, RunSchema)
@sync_runs_api.alt_response(200, schema=RunSchema, description="a retry is on its way already; this is that run")
@requires("sync")
def retry_failed(run_id: int) -> Any:
    """Ask again for the orders that failed in a finished run, by a run of their own; its counters never change."""
    with transaction() as tx:
        opened = runs.retry_failed(tx, scope(), run_id)
        return as_shown(_run(tx, opened.run_id)), 200 if opened.already_running else 202


# --- reading ---------------------------------------------------------------------------------------------------
@sync_runs_api.get("/sync-runs")
@sync_runs_api.arguments(RunArguments, location="query")
@sync_runs_api.response(200, RunPageSchema)
def list_runs(arguments: dict[str, Any]) -> dict[str, Any]:
    """Runs, newest first."""
    limit, before = arguments["limit"], number_cursor(arguments["cursor"])
    with transaction() as tx:
        rows = history.page(
            tx, scope(), store_id=arguments["store_id"], kind=arguments["kind"], before=before, limit=limit + 1
        )
    following = str(rows[limit - 1]["id"]) if len(rows) > limit else None
    return {"sync_runs": [as_shown(row) for row in rows[:limit]], "next_cursor": following}


@sync_runs_api.get("/sync-runs/<id:run_id>")
@sync_runs_api.response(200, RunDetailSchema)
def get_run(run_id: int) -> dict[str, Any]:
    """One run, with the orders that failed and why."""
    with transaction() as tx:
        found = _run(tx, run_id)
        failed = runs.run_items(tx, scope(), run_id, ["failed"], limit=FAILED_LISTED)
        retries = history.retries(tx, scope(), run_id)
    return {
        **as_shown(found),
        "failed_items": [_failed(item) for item in failed],
        "retries": [one["id"] for one in retries],
    }


@sync_runs_api.get("/sync-runs/<id:run_id>/report")
@sync_runs_api.arguments(ReportArguments, location="query")
@sync_runs_api.response(200, ReportSchema, description="with format=csv the orders alone, as text/csv")
def get_report(arguments: dict[str, Any], run_id: int) -> Response:
    """Each order of a run with its outcome and reason; written while it is read, however many there are."""
    return report_answer(run_id, arguments["format"])


def _run(tx: Connection, run_id: int) -> RowMapping:
    found = runs.get_run(tx, scope(), run_id)
    if found is None:
        abort(404)
    return found


def _failed(item: RowMapping) -> dict[str, Any]:
    why = problem_of(item["problem"], item["problem_detail"])
    told = {"code": why.code, "title": why.title, "cause": why.cause, "fix": why.fix} if why else {}
    return {
        "external_id": item["external_id"],
        "order_id": item["order_id"],
        "detail": item["problem_detail"],
        **told,
    }
