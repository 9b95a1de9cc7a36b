"""`flask erase`: erase people's data of one store for good."""

from __future__ import annotations

import click
from flask import current_app
from flask.cli import with_appcontext
from sqlalchemy import text

from gateway.connections import model, privacy
from gateway.connections.access import Access
from gateway.domain.scope import AccountScope
from gateway.platforms.base import PrivacyKind


@click.command("erase")
@click.argument("store_id", type=int)
@click.option("--email", default="", help="erase every order of exactly this address")
@click.option("--order", "orders", multiple=True, help="an order's number or id; can be given several times")
@click.option("--everything", is_flag=True, help="erase every person, payload and secret of the store")
@click.option("--yes", is_flag=True, help="do not ask")
@with_appcontext
def erase(store_id: int, email: str, orders: tuple[str, ...], everything: bool, yes: bool) -> None:
    """Erase who ordered from STORE_ID: on its orders, in their history, and in the raw deliveries. The amounts stay."""
    if sum(map(bool, (email, orders, everything))) != 1:
        raise click.UsageError("Say whom: --email, --order or --everything.")
    access: Access = current_app.extensions["access"]
    with access.database.transaction() as tx:
        connection = model.get(tx, store_id)
        if connection is None:
            raise click.ClickException(f"There is no store {store_id}. See: flask stores list --account NAME")
        scope = AccountScope(connection.account_id)
        found = [] if everything else privacy.find_orders(tx, scope, store_id, email or ",".join(orders), limit=100_000)
    if not found and not everything:
        raise click.ClickException("No stored order of this store is of that customer or has that number.")
    what = "everything of this store" if everything else f"the person on {len(found)} order{'s'[: len(found) != 1]}"
    if not yes:
        click.confirm(f"Erase {what} ({connection.name}) for good?", abort=True)
    with access.database.transaction() as tx:
        subject = privacy.Subject(tuple(row["external_id"] for row in found))
        kind: PrivacyKind = "shop_redact" if everything else "redact"
        request_id = privacy.open_by_hand(tx, connection, kind, subject, user_id=None)
    privacy.fulfil_all(access, current_app.extensions["settings"].erasure_ledger, store_id)
    with access.database.transaction() as tx:
        row = tx.execute(
            text("SELECT state, orders_count, bodies_count FROM privacy_requests WHERE id = :id"), {"id": request_id}
        ).one()
    click.echo(f"Erased: {row.orders_count} orders, {row.bodies_count} raw deliveries.")
