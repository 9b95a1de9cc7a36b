"""Room for the raw bodies of the months to come, and an end for those that nobody could use."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import procrastinate
import structlog
from psycopg.errors import LockNotAvailable
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from gateway import jobs
from gateway.connections.access import Access
from gateway.db.migrate import drop_partition_before, make_partitions
from gateway.orders.erase import erase_bodies

log = structlog.get_logger("webhooks.retention")


@jobs.app.periodic(cron="17 3 * * *")
@jobs.app.task(name="deliveries.partitions", queueing_lock="deliveries.partitions", pass_context=True)
def partitions(context: procrastinate.JobContext, timestamp: int) -> None:  # noqa: ARG001 - it is always given
    """Make the partitions of this month and the next two, so that a process that runs for months needs no restart."""
    access: Access = context.additional_context["access"]
    with access.database.transaction() as tx:
        made = make_partitions(tx, datetime.now(UTC))
    if made:
        log.info("deliveries.partitions_made", names=made)


@jobs.app.periodic(cron="27 3 * * *")
@jobs.app.task(name="deliveries.drop_old", queueing_lock="deliveries.drop_old", pass_context=True)
def drop_old(context: procrastinate.JobContext, timestamp: int) -> None:  # noqa: ARG001 - it is always given
    """Drop the raw bodies of months that are over for long enough; the deliveries themselves stay. What is locked just
    then is dropped in another night."""
    access: Access = context.additional_context["access"]
    dropped: str | None = ""
    while dropped is not None:
        try:
            with access.database.transaction() as tx:
                dropped = drop_partition_before(tx, datetime.now(UTC), context.additional_context["body_months"])
        except OperationalError as error:
            if not isinstance(error.orig, LockNotAvailable):
                raise
            log.warning("deliveries.bodies_locked")
            return
        if dropped is not None:
            log.info("deliveries.bodies_dropped", name=dropped)


UNUSED_FOR = timedelta(days=14) - timedelta(hours=1)
"""Nobody knows whom a parked, unreadable or ignored body is about, so no erasure can find it: it lives for 14 days at
most, and this is looked at each hour."""


@jobs.app.periodic(cron="37 * * * *")
@jobs.app.task(name="deliveries.unused", queueing_lock="deliveries.unused", pass_context=True)
def forget_unused(context: procrastinate.JobContext, timestamp: int) -> None:  # noqa: ARG001 - it is always given
    """Forget what nobody could use for 14 days; the deliveries themselves stay, without their content."""
    access: Access = context.additional_context["access"]
    with access.database.transaction() as tx:
        ids = tx.execute(
            text(
                "SELECT id FROM deliveries WHERE erased_at IS NULL AND received_at < :before"
                # deliveries_unused_idx
                " AND state IN ('parked', 'dead', 'ignored') AND (state <> 'ignored' OR order_external_id IS NULL)"
            ),
            {"before": datetime.now(UTC) - UNUSED_FOR},
        ).scalars()
        forgotten = erase_bodies(tx, list(ids))
    if forgotten:
        log.info("deliveries.forgotten", bodies=forgotten)
