"""What a store's webhooks did not bring, or brought wrongly, counted by day."""

from __future__ import annotations

from sqlalchemy import Connection, text


def note(tx: Connection, account_id: int, connection_id: int, *, missed: int = 0, contradicted: int = 0) -> None:
    """Count changes that only a run found, and webhooks that said else than a settled read of their very second."""
    tx.execute(
        text(
            "INSERT INTO misses AS m (account_id, connection_id, day, missed, contradicted)"
            " VALUES (:account, :connection, (now() AT TIME ZONE 'UTC')::date, :missed, :contradicted)"
            " ON CONFLICT (connection_id, day) DO UPDATE SET missed = m.missed + excluded.missed,"
            " contradicted = m.contradicted + excluded.contradicted"
        ),
        {"account": account_id, "connection": connection_id, "missed": missed, "contradicted": contradicted},
    )
