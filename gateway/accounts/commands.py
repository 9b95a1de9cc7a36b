"""`flask user …`: users are made by the operator; a page for it would need a first user."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click
from flask import current_app
from flask.cli import AppGroup

from gateway.accounts import api_tokens, passwords, sessions, users
from gateway.db.engine import Database
from gateway.domain.scope import AccountScope

user = AppGroup("user", help="Users and their accounts.")

_TOKEN_NAME = "command line"  # noqa: S105 - the name of a token, not one


@user.command("create")
@click.argument("email")
@click.option("--account", required=True, help="its name; made if there is none")
@click.option("--role", type=click.Choice(users.ROLES), default="owner", show_default=True)
@click.option(
    "--password-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="a file with the password; asked for if not given",
)
@click.option(
    "--api-token-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="a file with an API token that shall speak for this user",
)
@click.option("--exist-ok", is_flag=True, help="an existing user gets this role, password and token")
def create(
    email: str, account: str, role: str, password_file: Path | None, api_token_file: Path | None, exist_ok: bool
) -> None:
    """Make a user who may log in with EMAIL."""
    if "@" not in email:
        raise click.ClickException(f"{email} is not an e-mail address.")
    password = _from_file(password_file) if password_file else click.prompt("Password", hide_input=True)
    if not passwords.MIN_LENGTH <= len(password) <= passwords.MAX_LENGTH:
        raise click.ClickException(f"A password has at least {passwords.MIN_LENGTH} characters.")
    chosen = next(one for one in users.ROLES if one == role)
    database: Database = current_app.extensions["database"]
    with database.transaction() as tx:
        scope = AccountScope(users.make_account(tx, account))
        user_id = users.add_user(tx, scope, email, chosen, password)
        if user_id is None:
            found = users.find_user(tx, email)
            assert found is not None
            if not exist_ok:
                raise click.ClickException(f"There is a user {email} already; --exist-ok keeps it.")
            if found["account_id"] != scope.account_id:
                raise click.ClickException(f"{email} belongs to another account.")
            user_id = int(found["id"])
            users.set_role(tx, scope, user_id, chosen)
            if not passwords.is_right(password, found["password_hash"]):
                users.set_password(tx, scope, user_id, password)
                # Whoever knew the old password is logged out.
                sessions.revoke_all(tx, AccountScope(scope.account_id, user_id), now=datetime.now(UTC))
        if api_token_file:
            own = AccountScope(scope.account_id, user_id, chosen)
            api_tokens.replace(tx, own, _TOKEN_NAME, _from_file(api_token_file), now=datetime.now(UTC))
    click.echo(f"{users.plain_email(email)} may log in to {account} as {role}.")


@user.command("list")
def list_all() -> None:
    """Every user, one a line: id, e-mail, account, role."""
    database: Database = current_app.extensions["database"]
    with database.transaction() as tx:
        rows = users.list_everybody(tx)
    for row in rows:
        click.echo(f"{row['id']}\t{row['email']}\t{row['account']}\t{row['role']}")


def _from_file(path: Path) -> str:
    value = path.read_text(encoding="utf-8").strip()
    if not value:
        raise click.ClickException(f"{path} is empty.")
    return value
