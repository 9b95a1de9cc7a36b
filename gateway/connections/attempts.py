"""Flows that go out to a store's consent page and come back with a one-time state that nobody can guess.

The state is the proof: its sha256 is stored, it works once, for an hour, and only for the user who began the flow. So a
forged, replayed, late or doubled callback finds nothing, and a flow that another person was talked into approving does
not end in the talker's account.
"""

from __future__ import annotations

import hashlib
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import procrastinate
from sqlalchemy import Connection as Transaction
from sqlalchemy import text

from gateway import jobs
from gateway.domain.scope import AccountScope
from gateway.vault import Vault

LIFETIME = timedelta(hours=1)
STATE_LENGTH = 43
"""256 bits in letters and digits: WooCommerce mangles `+`, `&` and `%` in what it hands back (sheet fact 14)."""

_ALPHABET = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True)
class Attempt:
    """`about`: what the flow was begun with; `keys`: what the store handed over, None as long as it did not."""

    id: int
    about: Mapping[str, str]
    keys: Mapping[str, str] | None


def begin(
    tx: Transaction, vault: Vault, scope: AccountScope, platform: str, about: Mapping[str, str], *, now: datetime
) -> str:
    """Note that the scope's user leaves for a consent page; gives the state to send along."""
    state = "".join(secrets.choice(_ALPHABET) for _ in range(STATE_LENGTH))
    # A user has few flows at a time, and keys that nobody fetched must not lie around.
    tx.execute(
        text("DELETE FROM connect_attempts WHERE account_id = :account AND (expires_at < :now OR finished_at < :now)"),
        {"account": scope.account_id, "now": now},
    )
    tx.execute(
        text(
            "INSERT INTO connect_attempts (account_id, user_id, platform, state_hash, about, expires_at)"
            " VALUES (:account, :user, :platform, :hash, :about, :expires)"
        ),
        {"account": scope.account_id, "user": scope.user_id, "platform": platform, "hash": _hash(state),
         "about": vault.close(about), "expires": now + LIFETIME},
    )  # fmt: skip
    return state


def hand_over(
    tx: Transaction, vault: Vault, platform: str, state: str, keys: Mapping[str, str], *, now: datetime
) -> bool:
    """Keep the keys that came from the store itself, once; False when no flow waits for them."""
    done = tx.execute(
        text(
            "UPDATE connect_attempts SET keys = :keys WHERE platform = :platform AND state_hash = :hash"
            " AND keys IS NULL AND finished_at IS NULL AND expires_at > :now"
        ),
        {"keys": vault.close(keys), "platform": platform, "hash": _hash(state), "now": now},
    )
    return done.rowcount == 1


def find(
    tx: Transaction, vault: Vault, scope: AccountScope, platform: str, state: str, *, now: datetime
) -> Attempt | None:
    """The open flow of this very user behind a state."""
    row = tx.execute(
        text(
            "SELECT id, about, keys FROM connect_attempts WHERE platform = :platform AND state_hash = :hash"
            " AND account_id = :account AND user_id = :user AND finished_at IS NULL AND expires_at > :now"
        ),
        {"platform": platform, "hash": _hash(state), "account": scope.account_id, "user": scope.user_id, "now": now},
    ).mappings().first()  # fmt: skip
    if row is None:
        return None
    keys = None if row["keys"] is None else vault.open_mapping(bytes(row["keys"]))
    return Attempt(row["id"], vault.open_mapping(bytes(row["about"])), keys)


def finish(tx: Transaction, scope: AccountScope, attempt_id: int, *, now: datetime) -> bool:
    """End a flow and forget its keys; False when it was ended before (the page was loaded twice)."""
    done = tx.execute(
        text(
            "UPDATE connect_attempts SET finished_at = :now, keys = NULL WHERE id = :id AND account_id = :account"
            " AND finished_at IS NULL"
        ),
        {"now": now, "id": attempt_id, "account": scope.account_id},
    )
    return done.rowcount == 1


@jobs.app.periodic(cron="41 * * * *")
@jobs.app.task(name="connect.sweep", queueing_lock="connect.sweep", pass_context=True)
def sweep(context: procrastinate.JobContext, timestamp: int) -> None:  # noqa: ARG001 - it is always given
    """Every hour: forget flows that nobody came back from, with the keys or tokens that they may hold."""
    with context.additional_context["access"].database.transaction() as tx:
        forget_expired(tx, now=datetime.now(UTC))


def forget_expired(tx: Transaction, *, now: datetime) -> int:
    """Flows of all platforms; how many."""
    return sum(
        tx.execute(text(f"DELETE FROM {table} WHERE expires_at < :now"), {"now": now}).rowcount  # noqa: S608 - constants
        for table in ("connect_attempts", "shopify_installs")
    )


def _hash(state: str) -> bytes:
    return hashlib.sha256(state.encode(errors="replace")).digest()
