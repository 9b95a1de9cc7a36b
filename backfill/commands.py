"""`flask sync …`: start a Sync Order, look at it, from a terminal."""

from __future__ import annotations

import time

import click
from flask import current_app
from flask.cli import AppGroup
from sqlalchemy import text

from backfill import runs
from gateway.connections.access import Access
from gateway.domain.problems import CATALOGUE, GatewayError, describe
from gateway.domain.scope import AccountScope

sync = AppGroup("sync", help="Sync Order from the command line.")


def _access() -> Access:
    access: Access = current_app.extensions["access"]
    return access


def _scope_of_store(access: Access, store_id: int) -> AccountScope:
    with access.database.transaction() as tx:
        account = tx.execute(text("SELECT account_id FROM connections WHERE id = :id"), {"id": store_id}).scalar()
    if account is None:
        raise click.ClickException(f"There is no store {store_id}. See: flask stores list --account NAME")
    return AccountScope(int(account))


def _scope_of_run(access: Access, run_id: int) -> AccountScope:
    with access.database.transaction() as tx:
        account = tx.execute(text("SELECT account_id FROM sync_runs WHERE id = :id"), {"id": run_id}).scalar()
    if account is None:
        raise click.ClickException(f"There is no run {run_id}.")
    return AccountScope(int(account))


@sync.command("start")
@click.argument("store_id", type=int)
@click.option("--days", type=int, default=7, show_default=True, help="7, 14, 30 or 60")
@click.option("--wait/--no-wait", default=True, help="wait for the result line")
def start(store_id: int, days: int, wait: bool) -> None:
    """Ask for a Sync Order of STORE_ID and print its result line."""
    access = _access()
    scope = _scope_of_store(access, store_id)
    try:
        with access.database.transaction() as tx:
            opened = runs.open_run(tx, scope, store_id, days)
    except GatewayError as error:
        problem = describe(error.problem, dict(error.facts))
        raise click.ClickException(f"{problem.title}. {problem.cause} {problem.fix}") from None
    if opened.already_running:
        click.echo(f"Run {opened.run_id} of this store and window is already there.")
    if not wait:
        click.echo(f"run {opened.run_id}")
        return
    while True:
        state = _show(access, scope, opened.run_id)
        if state in ("finished", "stopped"):
            raise SystemExit(0 if state == "finished" else 1)
        time.sleep(0.5)


@sync.command("status")
@click.argument("run_id", type=int)
def status(run_id: int) -> None:
    """How far RUN_ID is, or its result line."""
    access = _access()
    _show(access, _scope_of_run(access, run_id), run_id, progress=True)


def _show(access: Access, scope: AccountScope, run_id: int, *, progress: bool = False) -> str:
    with access.database.transaction() as tx:
        run = runs.get_run(tx, scope, run_id)
    assert run is not None
    line = runs.result_line(run)
    if line is not None:
        click.echo(line)
        others = ("unchanged", "newer_here", "removed", "hidden")
        click.echo(", ".join(f"{name.replace('_', ' ')} {run[name]}" for name in others))
    elif run["state"] == "stopped":
        problem = CATALOGUE.get(run["problem"] or "")
        click.echo(f"Stopped. {problem.title}. {problem.fix}" if problem else "Stopped.")
    elif progress:
        click.echo(f"{run['state']}: {run['listed']} orders so far")
    return str(run["state"])
