"""An end for what runs leave behind: 96 catch-ups a day and store, most of which find nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import procrastinate
import structlog
from sqlalchemy import text

from gateway import jobs
from gateway.connections.access import Access
from gateway.db.engine import Database

log = structlog.get_logger("backfill.retention")

NOTHING_FOUND_KEPT = timedelta(days=14)
"""How long runs by schedule are kept that found nothing."""

AT_ONCE = 500
"""Runs that end in one transaction."""

_FOUND_NOTHING = """
DELETE FROM sync_runs WHERE id IN (
  SELECT r.id FROM sync_runs r WHERE r.finished_at < :before AND r.items_dropped_at IS NULL
    AND r.kind IN ('catch_up', 'settle') AND (r.state = 'stopped' OR r.verdict <> 'incomplete')
    AND r.created + r.updated + r.removed + r.failed + r.hidden + r.missed + r.drifted = 0
    AND EXISTS (SELECT FROM sync_runs n WHERE n.connection_id = r.connection_id AND n.kind = r.kind AND n.deep = r.deep
                AND n.state = 'finished' AND n.id > r.id)
    AND NOT EXISTS (SELECT FROM sync_runs p WHERE p.parent_id = r.id)
  ORDER BY r.finished_at LIMIT :limit)
"""
"""By sync_runs_kept_idx. The newest of each kind stays: by it the schedule knows when the next one is due."""

_REPORTS = """
WITH old AS (
  SELECT id FROM sync_runs WHERE finished_at < :before AND items_dropped_at IS NULL
    AND (state = 'finished' OR kind IN ('catch_up', 'settle'))
  ORDER BY finished_at LIMIT :limit FOR UPDATE SKIP LOCKED),
gone AS (DELETE FROM run_items i USING old WHERE i.run_id = old.id)
UPDATE sync_runs r SET items_dropped_at = now() FROM old WHERE r.id = old.id
"""
"""A stopped run of a merchant keeps its items: it may go on, and counts by them."""


@jobs.app.periodic(cron="57 3 * * *")
@jobs.app.task(name="sync.retention", queueing_lock="sync.retention", pass_context=True)
def nightly(context: procrastinate.JobContext, timestamp: int) -> None:  # noqa: ARG001 - it is always given
    """Every night: drop what is older than it is kept for."""
    access: Access = context.additional_context["access"]
    days = timedelta(days=context.additional_context["report_days"])
    runs, reports = drop_old(access.database, datetime.now(UTC), reports_kept=days)
    if runs or reports:
        log.info("sync.dropped", runs=runs, reports=reports)


def drop_old(database: Database, now: datetime, *, reports_kept: timedelta) -> tuple[int, int]:
    """Forget runs by schedule that found nothing, and old reports on single orders; how many of both."""
    runs = _repeat(database, _FOUND_NOTHING, now - NOTHING_FOUND_KEPT, AT_ONCE)
    # A run may have a hundred thousand items: one a transaction.
    return runs, _repeat(database, _REPORTS, now - reports_kept, 1)


def _repeat(database: Database, statement: str, before: datetime, limit: int) -> int:
    done = 0
    while True:
        with database.transaction() as tx:
            count = tx.execute(text(statement), {"before": before, "limit": limit}).rowcount
        done += count
        if count < limit:
            return done
