"""Room for the raw bodies of the months to come."""

from __future__ import annotations

from datetime import UTC, datetime

import procrastinate
import structlog

from gateway import jobs
from gateway.connections.access import Access
from gateway.db.migrate import make_partitions

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
