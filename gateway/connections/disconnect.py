"""A merchant takes a store off: keys are forgotten, webhooks removed, and what the platform's terms want goes."""

from __future__ import annotations

import structlog
from sqlalchemy import Connection as Transaction
from sqlalchemy import text

from gateway.connections import model
from gateway.connections.access import PAGE_SECONDS, Access
from gateway.connections.model import Connection
from gateway.domain.problems import STORE_NOT_CONNECTED, GatewayError
from gateway.domain.scope import AccountScope
from gateway.orders.erase import erase_orders
from gateway.orders.payloads import drop_key
from gateway.platforms import REGISTRY

log = structlog.get_logger("gateway.disconnect")


def disconnect(access: Access, scope: AccountScope, store_id: int) -> bool:
    """End the account's connection to a store; False when it has no such store. Doing it again changes nothing.

    Orders stay, but for platforms whose terms end with the connection (Etsy): those are deleted with all that came
    with them. The store's webhooks are removed as far as it answers; what stays there is refused from now on.
    """
    with access.database.transaction() as tx:
        if model.get_store(tx, scope, store_id) is None:
            return False
        connection = model.get(tx, store_id)
    assert connection is not None
    if connection.state != "disconnected":
        _remove_webhooks(access, connection)
    with access.database.transaction() as tx:
        take_off(tx, access, connection)
        if REGISTRY[connection.platform].capabilities.purged_on_disconnect:
            _purge(tx, connection)
    log.info("store.disconnected", connection=store_id, user=scope.user_id)
    return True


def take_off(tx: Transaction, access: Access, connection: Connection) -> None:
    """Forget a store's keys and stop what is under way for it. Whoever reads from it just now writes nothing more."""
    access.lock_credentials(tx, connection.id)
    tx.execute(
        text(
            "UPDATE connections SET state = 'disconnected', state_problem = NULL, state_detail = '',"
            " credentials = :none, hook_secrets = :no_secrets, generation = generation + 1,"
            " catch_up_wanted_at = NULL, audit_wanted_at = NULL WHERE id = :id AND account_id = :account"
        ),
        {"none": access.vault.close({}), "no_secrets": access.vault.close([]), "id": connection.id,
         "account": connection.account_id},
    )  # fmt: skip
    tx.execute(text("DELETE FROM subscriptions WHERE connection_id = :id"), {"id": connection.id})
    tx.execute(text("DELETE FROM rereads WHERE connection_id = :id"), {"id": connection.id})
    # A higher fencing number keeps a worker that reads a page just now from writing it.
    tx.execute(
        text(
            "UPDATE sync_runs SET state = 'stopped', fence = fence + 1, finished_at = now(), problem = :problem,"
            " problem_detail = 'it was disconnected.' WHERE connection_id = :id AND state IN ('queued', 'running')"
        ),
        {"id": connection.id, "problem": STORE_NOT_CONNECTED.code},
    )


def _remove_webhooks(access: Access, connection: Connection) -> None:
    with access.database.transaction() as tx:
        ids = tx.execute(
            text("SELECT external_id FROM subscriptions WHERE connection_id = :id ORDER BY id"), {"id": connection.id}
        ).scalars().all()  # fmt: skip
    try:
        REGISTRY[connection.platform].unsubscribe(access.store(connection, read_seconds=PAGE_SECONDS), ids)
    except GatewayError as error:
        log.warning("store.webhooks_stay", connection=connection.id, why=error.problem.code)


def _purge(tx: Transaction, connection: Connection) -> None:
    """Delete the store's orders with their history, and the notices that told of them."""
    values = {"id": connection.id, "account": connection.account_id}
    tx.execute(
        text(
            "DELETE FROM run_items i USING sync_runs r WHERE r.id = i.run_id AND r.connection_id = :id"
            " AND i.account_id = :account"
        ),
        values,
    )
    drop_key(tx, connection.id)
    tx.execute(
        text("UPDATE privacy_requests SET export = NULL WHERE connection_id = :id AND account_id = :account"), values
    )
    masks = tx.execute(
        text("SELECT external_id FROM orders WHERE connection_id = :id AND account_id = :account"
             " AND erased_at IS NOT NULL"),
        values,
    ).scalars().all()  # fmt: skip
    # Changes, and their places in the feed, go with their orders; the masks of erased people stay.
    tx.execute(text("DELETE FROM orders WHERE connection_id = :id AND account_id = :account"), values)
    erase_orders(tx, connection.account_id, connection.id, masks, request_id=None)
    tx.execute(
        text(
            "DELETE FROM delivery_bodies b USING deliveries d WHERE d.id = b.delivery_id AND d.connection_id = :id"
            " AND d.account_id = :account"
        ),
        values,
    )
    tx.execute(text("DELETE FROM deliveries WHERE connection_id = :id AND account_id = :account"), values)
