"""`flask vault …`: which keys the stored secrets need, and rotating them."""

from __future__ import annotations

import click
from flask import current_app
from flask.cli import AppGroup

from gateway.connections import keys
from gateway.connections.access import Access
from gateway.domain.problems import NeedsOperator, describe

vault = AppGroup("vault", help="The keys that encrypt stored secrets.")


def _access() -> Access:
    access: Access = current_app.extensions["access"]
    return access


@vault.command("status")
def status() -> None:
    """Each key's id, whether it is among ENCRYPTION_KEYS, and how many stored secrets it closed."""
    access = _access()
    used = keys.in_use(access.database)
    for key_id in sorted(access.vault.key_ids() | set(used)):
        role = "encrypts" if key_id == access.vault.first else "opens"
        click.echo(f"{key_id}\t{role if key_id in access.vault.key_ids() else 'MISSING'}\t{used[key_id]}")


@vault.command("rotate")
def rotate() -> None:
    """Close every stored secret with the first of ENCRYPTION_KEYS."""
    access = _access()
    try:
        keys.require(access.database, access.vault)
        renewed = keys.rotate(access.database, access.vault)
    except NeedsOperator as error:
        problem = describe(error.problem, dict(error.facts))
        raise click.ClickException(f"{problem.title}. {problem.cause} {problem.fix}") from None
    left = sum(count for key_id, count in keys.in_use(access.database).items() if key_id != access.vault.first)
    click.echo(f"{renewed} secrets closed anew with {access.vault.first}; {left} left with other keys.")
