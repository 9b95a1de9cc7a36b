"""Runs as people look them up: those on their way, those before, those of one click, and a run's retries."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, RowMapping, text

from backfill.runs import SELECT
from gateway.domain.scope import AccountScope

KINDS = ("manual", "preview", "retry", "catch_up", "settle")

LATEST = 2_000
"""Among so many of an account's newest runs those worth telling are looked for: catch-ups come every 15 minutes."""

_FOUND_SOMETHING = (
    " AND (r.kind NOT IN ('catch_up', 'settle') OR r.state <> 'finished' OR r.verdict = 'incomplete'"
    " OR r.created + r.updated + r.removed + r.failed > 0)"
)


def page(
    tx: Connection,
    scope: AccountScope,
    *,
    store_id: int | None = None,
    kind: str | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[RowMapping]:
    """The account's runs, newest first; `before` is the last id of the page before this one."""
    conditions = [
        condition
        for value, condition in (
            (store_id, " AND r.connection_id = :store"),
            (kind, " AND r.kind = :kind"),
            (before, " AND r.id < :before"),
        )
        if value is not None
    ]
    # sync_runs_account_idx, read backwards.
    statement = text(SELECT + "".join(conditions) + " ORDER BY r.id DESC LIMIT :limit")
    values = {"account": scope.account_id, "store": store_id, "kind": kind, "before": before}
    used = {name: value for name, value in values.items() if value is not None}
    return list(tx.execute(statement, {**used, "limit": limit}).mappings())


def worth_telling(
    tx: Connection, scope: AccountScope, *, store_id: int | None = None, limit: int = 20
) -> list[RowMapping]:
    """The newest runs first, without those by schedule that found nothing to do."""
    condition = "" if store_id is None else " AND r.connection_id = :store"
    latest = (
        " AND r.id > coalesce((SELECT l.id FROM sync_runs l WHERE l.account_id = :account"
        " ORDER BY l.id DESC OFFSET :latest LIMIT 1), 0)"
    )
    statement = text(SELECT + latest + condition + _FOUND_SOMETHING + " ORDER BY r.id DESC LIMIT :limit")
    values = {"account": scope.account_id, "latest": LATEST, "limit": limit}
    return list(tx.execute(statement, values if store_id is None else {**values, "store": store_id}).mappings())


def on_their_way(tx: Connection, scope: AccountScope) -> list[RowMapping]:
    """Every run of the account that is not over yet, in the order in which they were asked for."""
    statement = text(SELECT + " AND r.state IN ('queued', 'running') ORDER BY r.id")
    return list(tx.execute(statement, {"account": scope.account_id}).mappings())


def by_ids(tx: Connection, scope: AccountScope, ids: Sequence[int]) -> list[RowMapping]:
    """Those of these runs that are the account's, by their stores' names."""
    statement = text(SELECT + " AND r.id = ANY(:ids) ORDER BY c.name, r.id")
    return list(tx.execute(statement, {"account": scope.account_id, "ids": list(ids)}).mappings())


def retries(tx: Connection, scope: AccountScope, run_id: int) -> list[RowMapping]:
    """The runs that tried this one's failed orders again, oldest first."""
    # sync_runs_parent_idx
    statement = text(SELECT + " AND r.parent_id = :run ORDER BY r.id")
    return list(tx.execute(statement, {"account": scope.account_id, "run": run_id}).mappings())
