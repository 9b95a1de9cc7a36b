"""`flask deliveries …`: look at received webhooks and apply them again, from a terminal."""

from __future__ import annotations

import json
from datetime import datetime

import click
from flask import current_app
from flask.cli import AppGroup
from sqlalchemy import text

from gateway.connections.access import Access
from gateway.domain.problems import Refused
from gateway.domain.scope import AccountScope
from gateway.orders.payloads import place_of_delivery
from webhooks import inbox

deliveries = AppGroup("deliveries", help="Received webhooks.")


def _access() -> Access:
    access: Access = current_app.extensions["access"]
    return access


def _scope(access: Access, account: str) -> AccountScope:
    with access.database.transaction() as tx:
        found = tx.execute(text("SELECT id FROM accounts WHERE name = :name"), {"name": account}).scalar()
    if found is None:
        raise click.ClickException(f"There is no account {account}.")
    return AccountScope(int(found))


@deliveries.command("list")
@click.option("--account", required=True)
@click.option("--state", type=click.Choice(["waiting", "parked", "done", "ignored", "dead"]))
@click.option("--limit", default=20, show_default=True)
def list_all(account: str, state: str | None, limit: int) -> None:
    """The newest deliveries, one a line: id, received, topic, state, outcome, problem."""
    access = _access()
    scope = _scope(access, account)
    with access.database.transaction() as tx:
        rows = tx.execute(
            text(
                "SELECT id, received_at, platform, topic, state, outcome, problem FROM deliveries"
                " WHERE account_id = :account AND (CAST(:state AS text) IS NULL OR state = :state)"
                " ORDER BY id DESC LIMIT :limit"
            ),
            {"account": scope.account_id, "state": state, "limit": limit},
        ).all()
    for row in rows:
        what = row.problem or row.outcome or ""
        click.echo(f"{row.id}\t{row.received_at:%Y-%m-%d %H:%M:%S}\t{row.platform}\t{row.topic}\t{row.state}\t{what}")


@deliveries.command("show")
@click.argument("delivery_id", type=int)
@click.option("--account", required=True)
def show(delivery_id: int, account: str) -> None:
    """Headers and body of DELIVERY_ID, as they came; signatures are not shown."""
    access = _access()
    scope = _scope(access, account)
    with access.database.transaction() as tx:
        row = tx.execute(
            text(
                "SELECT d.*, b.headers, b.body AS sealed FROM deliveries d JOIN delivery_bodies b"
                " ON b.delivery_id = d.id AND b.received_at = d.received_at"
                " WHERE d.id = :id AND d.account_id = :account"
            ),
            {"id": delivery_id, "account": scope.account_id},
        ).first()
        if row is None:
            raise click.ClickException(f"There is no delivery {delivery_id} of this account, or its body is not kept.")
        try:
            body = access.payloads.open(tx, bytes(row.sealed), place_of_delivery(row.received_at))
        except Refused as error:
            raise click.ClickException(f"{error.problem.title}: {error.detail}.") from None
    click.echo(f"{row.topic}: {row.state} {row.outcome or ''} {row.problem or ''} {row.problem_detail or ''}")
    for name, value in json.loads(bytes(row.headers)):
        click.echo(f"{name}: {'********' if 'signature' in name or 'hmac' in name else value}")
    click.echo("")
    click.echo(body.decode("utf-8", "replace"))


@deliveries.command("replay")
@click.argument("delivery_id", type=int, required=False)
@click.option("--account", required=True)
@click.option("--since", type=click.DateTime(["%Y-%m-%dT%H:%M:%S%z"]), help="every dead letter received from here")
@click.option("--until", type=click.DateTime(["%Y-%m-%dT%H:%M:%S%z"]), help="and before here")
def replay(delivery_id: int | None, account: str, since: datetime | None, until: datetime | None) -> None:
    """Apply DELIVERY_ID again, or every dead letter of a time range; what is newer here stays."""
    access = _access()
    scope = _scope(access, account)
    with access.database.transaction() as tx:
        if delivery_id is not None:
            try:
                count = int(inbox.replay(tx, scope, delivery_id))
            except Refused as error:
                raise click.ClickException(f"{error.problem.title}. {error.problem.fix}") from None
        elif since is not None and until is not None:
            count = inbox.replay_range(tx, scope, since=since, until=until)
        else:
            raise click.UsageError("Name a delivery, or --since and --until.")
    click.echo(f"{count} to be applied again")
