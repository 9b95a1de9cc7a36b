"""`flask sync …`: start a Sync Order, look at it, stop it, take it up again and fetch its report, from a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import IO, ParamSpec, TypeVar

import click
from flask import current_app
from flask.cli import AppGroup
from flask_babel import force_locale
from sqlalchemy import Connection, text

from backfill import report as reports
from backfill import runs, words
from gateway.connections.access import Access
from gateway.domain.problems import RUN_NOT_RESUMED, GatewayError, Refused, describe
from gateway.domain.scope import AccountScope

P = ParamSpec("P")
R = TypeVar("R")

ENGLISH = "en_GB"
ASKED_EVERY_SECONDS = 0.5

sync = AppGroup("sync", help="Sync Order from the command line.")


def _in_words(command: Callable[P, R]) -> Callable[P, R]:
    """Sentences need a language, which no browser names here; a Problem ends the command with what to do."""

    @wraps(command)
    def told(*args: P.args, **kwargs: P.kwargs) -> R:
        with force_locale(ENGLISH):
            try:
                return command(*args, **kwargs)
            except GatewayError as error:
                problem = describe(error.problem, {"why": error.detail, **error.facts})
                raise click.ClickException(f"{problem.title}. {problem.cause} {problem.fix}") from None

    return told


def _access() -> Access:
    access: Access = current_app.extensions["access"]
    return access


@contextmanager
def _transaction() -> Iterator[Connection]:
    with _access().database.transaction() as tx:
        yield tx


def _scope_of_store(store_id: int) -> AccountScope:
    with _transaction() as tx:
        account = tx.execute(text("SELECT account_id FROM connections WHERE id = :id"), {"id": store_id}).scalar()
    if account is None:
        raise click.ClickException(f"There is no store {store_id}. See: flask stores list --account NAME")
    return AccountScope(int(account))


def _scope_of_account(name: str | None) -> AccountScope:
    with _transaction() as tx:
        found = tx.execute(
            text("SELECT id FROM accounts WHERE CAST(:name AS text) IS NULL OR name = :name LIMIT 2"), {"name": name}
        ).scalars().all()  # fmt: skip
    if name is None and len(found) > 1:
        raise click.UsageError("There are several accounts: say whose stores with --account NAME.")
    if not found:
        raise click.ClickException(f"There is no account {name}." if name else "There is no account yet.")
    return AccountScope(int(found[0]))


def _scope_of_run(run_id: int) -> AccountScope:
    with _transaction() as tx:
        account = tx.execute(text("SELECT account_id FROM sync_runs WHERE id = :id"), {"id": run_id}).scalar()
    if account is None:
        raise click.ClickException(f"There is no run {run_id}.")
    return AccountScope(int(account))


@sync.command("start")
@click.argument("store_id", type=int, required=False)
@click.option("--all", "all_stores", is_flag=True, help="one run for each connected store, instead of STORE_ID")
@click.option("--account", help="whose stores, with --all; not needed where there is one account")
@click.option("--days", type=int, default=7, show_default=True, help="7, 14, 30 or 60")
@click.option("--deep", is_flag=True, help="read every order in full: slower, finds what moved no date")
@click.option("--preview", is_flag=True, help="tell what would change, write nothing")
@click.option("--quiet/--announce", default=None, help="whether the change feed is spared  [default: first sync only]")
@click.option("--wait/--no-wait", default=True, help="wait for the result line")
@_in_words
def start(
    store_id: int | None,
    all_stores: bool,
    account: str | None,
    days: int,
    deep: bool,
    preview: bool,
    quiet: bool | None,
    wait: bool,
) -> None:
    """Ask for a Sync Order of STORE_ID, or of all stores, and print the result line of each."""
    if (store_id is None) != all_stores:
        raise click.UsageError("Name a store, or --all.")
    scope = _scope_of_account(account) if store_id is None else _scope_of_store(store_id)
    with _transaction() as tx:
        if store_id is None:
            opened = runs.open_for_all(tx, scope, days, deep=deep, preview=preview, quiet=quiet)
        else:
            opened = [runs.open_run(tx, scope, store_id, days, deep=deep, preview=preview, quiet=quiet)]
    if not opened:
        raise click.ClickException("No store of this account is connected.")
    for one in opened:
        if one.already_running:
            click.echo(f"Run {one.run_id} of this store and window is already there.")
    _follow(scope, [one.run_id for one in opened], wait=wait, named=store_id is None)


@sync.command("status")
@click.argument("run_id", type=int)
@_in_words
def status(run_id: int) -> None:
    """How far RUN_ID is, or its result line."""
    _show(_scope_of_run(run_id), run_id, progress=True)


@sync.command("stop")
@click.argument("run_id", type=int)
@_in_words
def stop(run_id: int) -> None:
    """Stop RUN_ID where it stands; what it did stays done."""
    scope = _scope_of_run(run_id)
    with _transaction() as tx:
        stopped = runs.stop(tx, scope, run_id)
    click.echo(f"Run {run_id} is stopped. Go on with: flask sync resume {run_id}" if stopped
               else f"Run {run_id} was over already.")  # fmt: skip


@sync.command("resume")
@click.argument("run_id", type=int)
@click.option("--wait/--no-wait", default=True, help="wait for the result line")
@_in_words
def resume(run_id: int, wait: bool) -> None:
    """Let RUN_ID go on from where it stopped."""
    scope = _scope_of_run(run_id)
    with _transaction() as tx:
        if not runs.resume(tx, scope, run_id):
            raise Refused(RUN_NOT_RESUMED, str(run_id))
    _follow(scope, [run_id], wait=wait)


@sync.command("retry")
@click.argument("run_id", type=int)
@click.option("--wait/--no-wait", default=True, help="wait for the result line")
@_in_words
def retry(run_id: int, wait: bool) -> None:
    """Ask again for the orders that failed in RUN_ID, by a run of their own."""
    scope = _scope_of_run(run_id)
    with _transaction() as tx:
        opened = runs.retry_failed(tx, scope, run_id)
    _follow(scope, [opened.run_id], wait=wait)


@sync.command("report")
@click.argument("run_id", type=int)
@click.option("--format", "form", type=click.Choice(["csv", "json"]), default="csv", show_default=True)
@click.option("--output", type=click.File("w", encoding="utf-8", lazy=False), default="-", help="a file; default: here")
@_in_words
def report(run_id: int, form: str, output: IO[str]) -> None:
    """Each order of RUN_ID with its outcome and reason."""
    scope = _scope_of_run(run_id)
    with _transaction() as tx:
        found = runs.get_run(tx, scope, run_id)
    assert found is not None
    reports.check_kept(found)
    write = reports.as_csv if form == "csv" else reports.as_json
    for part in write(_access().database, scope, found):
        output.write(part)


def _follow(scope: AccountScope, run_ids: list[int], *, wait: bool, named: bool = False) -> None:
    """Print each run's number, or wait and print its result line; exit with 1 when one was stopped."""
    if not wait:
        for run_id in run_ids:
            click.echo(f"run {run_id}")
        return
    states = []
    for run_id in run_ids:
        while (state := _show(scope, run_id, named=named)) not in ("finished", "stopped"):
            time.sleep(ASKED_EVERY_SECONDS)
        states.append(state)
    raise SystemExit(1 if "stopped" in states else 0)


def _show(scope: AccountScope, run_id: int, *, progress: bool = False, named: bool = False) -> str:
    with _transaction() as tx:
        run = runs.get_run(tx, scope, run_id)
    assert run is not None
    state = str(run["state"])
    if named and state in ("finished", "stopped"):
        click.echo(f"{run['store_name']} ({run['platform']}):")
    if (line := runs.result_line(run)) is not None:
        click.echo(line)
        others = ("unchanged", "newer_here", "removed", "hidden")
        click.echo(", ".join(f"{name.replace('_', ' ')} {run[name]}" for name in others))
        for sentence in words.proof(run) if run["verdict"] != "complete" else []:
            click.echo(sentence)
    elif (foreseen := words.foreseen(run)) is not None:
        click.echo(foreseen)
    elif state == "stopped":
        problem = words.why(run)
        click.echo(f"Stopped. {problem.title}. {problem.fix}" if problem else "Stopped.")
    elif progress:
        click.echo(f"{state}: {run['listed']} orders so far")
    return state
