"""Sync Order: ask for a run, watch it, read its result, and the runs before."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from flask import Blueprint, Response, abort, redirect, render_template, url_for
from sqlalchemy import Connection, RowMapping
from werkzeug.wrappers import Response as AnyResponse

from backfill import runs
from gateway.connections import model
from gateway.domain.problems import (
    CATALOGUE,
    STORE_NOT_CONNECTED,
    STORE_NOT_FOUND,
    WINDOW_REFUSED,
    GatewayError,
    Problem,
    describe,
)
from gateway.domain.window import CHOICES_DAYS
from gateway.web.formats import date_and_time
from gateway.web.request import now, number, requires, scope, transaction

DEFAULT_DAYS = 7
STOP_POLLING = 286
"""htmx ends its polling at this status, and swaps the answer in all the same."""

FAILED_SHOWN = 200

sync = Blueprint("sync", __name__, url_prefix="/orders/sync")


@sync.get("")
def form() -> str:
    """Choose a store and a range; runs that are on their way and those before."""
    return _form(number("store"), DEFAULT_DAYS, None)


@sync.post("")
@requires("sync")
def start() -> AnyResponse:
    """Ask for the run and go to its page: to the running one's, when the same was asked for before."""
    store_id, days = number("store", form=True), number("days", form=True)
    try:
        with transaction() as tx:
            opened = runs.open_run(tx, scope(), store_id or 0, days or 0)
    except GatewayError as error:
        if error.problem not in (STORE_NOT_FOUND, STORE_NOT_CONNECTED, WINDOW_REFUSED):
            raise
        page = _form(store_id, days or DEFAULT_DAYS, describe(error.problem, dict(error.facts)))
        return Response(page, 404 if error.problem is STORE_NOT_FOUND else 409)
    return redirect(url_for("sync.run", run_id=opened.run_id, again=1 if opened.already_running else None))


@sync.get("/ranges")
def ranges() -> str:
    """What each choice means for the chosen store, by its own clock; a part of the form."""
    with transaction() as tx:
        store = model.get_store(tx, scope(), number("store") or 0)
    if store is None:
        abort(404)
    return render_template("sync_ranges.html", ranges=_ranges(store), store=store)


@sync.get("/<id:run_id>")
def run(run_id: int) -> str:
    """One run: where it is, or what came of it."""
    with transaction() as tx:
        found = _run(tx, run_id)
        recent = runs.recent_runs(tx, scope(), limit=20, store_id=found["connection_id"])
        others = [one for one in recent if one["id"] != run_id]
        return render_template("run.html", runs=others, zone=found["time_zone"], **_facts(tx, found))


@sync.get("/<id:run_id>/progress")
def progress(run_id: int) -> AnyResponse:
    """The moving part of a run's page, asked for each second; the last answer ends the asking."""
    with transaction() as tx:
        found = _run(tx, run_id)
        part = render_template("run_part.html", **_facts(tx, found), is_update=True)
    return Response(part, 200 if _is_open(found) else STOP_POLLING)


def _form(store_id: int | None, days: int, problem: Problem | None) -> str:
    with transaction() as tx:
        stores = model.list_stores(tx, scope())
        recent = runs.recent_runs(tx, scope(), limit=20)
    chosen = next((store for store in stores if store["id"] == store_id), stores[0] if stores else None)
    return render_template(
        "sync.html", stores=stores, chosen=chosen, days=days, problem=problem, choices=CHOICES_DAYS,
        ranges=_ranges(chosen) if chosen else [], runs=recent, result_line=runs.result_line,
        open_runs=[one for one in recent if _is_open(one)],
    )  # fmt: skip


def _run(tx: Connection, run_id: int) -> RowMapping:
    found = runs.get_run(tx, scope(), run_id)
    if found is None:
        abort(404)
    return found


def _facts(tx: Connection, found: RowMapping) -> dict[str, Any]:
    """Everything that a run's page says, also while it moves."""
    failed = runs.run_items(tx, scope(), found["id"], ["failed"], limit=FAILED_SHOWN) if found["failed"] else []
    return {
        "run": found,
        "is_open": _is_open(found),
        "line": runs.result_line(found),
        "failed": failed,
        "asks_for_connection": _asks_for_connection(found),
        "result_line": runs.result_line,
    }


def _is_open(found: RowMapping) -> bool:
    return found["state"] in {"queued", "running"}


def _asks_for_connection(found: RowMapping) -> bool:
    """Whether the run ended because the store's connection did not work."""
    problem = CATALOGUE.get(found["problem"] or "")
    return (
        found["state"] == "stopped"
        and problem is not None
        and problem.code.split(".")[0] in {"connection", "store"}
        and problem.who == "merchant"
    )


def _ranges(store: RowMapping) -> list[tuple[int, str]]:
    """For each choice the stretch of time that a run started now would cover, by the store's clock and zone."""
    until = now() - timedelta(milliseconds=store["skew_ms"])
    shown = []
    for days in CHOICES_DAYS:
        window = runs.window_of_days(days, now(), timedelta(milliseconds=store["skew_ms"]))
        begin = date_and_time(window.from_, store["time_zone"], with_year=True)
        shown.append((days, f"{begin} - {date_and_time(until, store['time_zone'], with_year=True)}"))
    return shown
