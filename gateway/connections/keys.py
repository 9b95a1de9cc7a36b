"""Which encryption keys the stored secrets need, and giving them all to the first one.

To rotate: put a new key first in ENCRYPTION_KEYS, start again, `flask vault rotate`, then take the old key out.
"""

from __future__ import annotations

from collections import Counter

from sqlalchemy import text

from gateway.db.engine import Database
from gateway.domain.problems import KEY_MISSING, NeedsOperator
from gateway.vault import Vault, key_id

SEALED = (
    ("connections", "credentials"),
    ("connections", "hook_secrets"),
    ("data_keys", "wrapped"),
    ("connect_attempts", "about"),
    ("connect_attempts", "keys"),
    ("shopify_installs", "tokens"),
    ("privacy_requests", "export"),
    ("mails", "body"),
)
"""Every column that the vault closed (a test holds this against the database)."""

BATCH = 500


def in_use(database: Database) -> Counter[str]:
    """How many stored secrets each key id closed."""
    used: Counter[str] = Counter()
    with database.transaction() as tx:
        for table, column in SEALED:
            # The id stands before the first colon, and never holds one.
            rows = tx.execute(
                text(
                    f"SELECT substring({column} FROM 1 FOR position('\\x3a'::bytea IN {column}) - 1) AS id,"  # noqa: S608
                    " count(*) AS n"
                    f" FROM {table} WHERE position('\\x3a'::bytea IN {column}) > 1 GROUP BY 1"
                )
            )
            for row in rows:
                used[bytes(row.id).decode(errors="replace")] += row.n
    return used


def require(database: Database, vault: Vault) -> None:
    """Raise NeedsOperator when a stored secret was closed with a key that is not among ours."""
    for missing in sorted(set(in_use(database)) - vault.key_ids()):
        raise NeedsOperator(KEY_MISSING, missing, key=missing)


def try_each(database: Database, vault: Vault) -> None:
    """The same as `require`, and open the newest secret of each column and key: an id may name another key by now."""
    require(database, vault)
    with database.transaction() as tx:
        for table, column in SEALED:
            until_colon = f"substring({column} FROM 1 FOR position('\\x3a'::bytea IN {column}) - 1)"
            rows = tx.execute(
                text(
                    f"SELECT DISTINCT ON ({until_colon}) {column} AS closed FROM {table}"  # noqa: S608
                    f" WHERE position('\\x3a'::bytea IN {column}) > 1 ORDER BY {until_colon}, id DESC"
                )
            )
            for row in rows:
                vault.renew(bytes(row.closed))


def rotate(database: Database, vault: Vault) -> int:
    """Close every stored secret with the first key; how many were closed anew. Safe to run again, and beside workers:
    a secret that changes meanwhile is left to the next round."""
    renewed = 0
    for table, column in SEALED:
        after = 0
        while True:
            with database.transaction() as tx:
                rows = tx.execute(
                    text(
                        f"SELECT id, {column} AS closed FROM {table} WHERE id > :after AND {column} IS NOT NULL"  # noqa: S608
                        " ORDER BY id LIMIT :limit"
                    ),
                    {"after": after, "limit": BATCH},
                ).all()
                for row in rows:
                    closed = bytes(row.closed)
                    if closed and key_id(closed) != vault.first:
                        renewed += tx.execute(
                            text(f"UPDATE {table} SET {column} = :new WHERE id = :id AND {column} = :old"),  # noqa: S608
                            {"new": vault.renew(closed), "old": closed, "id": row.id},
                        ).rowcount
            if len(rows) < BATCH:
                break
            after = rows[-1].id
    return renewed
