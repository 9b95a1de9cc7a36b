"""Our webhooks at the platforms: registered, audited and mended, each repair followed by a catch-up.

WooCommerce disables a webhook at its seventh failure in a row and never sends again what it missed; a merchant may
delete or pause one by hand. So they are looked at hourly, when we start, and soon after any answer of ours but a 2xx.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Literal

import procrastinate
import structlog
from sqlalchemy import Connection as Transaction
from sqlalchemy import text

from gateway import jobs
from gateway.connections import model
from gateway.connections.access import Access
from gateway.connections.model import Connection
from gateway.domain.problems import (
    KEYS_READ_ONLY,
    SIGNATURE_WRONG,
    TOKEN_REVOKED,
    WEBHOOKS_BROKEN,
    GatewayError,
    NeedsMerchant,
    Refused,
)
from gateway.platforms import REGISTRY
from gateway.platforms.base import App, Subscription

log = structlog.get_logger("gateway.subscriptions")


def audited(app: App) -> list[str]:
    """Whose webhooks stand in the store, where they can be changed or removed. Etsy's are set up by hand in its portal,
    Shopify's are declared with the app unless the operator has them made by the API."""
    return ["woocommerce", *(["shopify"] if app.shopify_api_webhooks else [])]


ACTIVE = ("active", "enabled")
WANTED_SECONDS = 2.0
NOT_MORE_OFTEN_THAN = timedelta(minutes=1)
"""Strangers can make us answer 401 as often as they like, and each audit calls the store."""

_REGISTERING = 4_242_400
"""First half of the advisory lock of a registration; the second is the connection's id."""

Found = Literal["sound", "repaired", "unknown"]


def register(access: Access, connection: Connection) -> Sequence[Subscription]:
    """Make, mend and note this connection's webhooks; a catch-up follows. Raises what the platform's answer means."""
    platform = REGISTRY[connection.platform]
    address = platform.deliveries_address(access.public_url, connection.key)
    secrets = access.vault.open_list(connection.hook_secrets)
    with access.database.transaction() as lock:
        # Two at once would each make what is missing, and the shop would send everything twice.
        lock.execute(text("SELECT pg_advisory_xact_lock(:one, :two)"), {"one": _REGISTERING, "two": connection.id})
        made = platform.subscribe(access.store(connection), address, secrets[0] if secrets else "")
        with access.database.transaction() as tx:
            _note(tx, connection, made)
    return made


def audit(access: Access, connection_id: int) -> Found:
    """Compare the webhooks at the store with what we need, and mend them.

    "unknown": the store could not be asked (that passes, or its own Problem tells).
    """
    with access.database.transaction() as tx:
        connection = model.get(tx, connection_id)
        if connection is None or connection.state == "disconnected":
            return "unknown"
        if connection.platform not in audited(access.app):
            return "unknown"
        noted = _noted_topics(tx, connection_id)
        misunderstood = _signed_wrongly(tx, connection)
        tx.execute(
            text("UPDATE connections SET audit_wanted_at = NULL, audited_at = now() WHERE id = :id"),
            {"id": connection_id},
        )
    platform = REGISTRY[connection.platform]
    address = platform.deliveries_address(access.public_url, connection.key)
    asked = False
    try:
        listed = platform.list_subscriptions(access.store(connection))
        if _is_sound(listed, address, noted) and not misunderstood:
            with access.database.transaction() as tx:
                model.works_again(tx, connection_id, webhooks=True)
                tx.execute(
                    text("UPDATE subscriptions SET checked_at = now(), state = 'active' WHERE connection_id = :id"),
                    {"id": connection_id},
                )
            return "sound"
        asked = True
        register(access, connection)
    except NeedsMerchant as error:
        # The same keys have just read the list: they may read, and not write.
        problem = KEYS_READ_ONLY if asked and error.problem is TOKEN_REVOKED else error.problem
        with access.database.transaction() as tx:
            model.set_state(tx, connection_id, "action_needed", problem.code, error.detail)
        return "unknown"
    except Refused as error:
        with access.database.transaction() as tx:
            model.set_state(tx, connection_id, "degraded", WEBHOOKS_BROKEN.code, error.detail)
        return "unknown"
    except GatewayError as error:
        log.warning("subscriptions.not_audited", connection=connection_id, why=error.problem.code)
        return "unknown"
    with access.database.transaction() as tx:
        model.works_again(tx, connection_id, webhooks=True)
    log.info("subscriptions.repaired", connection=connection_id, signed_wrongly=misunderstood)
    return "repaired"


def _is_sound(listed: Sequence[Subscription], address: str, topics: frozenset[str]) -> bool:
    """Each topic exactly once, active, at our address; and nothing else leads to us."""
    suffix = "/" + address.split("://", 1)[-1].partition("/")[2]
    ours = [row for row in listed if row.address.rstrip("/").endswith(suffix)]
    good = [row.topic for row in ours if row.address == address and row.state in ACTIVE]
    return bool(topics) and len(good) == len(ours) and sorted(good) == sorted(topics)


def _noted_topics(tx: Transaction, connection_id: int) -> frozenset[str]:
    rows = tx.execute(
        text("SELECT topic FROM subscriptions WHERE connection_id = :id"), {"id": connection_id}
    ).scalars()  # fmt: skip
    return frozenset(rows)


def _signed_wrongly(tx: Transaction, connection: Connection) -> bool:
    """Whether webhooks were refused for their signature since the last audit: the shop's secret is another then.

    Counts are kept by day, so this is asked only when an answer of ours was the cause of the audit. Where the app's
    secret signs, making webhooks anew would change nothing.
    """
    if connection.platform != "woocommerce":
        return False
    return (
        tx.execute(
            text(
                "SELECT 1 FROM signature_failures f JOIN connections c ON c.id = f.connection_id"
                " WHERE f.connection_id = :id AND f.platform = :platform AND f.reason = :reason"
                " AND f.day >= date_trunc('day', now()) AND c.audit_wanted_at IS NOT NULL"
            ),
            {"id": connection.id, "platform": connection.platform, "reason": SIGNATURE_WRONG.code},
        ).first()
        is not None
    )


def _note(tx: Transaction, connection: Connection, made: Sequence[Subscription]) -> None:
    tx.execute(text("DELETE FROM subscriptions WHERE connection_id = :id"), {"id": connection.id})
    for row in made:
        tx.execute(
            text(
                "INSERT INTO subscriptions (account_id, connection_id, topic, external_id, address, state, checked_at)"
                " VALUES (:account, :connection, :topic, :external, :address, :state, now())"
            ),
            {"account": connection.account_id, "connection": connection.id, "topic": row.topic,
             "external": row.external_id, "address": row.address, "state": row.state},
        )  # fmt: skip
    if made:
        # What came while they were off is never sent again.
        tx.execute(
            text("UPDATE connections SET catch_up_wanted_at = coalesce(catch_up_wanted_at, now()) WHERE id = :id"),
            {"id": connection.id},
        )


# --- when --------------------------------------------------------------------------------------------------------
def queue(access: Access, *, wanted_only: bool) -> int:
    """Queue an audit for each connection (that wishes one, not more often than each minute); how many."""
    condition = (
        " AND audit_wanted_at IS NOT NULL AND (audited_at IS NULL OR audited_at < now() - :pause)"
        if wanted_only
        else ""
    )
    with access.database.transaction() as tx:
        rows = tx.execute(
            text(
                "SELECT id FROM connections WHERE state <> 'disconnected' AND platform = ANY(:audited)"  # noqa: S608 - constants only
                + condition
            ),
            {"audited": audited(access.app)} | ({"pause": NOT_MORE_OFTEN_THAN} if wanted_only else {}),
        ).scalars().all()  # fmt: skip
        return sum(jobs.defer(tx, "subscriptions.audit", once=f"audit:{row}", connection_id=row) for row in rows)


def watch(access: Access, stop: threading.Event) -> None:
    """At the worker's start audit all; then soon wherever a webhook was not answered 2xx, or a store is new."""
    queue(access, wanted_only=False)
    while not stop.wait(WANTED_SECONDS):
        queue(access, wanted_only=True)


@jobs.app.task(name="subscriptions.audit", pass_context=True)
def audit_job(context: procrastinate.JobContext, connection_id: int) -> None:
    audit(context.additional_context["access"], connection_id)


@jobs.app.periodic(cron="7 * * * *")
@jobs.app.task(name="subscriptions.audit_all", queueing_lock="subscriptions.audit_all", pass_context=True)
def audit_all(context: procrastinate.JobContext, timestamp: int) -> None:  # noqa: ARG001 - it is always given
    """Every hour: what was switched off without a word of ours is found."""
    queue(context.additional_context["access"], wanted_only=False)
