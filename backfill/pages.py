"""Sync Order: ask for a run, watch it, stop it, read its result and its report, and the runs before."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from flask import (
    Blueprint,
    Response,
    abort,
    current_app,
    redirect,
    render_template,
    request,
    stream_with_context,
    url_for,
)
from sqlalchemy import Connection, RowMapping
from werkzeug.wrappers import Response as AnyResponse

from backfill import history, report, runs, words
from gateway.connections import model
from gateway.db.engine import Database
from gateway.domain.problems import (
    CATALOGUE,
    RUN_NOT_RESUMED,
    STORE_NOT_CONNECTED,
    STORE_NOT_FOUND,
    WINDOW_REFUSED,
    GatewayError,
    Problem,
    Refused,
    describe,
)
from gateway.domain.window import CHOICES_DAYS
from gateway.web import wording
from gateway.web.formats import common_zone, span
from gateway.web.request import now, number, requires, scope, transaction

DEFAULT_DAYS = 7
STOP_POLLING = 286
"""htmx ends its polling at this status, and swaps the answer in all the same."""

PAGE_SIZE = 50
ITEMS_SHOWN = 200
ALL = "all"
OPEN_SHOWN = 20
MOST_TOGETHER = 300
"""Runs that one address can name: it must fit a request's first line (4 KB)."""

sync = Blueprint("sync", __name__, url_prefix="/orders/sync")


@sync.context_processor
def _words() -> dict[str, Any]:
    return {"title_of": words.title, "foreseen": words.foreseen, "caught_up": words.caught_up,
            "result_line": runs.result_line, "is_on_its_way": _is_open}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wish:
    """What a filled-in form asks for. `store_id` None: all stores. `quiet` None: quiet for a store's first sync."""

    store_id: int | None
    days: int
    deep: bool = False
    quiet: bool | None = None
    is_preview: bool = False

    @classmethod
    def of_form(cls) -> Wish:
        quiet = {"yes": False, "no": True}.get(request.form.get("announce", ""))
        store_id = None if request.form.get("store") == ALL else number("store", form=True) or 0
        return cls(store_id, number("days", form=True) or 0, "deep" in request.form, quiet, "preview" in request.form)


# --- asking ----------------------------------------------------------------------------------------------------
@sync.get("")
def form() -> str:
    """Choose a store and a range; runs that are on their way and those before."""
    return _form(Wish(number("store") or 0, DEFAULT_DAYS), None)


@sync.post("")
@requires("sync")
def start() -> AnyResponse:
    """Ask for the run and go to its page: to the running one's, when the same was asked for before."""
    wish = Wish.of_form()
    options: dict[str, Any] = {"deep": wish.deep, "preview": wish.is_preview, "quiet": wish.quiet}
    try:
        with transaction() as tx:
            if wish.store_id is None:
                opened = runs.open_for_all(tx, scope(), wish.days, **options)
            else:
                opened = [runs.open_run(tx, scope(), wish.store_id, wish.days, **options)]
    except GatewayError as error:
        if error.problem not in (STORE_NOT_FOUND, STORE_NOT_CONNECTED, WINDOW_REFUSED):
            raise
        page = _form(wish, describe(error.problem, dict(error.facts)))
        return Response(page, 404 if error.problem is STORE_NOT_FOUND else 409)
    if wish.store_id is None:
        return redirect(url_for("sync.together", runs=",".join(str(one.run_id) for one in opened[:MOST_TOGETHER])))
    return redirect(url_for("sync.run", run_id=opened[0].run_id, again=1 if opened[0].already_running else None))


@sync.get("/ranges")
def ranges() -> str:
    """What each choice means for the chosen store, by its own clock; a part of the form."""
    with transaction() as tx:
        stores = model.list_stores(tx, scope())
    if request.args.get("store") == ALL:
        return render_template("sync_ranges.html", **_range_facts(stores, None))
    chosen = next((store for store in stores if store["id"] == number("store")), None)
    if chosen is None:
        abort(404)
    return render_template("sync_ranges.html", **_range_facts(stores, chosen))


def _form(wish: Wish, problem: Problem | None) -> str:
    with transaction() as tx:
        stores = model.list_stores(tx, scope())
        recent = history.worth_telling(tx, scope())
        asked_for = [one for one in history.on_their_way(tx, scope()) if one["kind"] not in runs.BY_ITSELF]
    chosen = None
    if wish.store_id is not None:
        # Without a choice the first one that can be synchronised.
        by_rank = sorted(stores, key=lambda store: (store["id"] != wish.store_id, store["state"] == "disconnected"))
        chosen = by_rank[0] if by_rank else None
    return render_template(
        "sync.html", stores=stores, wish=wish, days=wish.days or DEFAULT_DAYS, problem=problem,
        runs=recent, open_runs=asked_for[:OPEN_SHOWN], **_range_facts(stores, chosen),
    )  # fmt: skip


def _range_facts(stores: list[RowMapping], chosen: RowMapping | None) -> dict[str, Any]:
    """What the choices mean for the chosen store, None: for all, and what can't be found there."""
    looked_at = stores if chosen is None else [chosen]
    return {
        "chosen": chosen,
        "ranges": _ranges(chosen) if chosen else [],
        "choices": CHOICES_DAYS,
        "walls": list(dict.fromkeys(wall for store in looked_at if (wall := words.wall_of(store)))),
    }


def _ranges(store: RowMapping) -> list[tuple[int, str]]:
    """For each choice the stretch of time that a run started now would cover, by the store's clock and zone."""
    shown = []
    for days in CHOICES_DAYS:
        window = runs.window_of_days(days, now(), timedelta(milliseconds=store["skew_ms"]))
        shown.append((days, span(window.from_, window.until, store["time_zone"])))
    return shown


# --- one run ---------------------------------------------------------------------------------------------------
@sync.get("/<id:run_id>")
def run(run_id: int) -> str:
    """One run: where it is, or what came of it."""
    with transaction() as tx:
        found = _run(tx, run_id)
        recent = history.worth_telling(tx, scope(), store_id=found["connection_id"])
        others = [one for one in recent if one["id"] != run_id]
        return render_template("run.html", runs=others, zone=found["time_zone"], **_facts(tx, found))


@sync.get("/<id:run_id>/progress")
def progress(run_id: int) -> AnyResponse:
    """The moving part of a run's page, asked for each second; the last answer ends the asking."""
    with transaction() as tx:
        found = _run(tx, run_id)
        part = render_template("run_part.html", **_facts(tx, found), is_update=True)
    return Response(part, 200 if _is_open(found) else STOP_POLLING)


@sync.post("/<id:run_id>/stop")
@requires("sync")
def stop(run_id: int) -> AnyResponse:
    """Stop it where it stands; one that is over already stays as it is."""
    with transaction() as tx:
        runs.stop(tx, scope(), run_id)
    return redirect(url_for("sync.run", run_id=run_id), 303)


@sync.post("/<id:run_id>/resume")
@requires("sync")
def resume(run_id: int) -> AnyResponse:
    """Let it go on from where it stopped."""
    with transaction() as tx:
        if not runs.resume(tx, scope(), run_id) and not _is_open(_run(tx, run_id)):
            raise Refused(RUN_NOT_RESUMED, str(run_id))
    return redirect(url_for("sync.run", run_id=run_id), 303)


@sync.post("/<id:run_id>/retry-failed")
@requires("sync")
def retry_failed(run_id: int) -> AnyResponse:
    """Ask again for the orders that failed, by a run of their own."""
    with transaction() as tx:
        opened = runs.retry_failed(tx, scope(), run_id)
    return redirect(url_for("sync.run", run_id=opened.run_id, again=1 if opened.already_running else None), 303)


@sync.get("/<id:run_id>/report.csv")
def report_csv(run_id: int) -> Response:
    """Each order with its outcome and reason, for a spreadsheet."""
    return report_answer(run_id, "csv")


@sync.get("/<id:run_id>/report.json")
def report_json(run_id: int) -> Response:
    """The same for programs."""
    return report_answer(run_id, "json")


def report_answer(run_id: int, form: str) -> Response:
    """The report as a download, written while it is read; 404 when the account has no such run, and a Problem when
    it is no longer kept."""
    database: Database = current_app.extensions["database"]
    with transaction() as tx:
        found = _run(tx, run_id)
    report.check_kept(found)
    write = report.as_csv if form == "csv" else report.as_json
    answer = Response(stream_with_context(write(database, scope(), found)))
    answer.content_type = "text/csv; charset=utf-8" if form == "csv" else "application/json"
    answer.headers["Content-Disposition"] = f'attachment; filename="{report.file_name(found, form)}"'
    return answer


def _run(tx: Connection, run_id: int) -> RowMapping:
    found = runs.get_run(tx, scope(), run_id)
    if found is None:
        abort(404)
    return found


def _facts(tx: Connection, found: RowMapping) -> dict[str, Any]:
    """Everything that a run's page says, also while it moves."""
    is_over = found["state"] == "finished"
    told = ("failed",) if _is_open(found) else ("failed", "hidden", "removed")
    items = {
        outcome: runs.run_items(tx, scope(), found["id"], [outcome], limit=ITEMS_SHOWN)
        for outcome in told
        if found[outcome]
    }
    return {
        "run": found,
        "problem": words.why(found),
        "line": runs.result_line(found) or words.foreseen(found),
        "items": items,
        "proof": words.proof(found) if is_over else [],
        "out_of_sight": words.out_of_sight(found),
        "parent": runs.get_run(tx, scope(), found["parent_id"]) if found["parent_id"] else None,
        "retries": history.retries(tx, scope(), found["id"]) if is_over and found["failed"] else [],
        "asks_for_connection": _asks_for_connection(found),
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


# --- several runs ----------------------------------------------------------------------------------------------
@sync.get("/together")
def together() -> str:
    """The runs of one click on All stores: one line of progress each."""
    return render_template("sync_together.html", **_together())


@sync.get("/together/progress")
def together_progress() -> AnyResponse:
    """Its moving part; the last answer ends the asking."""
    facts = _together()
    part = render_template("sync_together_part.html", **facts, is_update=True)
    return Response(part, 200 if facts["open_count"] else STOP_POLLING)


def _together() -> dict[str, Any]:
    given = request.args.get("runs", "").split(",")[:MOST_TOGETHER]
    ids = [int(one) for one in given if one.isascii() and one.isdecimal() and len(one) <= 18]
    with transaction() as tx:
        found = history.by_ids(tx, scope(), ids)
        left_out = [store for store in model.list_stores(tx, scope()) if store["state"] == "disconnected"]
    if not found and not left_out:
        abort(404)
    return {
        "runs": found,
        "left_out": left_out,
        "open_count": sum(_is_open(one) for one in found),
        "ids": ",".join(str(one["id"]) for one in found),
    }


@sync.get("/history")
def all_runs() -> str:
    """Every run, newest first, narrowed by store and kind."""
    given = request.args.get("kind")
    store_id, kind = number("store"), given if given in wording.RUN_KIND else None
    chosen = {"store": store_id, "kind": kind}
    with transaction() as tx:
        stores = model.list_stores(tx, scope())
        rows = history.page(tx, scope(), store_id=store_id, kind=kind, before=number("before"), limit=PAGE_SIZE + 1)
    more, rows = len(rows) > PAGE_SIZE, rows[:PAGE_SIZE]
    shown = [store for store in stores if store_id in (None, store["id"])]
    return render_template(
        "sync_history.html", runs=rows, stores=stores, chosen=chosen, zone=common_zone(shown),
        newest=_address(chosen) if request.args.get("before") else None,
        older=_address({**chosen, "before": rows[-1]["id"]}) if more else None,
    )  # fmt: skip


def _address(values: dict[str, Any]) -> str:
    return url_for("sync.all_runs", **{name: value for name, value in values.items() if value})
