"""Links that are sent by mail: to join an account, or to set a new password. Each works once, and not for long.

Only the sha256 of a link's token is stored. Asking for a new password says the same whether or not there is such a
user, and so does nothing that a stranger could learn from.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import Literal, cast

from sqlalchemy import Connection, RowMapping, text

from gateway.accounts import passwords, users
from gateway.accounts.sessions import hash_token
from gateway.domain.problems import LAST_OWNER, LINK_OVER, USER_EXISTS, NeedsMerchant
from gateway.domain.scope import AccountScope, Role

Purpose = Literal["invitation", "reset"]
INVITATION_LIFETIME = timedelta(days=7)
RESET_LIFETIME = timedelta(hours=1)


def invite(tx: Connection, scope: AccountScope, email: str, role: Role, *, now: datetime) -> str:
    """The token of an invitation into the scope's account; an open one for the same address is replaced."""
    email = users.plain_email(email)
    if any(one["email"] == email for one in users.list_users(tx, scope)):
        raise NeedsMerchant(USER_EXISTS, email)
    tx.execute(
        text("DELETE FROM links WHERE account_id = :account AND email = :email AND purpose = 'invitation'"),
        {"account": scope.account_id, "email": email},
    )
    return _make(tx, "invitation", scope.account_id, email, role, now + INVITATION_LIFETIME, by=scope.user_id)


def ask_for_reset(tx: Connection, email: str, *, now: datetime) -> tuple[int, str] | None:
    """(account, token) of a link to set a new password; None when there is no such user. An earlier one ends."""
    found = users.find_user(tx, email)
    if found is None:
        return None
    tx.execute(text("DELETE FROM links WHERE email = :email AND purpose = 'reset'"), {"email": found["email"]})
    role = cast("Role", found["role"])
    return found["account_id"], _make(tx, "reset", found["account_id"], found["email"], role, now + RESET_LIFETIME)


def _make(
    tx: Connection, purpose: Purpose, account_id: int, email: str, role: Role, until: datetime, *, by: int | None = None
) -> str:
    token = secrets.token_urlsafe(32)
    tx.execute(
        text(
            "INSERT INTO links (account_id, purpose, email, role, token_hash, made_by, expires_at)"
            " VALUES (:account, :purpose, :email, :role, :hash, :by, :until)"
        ),
        {"account": account_id, "purpose": purpose, "email": email, "role": role, "hash": hash_token(token), "by": by,
         "until": until},
    )  # fmt: skip
    return token


def find(tx: Connection, purpose: Purpose, token: str, *, now: datetime) -> RowMapping:
    """The open link behind a token, with its account's name. Raises NeedsMerchant when it is over or was never one."""
    row = tx.execute(
        text(
            "SELECT l.id, l.account_id, l.email, l.role, a.name AS account_name FROM links l"
            " JOIN accounts a ON a.id = l.account_id"
            " WHERE l.token_hash = :hash AND l.purpose = :purpose AND l.expires_at > :now"
        ),
        {"hash": hash_token(token), "purpose": purpose, "now": now},
    ).mappings().first()  # fmt: skip
    if row is None:
        raise NeedsMerchant(LINK_OVER)
    return row


def accept(tx: Connection, token: str, password_hash: str, name: str, *, now: datetime) -> AccountScope:
    """Become a user by an invitation, once: of two at the same moment one is told that it is over."""
    link = _use(tx, "invitation", token, now=now)
    user_id = tx.execute(
        text(
            "INSERT INTO users (account_id, email, name, role, password_hash) VALUES (:account, :email, :name, :role,"
            " :hash) ON CONFLICT (email) DO NOTHING RETURNING id"
        ),
        {"account": link["account_id"], "email": link["email"], "name": name, "role": link["role"],
         "hash": password_hash},
    ).scalar()  # fmt: skip
    if user_id is None:
        raise NeedsMerchant(USER_EXISTS, link["email"])
    return AccountScope(link["account_id"], int(user_id), cast("Role", link["role"]))


def reset(tx: Connection, token: str, password_hash: str, *, now: datetime) -> None:
    """Set the new password; every log-in of that user ends."""
    link = _use(tx, "reset", token, now=now)
    values = {"email": link["email"], "account": link["account_id"], "hash": password_hash, "now": now}
    tx.execute(text("UPDATE users SET password_hash = :hash WHERE email = :email AND account_id = :account"), values)
    tx.execute(
        text(
            "UPDATE sessions s SET revoked_at = :now FROM users u WHERE u.id = s.user_id AND u.email = :email"
            " AND u.account_id = :account AND s.revoked_at IS NULL"
        ),
        values,
    )


def _use(tx: Connection, purpose: Purpose, token: str, *, now: datetime) -> RowMapping:
    row = tx.execute(
        text("DELETE FROM links WHERE token_hash = :hash AND purpose = :purpose AND expires_at > :now RETURNING *"),
        {"hash": hash_token(token), "purpose": purpose, "now": now},
    ).mappings().first()  # fmt: skip
    if row is None:
        raise NeedsMerchant(LINK_OVER)
    return row


def list_invitations(tx: Connection, scope: AccountScope, *, now: datetime) -> list[RowMapping]:
    """The account's open invitations."""
    rows = tx.execute(
        text("SELECT id, email, role, expires_at FROM links WHERE account_id = :account AND purpose = 'invitation'"
             " AND expires_at > :now ORDER BY email"),
        {"account": scope.account_id, "now": now},
    )  # fmt: skip
    return list(rows.mappings())


def revoke(tx: Connection, scope: AccountScope, link_id: int) -> bool:
    """Take an invitation back; False when the account has none of this id."""
    return (
        tx.execute(
            text("DELETE FROM links WHERE id = :id AND account_id = :account AND purpose = 'invitation'"),
            {"id": link_id, "account": scope.account_id},
        ).rowcount
        == 1
    )


# --- users of an account -----------------------------------------------------------------------------------------
def change_role(tx: Connection, scope: AccountScope, user_id: int, role: Role) -> bool:
    """Give a user of the account another role; False when there is none. The last owner stays one."""
    if role != "owner":
        _keep_an_owner(tx, scope, user_id)
    users.set_role(tx, scope, user_id, role)
    return any(one["id"] == user_id for one in users.list_users(tx, scope))


def remove_user(tx: Connection, scope: AccountScope, user_id: int) -> bool:
    """Remove a user of the account with their log-ins and tokens; False when there is none. The last owner stays."""
    _keep_an_owner(tx, scope, user_id)
    return (
        tx.execute(
            text("DELETE FROM users WHERE id = :id AND account_id = :account"),
            {"id": user_id, "account": scope.account_id},
        ).rowcount
        == 1
    )


def _keep_an_owner(tx: Connection, scope: AccountScope, user_id: int) -> None:
    # All owners are locked: two who demote each other at one moment must not both succeed.
    owners = tx.execute(
        text("SELECT id FROM users WHERE account_id = :account AND role = 'owner' ORDER BY id FOR UPDATE"),
        {"account": scope.account_id},
    ).scalars().all()  # fmt: skip
    if list(owners) == [user_id]:
        raise NeedsMerchant(LAST_OWNER)


def is_long_enough(password: str) -> bool:
    return passwords.MIN_LENGTH <= len(password) <= passwords.MAX_LENGTH
