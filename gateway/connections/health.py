"""Whether a connection still works: asked with one call before anything is believed."""

from __future__ import annotations

import procrastinate

from gateway import jobs
from gateway.connections import model
from gateway.connections.access import Access
from gateway.domain.problems import NeedsMerchant
from gateway.platforms import REGISTRY


@jobs.app.task(name="connections.check", pass_context=True, retry=procrastinate.RetryStrategy(
    max_attempts=8, exponential_wait=4))  # fmt: skip
def check(context: procrastinate.JobContext, connection_id: int) -> None:
    """Ask the platform whether our access still stands, and what the shop is called now; only its own refusal
    disconnects a store. What it grants is known from the catch-up that follows.

    An uninstall webhook's headers are unsigned, so the webhook alone moves nothing.
    """
    access: Access = context.additional_context["access"]
    with access.database.transaction() as tx:
        connection = model.get(tx, connection_id)
    if connection is None:
        return
    try:
        shop = REGISTRY[connection.platform].shop(access.store(connection))
    except NeedsMerchant as error:
        with access.database.transaction() as tx:
            model.set_state(tx, connection_id, "disconnected", error.problem.code, error.detail)
        return
    with access.database.transaction() as tx:
        model.note_shop(tx, connection, shop)
