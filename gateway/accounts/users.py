"""Accounts and their users, as rows."""

from __future__ import annotations

from typing import cast

from sqlalchemy import Connection, RowMapping, text

from gateway.accounts import passwords
from gateway.domain.scope import AccountScope, Role

ROLES: tuple[Role, ...] = ("owner", "manager", "viewer")


def plain_email(email: str) -> str:
    """The form in which addresses are stored and compared."""
    return email.strip().lower()


def make_account(tx: Connection, name: str) -> int:
    """The id of the account of this name, made if there is none."""
    tx.execute(text("INSERT INTO accounts (name) VALUES (:name) ON CONFLICT (name) DO NOTHING"), {"name": name})
    found = tx.execute(text("SELECT id FROM accounts WHERE name = :name"), {"name": name}).scalar_one()
    return int(found)


def get_account(tx: Connection, scope: AccountScope) -> RowMapping:
    """The scope's own account."""
    return tx.execute(text("SELECT * FROM accounts WHERE id = :id"), {"id": scope.account_id}).mappings().one()


def find_user(tx: Connection, email: str) -> RowMapping | None:
    """The user of this address, whichever the account: only for logging in and for the operator's commands."""
    statement = text("SELECT * FROM users WHERE email = :email")
    return tx.execute(statement, {"email": plain_email(email)}).mappings().first()


def list_users(tx: Connection, scope: AccountScope) -> list[RowMapping]:
    """The account's users by address, without their hashes."""
    statement = text("SELECT id, email, name, role, created_at FROM users WHERE account_id = :account ORDER BY email")
    return list(tx.execute(statement, {"account": scope.account_id}).mappings())


def list_everybody(tx: Connection) -> list[RowMapping]:
    """Every user of every account, for the operator's command."""
    statement = text(
        "SELECT u.id, u.email, u.role, a.name AS account FROM users u JOIN accounts a ON a.id = u.account_id"
        " ORDER BY a.name, u.email"
    )
    return list(tx.execute(statement).mappings())


def add_user(tx: Connection, scope: AccountScope, email: str, role: Role, password: str) -> int | None:
    """The new user's id; None when the address is taken."""
    made = tx.execute(
        text(
            "INSERT INTO users (account_id, email, role, password_hash) VALUES (:account, :email, :role, :hash)"
            " ON CONFLICT (email) DO NOTHING RETURNING id"
        ),
        {
            "account": scope.account_id,
            "email": plain_email(email),
            "role": role,
            "hash": passwords.hash_password(password),
        },
    ).scalar()
    return None if made is None else int(made)


def set_password(tx: Connection, scope: AccountScope, user_id: int, password: str) -> bool:
    """Store a new password; False when the account has no such user."""
    done = tx.execute(
        text("UPDATE users SET password_hash = :hash WHERE id = :id AND account_id = :account"),
        {"hash": passwords.hash_password(password), "id": user_id, "account": scope.account_id},
    )
    return done.rowcount == 1


def set_role(tx: Connection, scope: AccountScope, user_id: int, role: Role) -> None:
    """Give the account's user this role."""
    tx.execute(
        text("UPDATE users SET role = :role WHERE id = :id AND account_id = :account"),
        {"role": role, "id": user_id, "account": scope.account_id},
    )


def scope_of(user: RowMapping) -> AccountScope:
    """What this user may see."""
    return AccountScope(user["account_id"], user["id"], cast("Role", user["role"]))
