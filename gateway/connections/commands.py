"""`flask stores …`: connect stores whose keys are at hand, register their webhooks, list them."""

from __future__ import annotations

import json
from pathlib import Path

import click
from flask import current_app
from flask.cli import AppGroup
from sqlalchemy import text

from gateway.connections import model
from gateway.connections.access import Access
from gateway.connections.install import NewStore, add_store, subscribe
from gateway.domain.problems import GatewayError, describe
from gateway.domain.scope import AccountScope

stores = AppGroup("stores", help="Connect and list stores.")


def _access() -> Access:
    access: Access = current_app.extensions["access"]
    return access


def _account(access: Access, name: str) -> int:
    with access.database.transaction() as tx:
        found = tx.execute(text("SELECT id FROM accounts WHERE name = :name"), {"name": name}).scalar()
    if found is None:
        raise click.ClickException(f"There is no account {name}. Make one with: flask user create … --account {name}")
    return int(found)


def _said(error: GatewayError) -> click.ClickException:
    problem = describe(error.problem, dict(error.facts))
    return click.ClickException(f"{problem.title}. {problem.cause} {problem.fix}")


@stores.command("add")
@click.option("--account", required=True, help="the account that the stores belong to")
@click.option(
    "--file",
    "path",
    required=True,
    type=click.Path(path_type=Path, exists=True),
    help='JSON: {"stores": [{platform, shop_id, name, domain, url, currency, time_zone, credentials}]}',
)
def add(account: str, path: Path) -> None:
    """Connect the stores of a file; one that is connected already is left as it is."""
    access = _access()
    account_id = _account(access, account)
    for row in json.loads(path.read_text())["stores"]:
        new = NewStore(
            platform=row["platform"], shop_id=str(row["shop_id"]), name=row["name"], domain=row["domain"],
            base_url=str(row.get("url") or "").rstrip("/"), currency=row.get("currency", ""),
            time_zone=row.get("time_zone", "UTC"),
            credentials={name: str(value) for name, value in row["credentials"].items()},
        )  # fmt: skip
        try:
            store_id = add_store(access, account_id, new)
        except GatewayError as error:
            raise _said(error) from None
        click.echo(f"{store_id}\t{new.platform}\t{new.name}")


@stores.command("subscribe")
@click.option("--account", required=True)
def subscribe_all(account: str) -> None:
    """Register the webhooks of every store of the account, or mend them."""
    access = _access()
    scope = AccountScope(_account(access, account))
    with access.database.transaction() as tx:
        rows = model.list_stores(tx, scope)
    for row in rows:
        try:
            count = subscribe(access, row["id"])
        except GatewayError as error:
            raise _said(error) from None
        click.echo(f"{row['id']}\t{row['platform']}\t{row['name']}\t{count} webhooks")


@stores.command("list")
@click.option("--account", required=True)
def list_all(account: str) -> None:
    """The account's stores, one a line: id, platform, name, state."""
    access = _access()
    with access.database.transaction() as tx:
        rows = model.list_stores(tx, AccountScope(_account(access, account)))
    for row in rows:
        click.echo(f"{row['id']}\t{row['platform']}\t{row['name']}\t{row['state']}")
