"""Whether a connection still works: asked with one call before anything is believed, judged by what arrives, and told.

A failed call says so itself (runs, audits, re-reads set the state). What no call shows is judged here from our own
records: orders that only syncs find, and a silence longer than the store's own rhythm. Whoever set a state, owners are
told by mail when it lasts, and told again when it is over.
"""

from __future__ import annotations

from datetime import timedelta

import procrastinate
import structlog
from sqlalchemy import Connection as Transaction
from sqlalchemy import RowMapping, text

from gateway import jobs, mail
from gateway.connections import model
from gateway.connections.access import Access
from gateway.domain.problems import (
    CATALOGUE,
    SHOP_GONE,
    TOKEN_REVOKED,
    WEBHOOKS_MISSED,
    WEBHOOKS_SILENT,
    NeedsMerchant,
    describe,
)
from gateway.platforms import REGISTRY

log = structlog.get_logger("gateway.health")

FEWEST_MISSED = 5
MISSED_SHARE = 0.05
"""Of a day's orders: so many that no webhook brought are more than a few lost on their way."""

RHYTHM = timedelta(days=14)
FEWEST_WEBHOOKS = 20
SILENCES = 3
SHORTEST_SILENCE = timedelta(hours=6)
"""Silent: three times as long as the longest pause of two weeks, and never less than this."""

TOLD_AFTER = timedelta(minutes=20)
"""A state that a retry ends is nobody's concern."""


@jobs.app.task(name="connections.check", pass_context=True, retry=procrastinate.RetryStrategy(
    max_attempts=8, exponential_wait=4))  # fmt: skip
def check(context: procrastinate.JobContext, connection_id: int) -> None:
    """Ask the platform whether our access still stands, and what the shop is called now. What it grants is known from
    the catch-up that follows.

    An uninstall webhook's headers are unsigned, so the webhook alone moves nothing: only the platform's own refusal of
    our token does. Any other refusal (a frozen shop, a permission) may end, so the store is kept trying.
    """
    access: Access = context.additional_context["access"]
    with access.database.transaction() as tx:
        connection = model.get(tx, connection_id)
    if connection is None or connection.state == "disconnected":
        return
    try:
        shop = REGISTRY[connection.platform].shop(access.store(connection))
    except NeedsMerchant as error:
        state = "disconnected" if error.problem in (TOKEN_REVOKED, SHOP_GONE) else "action_needed"
        with access.database.transaction() as tx:
            model.set_state(tx, connection_id, state, error.problem.code, error.detail)
        return
    with access.database.transaction() as tx:
        model.note_shop(tx, connection, shop)


# --- judged by what arrives --------------------------------------------------------------------------------------
@jobs.app.periodic(cron="*/10 * * * *")
@jobs.app.task(name="connections.health", queueing_lock="connections.health", pass_context=True)
def watch(context: procrastinate.JobContext, timestamp: int) -> None:  # noqa: ARG001 - it is always given
    """Judge every connection, then tell owners what lasts."""
    access: Access = context.additional_context["access"]
    with access.database.transaction() as tx:
        judge(tx)
    with access.database.transaction() as tx:
        tell(tx, access)


_ARRIVALS = """
SELECT c.id, c.platform, c.state, c.state_problem,
  (SELECT coalesce(sum(r.missed), 0) FROM sync_runs r WHERE r.connection_id = c.id AND r.account_id = c.account_id
    AND r.finished_at > now() - interval '24 hours') AS missed,
  d.of_a_day, d.count, d.last_at, d.longest
FROM connections c LEFT JOIN LATERAL (
  SELECT count(*) AS count, count(*) FILTER (WHERE w.received_at > now() - interval '24 hours') AS of_a_day,
    max(w.received_at) AS last_at, max(w.pause) AS longest
  FROM (SELECT received_at, received_at - lag(received_at) OVER (ORDER BY received_at) AS pause FROM deliveries
        WHERE account_id = c.account_id AND connection_id = c.id AND received_at > now() - :rhythm) AS w) AS d ON true
WHERE c.state IN ('connected', 'degraded')
"""


def judge(tx: Transaction) -> None:
    """Degrade what loses webhooks or fell silent, and lift that again; states that others set are left alone."""
    now = tx.execute(text("SELECT now()")).scalar_one()
    for row in tx.execute(text(_ARRIVALS), {"rhythm": RHYTHM}).mappings().all():
        found, detail = None, ""
        if _loses(row):
            found, detail = WEBHOOKS_MISSED, str(row["missed"])
        elif _is_silent(row, now - row["last_at"] if row["last_at"] else None):
            found, detail = WEBHOOKS_SILENT, str(round((now - row["last_at"]).total_seconds() / 3600))
        ours = row["state_problem"] in model.JUDGED
        if found is not None and (row["state"] == "connected" or ours):
            model.set_state(tx, row["id"], "degraded", found.code, detail)
        elif found is None and ours:
            model.set_state(tx, row["id"], "connected")


def _loses(row: RowMapping) -> bool:
    if REGISTRY[row["platform"]].capabilities.thin_hooks:
        return False  # Etsy tells of four events only: most changes are found by syncs, as they must be
    missed = int(row["missed"])
    return missed >= FEWEST_MISSED and missed > MISSED_SHARE * (missed + row["of_a_day"])


def _is_silent(row: RowMapping, silence: timedelta | None) -> bool:
    if silence is None or row["longest"] is None or row["count"] < FEWEST_WEBHOOKS:
        return False
    return bool(silence > max(SILENCES * row["longest"], SHORTEST_SILENCE))


# --- told --------------------------------------------------------------------------------------------------------
def tell(tx: Transaction, access: Access) -> int:
    """Mail owners about each state that lasts and was not told yet; how many connections."""
    rows = tx.execute(
        text(
            "SELECT id, account_id, platform, name, state, state_problem, state_detail, told_problem FROM connections"
            " WHERE coalesce(state_problem, '') <> told_problem AND state_since < now() - :patience"
            " ORDER BY id FOR UPDATE SKIP LOCKED"
        ),
        {"patience": TOLD_AFTER},
    ).mappings().all()  # fmt: skip
    told = 0
    for row in rows:
        tx.execute(
            text("UPDATE connections SET told_problem = coalesce(state_problem, '') WHERE id = :id"), {"id": row["id"]}
        )
        if row["state"] == "disconnected" and row["state_problem"] is None:
            continue  # somebody here took it off: that ends the trouble, and is no news to them
        told += 1
        subject, body = _words(row, access.public_url)
        mail.write_to_owners(tx, access.vault, row["account_id"], subject, body)
    return told


def _words(row: RowMapping, public_url: str) -> tuple[str, str]:
    name = " ".join(str(row["name"]).split())[:100]
    if row["state_problem"] is None:
        return f"{name}: works again", f"The connection to {name} works again. What was missed meanwhile is caught up."
    known = CATALOGUE.get(row["state_problem"])
    if known is None:
        return f"{name}: needs you", f"See {public_url}/stores"
    problem = describe(known, {"why": row["state_detail"]})
    return f"{name}: {problem.title}", f"{problem.cause}\n\n{problem.fix}\n\n{public_url}/stores\n"
