"""Sign-up: an account with its owner, once the address has proven to be theirs by a mailed link. Off unless SIGN_UP."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta

from sqlalchemy import Connection, RowMapping, text

from gateway.accounts import users
from gateway.accounts.sessions import hash_token
from gateway.domain.problems import LINK_OVER, USER_EXISTS, NeedsMerchant
from gateway.domain.scope import AccountScope

LIFETIME = timedelta(hours=24)


def ask(tx: Connection, email: str, account: str, next_path: str, *, now: datetime) -> str | None:
    """The token for the mail that proves the address; None when it has a log-in already. Nothing is made yet."""
    email = users.plain_email(email)
    tx.execute(text("DELETE FROM sign_ups WHERE expires_at < :now OR email = :email"), {"now": now, "email": email})
    if users.find_user(tx, email) is not None:
        return None
    token = secrets.token_urlsafe(32)
    tx.execute(
        text(
            "INSERT INTO sign_ups (email, account, next_path, token_hash, expires_at)"
            " VALUES (:email, :account, :next, :hash, :until)"
        ),
        {"email": email, "account": account, "next": next_path, "hash": hash_token(token), "until": now + LIFETIME},
    )
    return token


def find(tx: Connection, token: str, *, now: datetime) -> RowMapping:
    """The sign-up behind a token. Raises NeedsMerchant when it is over or was never one."""
    row = tx.execute(
        text("SELECT email, account, next_path FROM sign_ups WHERE token_hash = :hash AND expires_at > :now"),
        {"hash": hash_token(token), "now": now},
    ).mappings().first()  # fmt: skip
    if row is None:
        raise NeedsMerchant(LINK_OVER)
    return row


def finish(tx: Connection, token: str, password_hash: str, name: str, *, now: datetime) -> tuple[AccountScope, str]:
    """Make the account and its owner, once; gives also where they were going when they signed up."""
    row = tx.execute(
        text("DELETE FROM sign_ups WHERE token_hash = :hash AND expires_at > :now RETURNING email, account, next_path"),
        {"hash": hash_token(token), "now": now},
    ).mappings().first()  # fmt: skip
    if row is None:
        raise NeedsMerchant(LINK_OVER)
    account_id = _new_account(tx, row["account"])
    user_id = tx.execute(
        text(
            "INSERT INTO users (account_id, email, name, role, password_hash) VALUES (:account, :email, :name, 'owner',"
            " :hash) ON CONFLICT (email) DO NOTHING RETURNING id"
        ),
        {"account": account_id, "email": row["email"], "name": name, "hash": password_hash},
    ).scalar()
    if user_id is None:
        raise NeedsMerchant(USER_EXISTS, row["email"])
    return AccountScope(account_id, int(user_id)), row["next_path"]


def _new_account(tx: Connection, name: str) -> int:
    """An account of this name, or of the name with a number: names are the operator's handles, so each is one's own."""
    for number in range(1, 1000):
        made = tx.execute(
            text("INSERT INTO accounts (name) VALUES (:name) ON CONFLICT (name) DO NOTHING RETURNING id"),
            {"name": name if number == 1 else f"{name} {number}"},
        ).scalar()
        if made is not None:
            return int(made)
    raise NeedsMerchant(USER_EXISTS, name)
