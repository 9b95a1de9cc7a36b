"""Whether a connection still works: asked with one call before anything is believed, judged by what arrives, and told.

A failed call says so itself (runs, audits, re-reads set the state). What no call shows is judged here from our own
records: tokens that were not renewed for long, signatures that fail, orders that only syncs find, a silence longer than
the store's own rhythm, clocks that differ. Whoever set a state, owners are told by mail when it lasts, and told again
when it is over.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import procrastinate
import structlog
from sqlalchemy import Connection as Transaction
from sqlalchemy import RowMapping, text

from gateway import jobs, mail
from gateway.connections import model
from gateway.connections.access import Access
from gateway.connections.model import Connection
from gateway.domain.problems import (
    ACCESS_RUNS_OUT,
    CLOCK_OFF,
    PERMISSION_MISSING,
    SHOP_GONE,
    TOKEN_REVOKED,
    WEBHOOKS_CONTRADICT,
    WEBHOOKS_MISSED,
    WEBHOOKS_MISSIGNED,
    WEBHOOKS_SILENT,
    GatewayError,
    NeedsMerchant,
    Problem,
    Refused,
    stored,
)
from gateway.domain.scope import AccountScope
from gateway.platforms import REGISTRY
from gateway.platforms.base import StoreAccess
from gateway.platforms.shopify import client, install

log = structlog.get_logger("gateway.health")

FEWEST_MISSED = 5
MISSED_SHARE = 0.05
"""Of a day's orders: so many that no webhook brought are more than a few lost on their way."""

RHYTHM = timedelta(days=14)
FEWEST_WEBHOOKS = 20
SILENCES = 3
SHORTEST_SILENCE = timedelta(hours=6)
"""Silent: three times as long as the longest pause of two weeks, and never less than this."""

FEWEST_MISSIGNED = 5
"""Refused for their signature within a day while none was taken: fewer may be a stranger's."""

RENEW_WITHIN = timedelta(days=14)
"""How long before access runs out somebody is told."""

CLOCKS_APART = timedelta(minutes=5)
"""Signatures with a time in them are refused from here on (Etsy sheet, section 1)."""

PROBED = ("shopify",)
"""Whose merchants can change what they grant while we are connected, and can be asked what that is."""

TOLD_AFTER = timedelta(minutes=20)
"""A state that a retry ends is nobody's concern."""


@jobs.app.task(name="connections.check", pass_context=True, retry=procrastinate.RetryStrategy(
    max_attempts=8, exponential_wait=4))  # fmt: skip
def check(context: procrastinate.JobContext, connection_id: int, uninstalled: bool = False) -> None:
    """Ask the platform whether our access still stands, what the shop is called now and what it grants; a catch-up
    follows. `uninstalled`: a webhook says that the merchant removed us.

    That webhook's headers are unsigned, so it alone moves nothing: only the platform's own refusal of our token with it
    does. Any other refusal (a frozen shop, a permission) may end, so the store is kept trying.
    """
    access: Access = context.additional_context["access"]
    if _ask(access, connection_id, uninstalled=uninstalled):
        with access.database.transaction() as tx:
            model.want_catch_up(tx, connection_id)


@jobs.app.periodic(cron="33 * * * *")
@jobs.app.task(name="connections.probe", queueing_lock="connections.probe", pass_context=True)
def probe(context: procrastinate.JobContext, timestamp: int) -> None:  # noqa: ARG001 - it is always given
    """Every hour: ask what is granted; a webhook that told of a change may have been lost."""
    access: Access = context.additional_context["access"]
    with access.database.transaction() as tx:
        ids = tx.execute(
            text("SELECT id FROM connections WHERE platform = ANY(:probed) AND state <> 'disconnected' ORDER BY id"),
            {"probed": list(PROBED)},
        ).scalars().all()  # fmt: skip
    for connection_id in ids:
        try:
            _ask(access, connection_id, uninstalled=False)
        except GatewayError as error:
            log.warning("connection.not_probed", connection=connection_id, why=error.problem.code)


def _ask(access: Access, connection_id: int, *, uninstalled: bool) -> bool:
    """Whether the shop answered; its state is noted either way."""
    with access.database.transaction() as tx:
        connection = model.get(tx, connection_id)
    if connection is None or connection.state == "disconnected":
        return False
    try:
        store = access.store(connection)
        shop = REGISTRY[connection.platform].shop(store)
        scopes = _granted(connection, store)
    except NeedsMerchant as error:
        is_off = uninstalled and error.problem in (TOKEN_REVOKED, SHOP_GONE)
        with access.database.transaction() as tx:
            model.set_state(
                tx, connection_id, "disconnected" if is_off else "action_needed", error.problem.code, error.detail
            )
        return False
    with access.database.transaction() as tx:
        model.note_shop(tx, connection, shop)
        if scopes is not None:
            model.set_scopes(tx, connection_id, scopes)
        if missing := [] if scopes is None else install.lacking(scopes):
            model.set_state(tx, connection_id, "action_needed", PERMISSION_MISSING.code, ", ".join(missing))
        else:
            model.works_again(tx, connection_id)
    return True


def _granted(connection: Connection, store: StoreAccess) -> tuple[str, ...] | None:
    """The scopes of now; None where they can't be asked for: then the calls themselves tell what is missing."""
    if connection.platform not in PROBED:
        return None
    try:
        return client.granted(store)
    except Refused:
        return None


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
SELECT c.id, c.platform, c.state, c.state_problem, c.tokens_at, c.skew_ms,
  (SELECT coalesce(sum(f.count), 0) FROM signature_failures f WHERE f.platform = c.platform AND f.connection_id = c.id
    AND f.reason LIKE 'webhook.signature%' AND f.day > now() - interval '24 hours') AS missigned,
  (SELECT coalesce(sum(r.missed), 0) FROM sync_runs r WHERE r.connection_id = c.id AND r.account_id = c.account_id
    AND r.finished_at > now() - interval '24 hours') AS missed,
  (SELECT coalesce(sum(m.contradicted), 0) FROM misses m WHERE m.connection_id = c.id
    AND m.day >= (now() AT TIME ZONE 'UTC')::date - 1) AS contradicted,
  d.of_a_day, d.count, d.last_at, d.longest
FROM connections c LEFT JOIN LATERAL (
  SELECT count(*) AS count, count(*) FILTER (WHERE w.received_at > now() - interval '24 hours') AS of_a_day,
    max(w.received_at) AS last_at, max(w.pause) AS longest
  FROM (SELECT received_at, received_at - lag(received_at) OVER (ORDER BY received_at) AS pause FROM deliveries
        WHERE account_id = c.account_id AND connection_id = c.id AND received_at > now() - :rhythm) AS w) AS d ON true
WHERE c.state IN ('connected', 'degraded')
"""


def judge(tx: Transaction) -> None:
    """Degrade what does not work as it should, and lift that again; states that others set are left alone."""
    now = tx.execute(text("SELECT now()")).scalar_one()
    for row in tx.execute(text(_ARRIVALS), {"rhythm": RHYTHM}).mappings().all():
        found, detail = _judged(row, now)
        ours = row["state_problem"] in model.JUDGED
        if found is not None and (row["state"] == "connected" or ours):
            model.set_state(tx, row["id"], "degraded", found.code, detail)
        elif found is None and ours:
            model.set_state(tx, row["id"], "connected")


def _judged(row: RowMapping, now: datetime) -> tuple[Problem | None, str]:
    """What is wrong with a connection, the gravest first, and the figure that tells how much."""
    tokens_live = REGISTRY[row["platform"]].capabilities.tokens_live
    if tokens_live is not None and row["tokens_at"] is not None and now - row["tokens_at"] > tokens_live - RENEW_WITHIN:
        return ACCESS_RUNS_OUT, str((now - row["tokens_at"]).days)
    if row["missigned"] >= FEWEST_MISSIGNED and not row["of_a_day"]:
        return WEBHOOKS_MISSIGNED, str(row["missigned"])
    if _loses(row):
        return WEBHOOKS_MISSED, str(row["missed"])
    if _are_many(int(row["contradicted"]), row["of_a_day"]):
        return WEBHOOKS_CONTRADICT, str(row["contradicted"])
    if _is_silent(row, now - row["last_at"] if row["last_at"] else None):
        return WEBHOOKS_SILENT, str(round((now - row["last_at"]).total_seconds() / 3600))
    if abs(row["skew_ms"]) > CLOCKS_APART / timedelta(milliseconds=1):
        return CLOCK_OFF, str(round(abs(row["skew_ms"]) / 60_000))
    return None, ""


def _loses(row: RowMapping) -> bool:
    if REGISTRY[row["platform"]].capabilities.thin_hooks:
        return False  # Etsy tells of four events only: most changes are found by syncs, as they must be
    missed = int(row["missed"])
    return _are_many(missed, missed + row["of_a_day"])


def _are_many(found: int, of: int) -> bool:
    return found >= FEWEST_MISSED and found > MISSED_SHARE * of


def _is_silent(row: RowMapping, silence: timedelta | None) -> bool:
    if silence is None or row["longest"] is None or row["count"] < FEWEST_WEBHOOKS:
        return False
    return bool(silence > max(SILENCES * row["longest"], SHORTEST_SILENCE))


# --- shown -------------------------------------------------------------------------------------------------------
MISSES_SHOWN_DAYS = 7


def misses(tx: Transaction, scope: AccountScope) -> list[RowMapping]:
    """Per store and day of the last week, newest first: what syncs found and no webhook had brought, and webhooks that
    contradicted a settled read. Days without either are left out."""
    return list(
        tx.execute(
            text(
                "SELECT connection_id, day, missed, contradicted FROM misses WHERE account_id = :account"
                " AND day > (now() AT TIME ZONE 'UTC')::date - CAST(:days AS int) AND missed + contradicted > 0"
                " ORDER BY connection_id, day DESC"
            ),
            {"account": scope.account_id, "days": MISSES_SHOWN_DAYS},
        ).mappings()
    )


def last_catch_ups(tx: Transaction, scope: AccountScope) -> dict[int, RowMapping]:
    """Each store's latest finished catch-up with the stretch of time that it covered."""
    rows = tx.execute(
        text(
            "SELECT c.id AS connection_id, r.* FROM connections c CROSS JOIN LATERAL ("
            "  SELECT s.id, s.window_from, s.window_until, s.finished_at, s.created, s.updated, s.removed"
            "  FROM sync_runs s WHERE s.account_id = c.account_id AND s.connection_id = c.id AND s.kind = 'catch_up'"
            "  AND s.state = 'finished' ORDER BY s.id DESC LIMIT 1) AS r WHERE c.account_id = :account"
        ),
        {"account": scope.account_id},
    ).mappings()
    return {row["connection_id"]: row for row in rows}


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
    problem = stored(row["state_problem"], row["state_detail"])
    return f"{name}: {problem.title}", f"{problem.cause}\n\n{problem.fix}\n\n{public_url}/stores\n"
