"""Log-ins: a random token in a cookie, its sha256 here, each one visible and revocable."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from sqlalchemy import Connection, RowMapping, text

from gateway.domain.scope import AccountScope, Role

LIFETIME = timedelta(days=14)
"""Counted from the log-in; the cookie ends with it."""

_TOUCH_AFTER = timedelta(minutes=1)
"""A session's last use is written at most so often: a page that polls does not write each second."""


@dataclass(frozen=True, slots=True)
class Session:
    """Who asks, proven by the cookie."""

    id: int
    scope: AccountScope
    email: str
    name: str
    account_name: str
    troubled_stores: int
    """Stores of the account that do not work as they should: every page says so."""


def hash_token(token: str) -> bytes:
    """What is stored of a token: 256 random bits need no slow hash."""
    return hashlib.sha256(token.encode()).digest()


def start(tx: Connection, scope: AccountScope, *, user_agent: str, now: datetime) -> str:
    """Begin a session of the scope's user; gives the token for the cookie, which is stored nowhere."""
    token = secrets.token_urlsafe(32)
    tx.execute(
        text(
            "INSERT INTO sessions (account_id, user_id, token_hash, user_agent, seen_at, expires_at)"
            " VALUES (:account, :user, :hash, :agent, :now, :until)"
        ),
        {
            "account": scope.account_id,
            "user": scope.user_id,
            "hash": hash_token(token),
            "agent": user_agent.replace("\x00", "")[:200],
            "now": now,
            "until": now + LIFETIME,
        },
    )
    return token


def find(tx: Connection, token: str, *, now: datetime) -> Session | None:
    """The living session of this token, its last use noted; None when it is unknown, revoked or expired."""
    row = (
        tx.execute(
            text(
                "SELECT s.id, s.account_id, s.user_id, s.seen_at, u.email, u.name, u.role, a.name AS account_name,"
                " (SELECT count(*) FROM connections c WHERE c.account_id = s.account_id"
                "  AND (c.state IN ('degraded', 'action_needed') OR (c.state = 'disconnected'"
                "   AND c.state_problem IS NOT NULL))) AS troubled_stores"
                " FROM sessions s JOIN users u ON u.id = s.user_id JOIN accounts a ON a.id = s.account_id"
                " WHERE s.token_hash = :hash AND s.revoked_at IS NULL AND s.expires_at > :now"
            ),
            {"hash": hash_token(token), "now": now},
        )
        .mappings()
        .first()
    )
    if row is None:
        return None
    if row["seen_at"] < now - _TOUCH_AFTER:
        tx.execute(text("UPDATE sessions SET seen_at = :now WHERE id = :id"), {"now": now, "id": row["id"]})
    scope = AccountScope(row["account_id"], row["user_id"], cast("Role", row["role"]))
    return Session(row["id"], scope, row["email"], row["name"], row["account_name"], row["troubled_stores"])


def list_own(tx: Connection, scope: AccountScope, *, now: datetime) -> list[RowMapping]:
    """The user's living sessions, the last used first."""
    statement = text(
        "SELECT id, user_agent, created_at, seen_at, expires_at FROM sessions WHERE account_id = :account"
        " AND user_id = :user AND revoked_at IS NULL AND expires_at > :now ORDER BY seen_at DESC, id DESC"
    )
    values = {"account": scope.account_id, "user": scope.user_id, "now": now}
    return list(tx.execute(statement, values).mappings())


def revoke(tx: Connection, scope: AccountScope, session_id: int, *, now: datetime) -> bool:
    """End one of the user's own sessions; False when there is no such one."""
    done = tx.execute(
        text(
            "UPDATE sessions SET revoked_at = :now WHERE id = :id AND account_id = :account AND user_id = :user"
            " AND revoked_at IS NULL"
        ),
        {"now": now, "id": session_id, "account": scope.account_id, "user": scope.user_id},
    )
    return done.rowcount == 1


def revoke_all(tx: Connection, scope: AccountScope, *, now: datetime) -> int:
    """End every session of the scope's user, this one too; how many."""
    done = tx.execute(
        text(
            "UPDATE sessions SET revoked_at = :now WHERE account_id = :account AND user_id = :user"
            " AND revoked_at IS NULL"
        ),
        {"now": now, "account": scope.account_id, "user": scope.user_id},
    )
    return done.rowcount
