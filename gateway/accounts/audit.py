"""Who read personal data, and when: each look at who ordered, by page, API or export, leaves a line that stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

import procrastinate
from sqlalchemy import Connection, RowMapping, text

from gateway import jobs
from gateway.domain.scope import AccountScope

KEPT_FOR = timedelta(days=365)
Action = Literal["order", "orders", "changes", "feed", "delivery", "search", "export"]


def note(tx: Connection, scope: AccountScope, action: Action, subject_id: int, *, by_api: bool = False) -> None:
    """Note, in the transaction that reads it, that the scope's user saw a person. `subject_id`: the order, delivery or
    request; of lists ("orders", "feed", "search") how many people's orders were shown, and nothing is noted of none."""
    if not subject_id:
        return
    tx.execute(
        text(
            "INSERT INTO audit (account_id, user_id, action, subject_id, by_api)"
            " VALUES (:account, :user, :action, :subject, :api)"
        ),
        {"account": scope.account_id, "user": scope.user_id, "action": action, "subject": subject_id, "api": by_api},
    )


def list_notes(tx: Connection, scope: AccountScope, *, before: int | None, limit: int) -> list[RowMapping]:
    """The account's notes, newest first; `before`: the last id of the page before this one."""
    rows = tx.execute(
        text(
            "SELECT a.id, a.at, a.action, a.subject_id, a.by_api, u.email, o.number FROM audit a"
            " LEFT JOIN users u ON u.id = a.user_id"
            " LEFT JOIN orders o ON a.action IN ('order', 'changes') AND o.id = a.subject_id"
            "   AND o.account_id = a.account_id"
            " WHERE a.account_id = :account AND (CAST(:before AS bigint) IS NULL OR a.id < :before)"
            " ORDER BY a.id DESC LIMIT :limit"
        ),
        {"account": scope.account_id, "before": before, "limit": limit},
    )
    return list(rows.mappings())


@jobs.app.periodic(cron="57 3 * * *")
@jobs.app.task(name="audit.forget", queueing_lock="audit.forget", pass_context=True)
def forget(context: procrastinate.JobContext, timestamp: int) -> None:  # noqa: ARG001 - it is always given
    """Drop notes of more than a year ago."""
    with context.additional_context["access"].database.engine.begin() as tx:
        tx.execute(text("DELETE FROM audit WHERE at < :before"), {"before": datetime.now(UTC) - KEPT_FOR})
