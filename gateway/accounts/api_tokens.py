"""Bearer tokens of the API: shown once, stored as sha256, revocable."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import cast

from sqlalchemy import Connection, RowMapping, text

from gateway.accounts.sessions import hash_token
from gateway.domain.scope import AccountScope, Role

_TOUCH_AFTER = timedelta(minutes=1)


def new_token() -> str:
    """A token in the form that people recognise in their settings."""
    return f"gw_{secrets.token_hex(24)}"


def add(tx: Connection, scope: AccountScope, name: str, token: str) -> None:
    """Let this token speak for the scope's user; one that does already stays as it is."""
    tx.execute(
        text(
            "INSERT INTO api_tokens (account_id, user_id, name, token_hash) VALUES (:account, :user, :name, :hash)"
            " ON CONFLICT (token_hash) DO UPDATE SET revoked_at = NULL"
            " WHERE api_tokens.account_id = excluded.account_id AND api_tokens.user_id = excluded.user_id"
        ),
        {"account": scope.account_id, "user": scope.user_id, "name": name, "hash": hash_token(token)},
    )


def replace(tx: Connection, scope: AccountScope, name: str, token: str, *, now: datetime) -> None:
    """Make this the user's only token of this name; the one before it is revoked."""
    tx.execute(
        text(
            "UPDATE api_tokens SET revoked_at = :now WHERE account_id = :account AND user_id = :user"
            " AND name = :name AND token_hash <> :hash AND revoked_at IS NULL"
        ),
        {
            "now": now,
            "account": scope.account_id,
            "user": scope.user_id,
            "name": name,
            "hash": hash_token(token),
        },
    )
    add(tx, scope, name, token)


def find(tx: Connection, token: str, *, now: datetime) -> AccountScope | None:
    """Whom this token speaks for, its last use noted; None when it is unknown or revoked."""
    row = (
        tx.execute(
            text(
                "SELECT t.id, t.account_id, t.user_id, t.used_at, u.role FROM api_tokens t"
                " JOIN users u ON u.id = t.user_id WHERE t.token_hash = :hash AND t.revoked_at IS NULL"
            ),
            {"hash": hash_token(token)},
        )
        .mappings()
        .first()
    )
    if row is None:
        return None
    if row["used_at"] is None or row["used_at"] < now - _TOUCH_AFTER:
        tx.execute(text("UPDATE api_tokens SET used_at = :now WHERE id = :id"), {"now": now, "id": row["id"]})
    return AccountScope(row["account_id"], row["user_id"], cast("Role", row["role"]))


def list_all(tx: Connection, scope: AccountScope) -> list[RowMapping]:
    """The account's living tokens, newest first, with whose they are."""
    statement = text(
        "SELECT t.id, t.name, t.created_at, t.used_at, u.email FROM api_tokens t JOIN users u ON u.id = t.user_id"
        " WHERE t.account_id = :account AND t.revoked_at IS NULL ORDER BY t.id DESC"
    )
    return list(tx.execute(statement, {"account": scope.account_id}).mappings())


def revoke(tx: Connection, scope: AccountScope, token_id: int, *, now: datetime) -> bool:
    """End one of the account's tokens: anybody's for an owner, else the user's own. False: no such one."""
    done = tx.execute(
        text(
            "UPDATE api_tokens SET revoked_at = :now WHERE id = :id AND account_id = :account AND revoked_at IS NULL"
            " AND (user_id = :user OR :owner)"
        ),
        {
            "now": now,
            "id": token_id,
            "account": scope.account_id,
            "user": scope.user_id,
            "owner": scope.role == "owner",
        },
    )
    return done.rowcount == 1
