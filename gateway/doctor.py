"""`flask doctor`: one command that looks before people leap. A line a check, and exit code 1 when something is wrong.

It changes nothing, calls no store, and tells neither secrets nor whom orders are about: stores are named by their ids.
"""

from __future__ import annotations

import ipaddress
import json
import shutil
import smtplib
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from urllib.parse import urlsplit

import click
import requests
from flask import current_app
from flask.cli import with_appcontext
from sqlalchemy import RowMapping, text
from sqlalchemy.exc import SQLAlchemyError

from config.settings import Settings
from gateway import jobs, mail
from gateway.connections import keys
from gateway.connections.access import Access
from gateway.db import migrate
from gateway.db.engine import Database
from gateway.domain.problems import DATABASE_AWAY, MAIL_NOT_SENT, NeedsOperator, Problem, describe, stored
from gateway.platforms import REGISTRY

State = Literal["ok", "problem", "skipped"]

DURABLE = ("fsync", "synchronous_commit", "full_page_writes")
"""PostgreSQL's settings without which a webhook that was answered 200 can be lost with the power."""

LEAST_ROOM_BYTES = 1024**3
LEAST_ROOM_SHARE = 0.05

CLOCKS_APART_SECONDS = 5.0
"""The database's clock orders jobs and leases, ours signatures and tokens."""

WAITING_TOO_LONG = timedelta(minutes=5)
"""A delivery is applied within a second of its coming; one that failed is tried again for hours, and has a next try."""

REREAD_TOO_LATE = timedelta(minutes=15)

BEHIND = timedelta(hours=1)
BEHIND_WHERE_DAYS_ARE_COUNTED = timedelta(hours=7)
"""Catch-up comes every 15 minutes; Etsy's at the latest every six hours (backfill/catch_up.py)."""

PUBLIC_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check saw. `said`: what is, or what is wrong and why; `fix`: what to do; `code`: of the catalogue."""

    check: str
    state: State
    said: str
    fix: str = ""
    code: str = ""

    def line(self) -> str:
        return f"{self.state:<8} {self.check}: {self.said}" + (f" {self.fix}" if self.fix else "")


def _of(check: str, problem: Problem) -> Finding:
    return Finding(check, "problem", f"{problem.title}. {problem.cause}", problem.fix, problem.code)


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="for machines: {ok, checks: [{check, state, said, fix, code}]}")
@with_appcontext
def doctor(as_json: bool) -> None:
    """Check settings, database, keys, disk, clock, address, worker, mail and every store; exit code 1 on a problem."""
    found = current_app.extensions
    findings = []
    for finding in examine(found["settings"], found["database"], found["access"]):
        findings.append(finding)
        if not as_json:
            click.echo(finding.line())
    wrong = sum(finding.state == "problem" for finding in findings)
    if as_json:
        click.echo(json.dumps({"ok": not wrong, "checks": [asdict(finding) for finding in findings]}, indent=2))
    else:
        click.echo("Everything is as it should be." if not wrong else f"{wrong} to mend.")
    if wrong:
        raise click.exceptions.Exit(1)


def examine(settings: Settings, database: Database, access: Access) -> Iterator[Finding]:
    """Every check, in the order in which one rests on another."""
    yield from _settings(settings)
    yield _disk(settings)
    yield _public_url(settings)
    yield _smtp(settings)
    answers = _database(database)
    yield answers
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "durability": lambda: _durability(database),
        "clock": lambda: _clock(database),
        "migrations": lambda: _migrations(database),
        "partitions": lambda: _partitions(database),
        "keys": lambda: _keys(database, access),
        "worker": lambda: _worker(database),
        "deliveries": lambda: _deliveries(database),
        "rereads": lambda: _rereads(database),
        "stores": lambda: _stores(database),
    }
    why = "" if answers.state == "ok" else "the database does not answer as it should"
    for name, check in checks.items():
        if why:
            yield Finding(name, "skipped", f"not looked at: {why}")
            continue
        try:
            for finding in check():
                yield finding
                if (finding.check, finding.state) == ("migrations", "problem"):
                    why = "the tables are another release's"
        except SQLAlchemyError as error:
            yield Finding(name, "problem", f"The database refused the question ({type(error).__name__}).",
                          "Look into PostgreSQL's log.")  # fmt: skip


# --- this process's surroundings -------------------------------------------------------------------------------------
def _settings(settings: Settings) -> Iterator[Finding]:
    """That what is needed is set was checked before any command runs; here, that it goes together."""
    is_public = not _is_loopback(settings.public_url)
    wrong = (
        (is_public and settings.allow_private_store_urls,
         "ALLOW_PRIVATE_STORE_URLS is on while PUBLIC_URL is not this machine: whoever types a store's URL can reach"
         " your network.", "Take it out."),
        (bool(settings.shopify_client_id) != bool(settings.shopify_client_secret),
         "Of SHOPIFY_CLIENT_ID and SHOPIFY_CLIENT_SECRET only one is set.", "Set both, or neither."),
        (bool(settings.etsy_keystring) != bool(settings.etsy_shared_secret),
         "Of ETSY_KEYSTRING and ETSY_SHARED_SECRET only one is set.", "Set both, or neither."),
        (bool(settings.etsy_keystring) and not settings.etsy_webhook_secrets,
         "ETSY_KEYSTRING is set and ETSY_WEBHOOK_SECRETS is not, so Etsy's webhooks are refused.",
         "Set it to the secret that Etsy's webhook portal shows."),
        (settings.erasure_ledger is None,
         "Neither ERASURE_LEDGER nor DATA_DIR is set: a restored backup would bring erased customers back.",
         "Set ERASURE_LEDGER to a file that your backups of the database do not hold."),
    )  # fmt: skip
    found = [Finding("settings", "problem", said, fix) for is_wrong, said, fix in wrong if is_wrong]
    yield from found or [Finding("settings", "ok", "complete")]


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _disk(settings: Settings) -> Finding:
    folder = settings.data_dir
    if folder is None:
        return Finding("disk", "skipped", "DATA_DIR is not set; look at the database's disk where it runs")
    try:
        room = shutil.disk_usage(folder)
    except OSError as error:
        return Finding("disk", "problem", f"DATA_DIR can't be looked at: {error.strerror}.",
                       "Make the folder, or correct DATA_DIR.")  # fmt: skip
    free = f"{room.free / 1024**3:.1f} GiB free, {room.free / room.total:.0%}"
    if room.free < LEAST_ROOM_BYTES or room.free < LEAST_ROOM_SHARE * room.total:
        return Finding("disk", "problem", f"The disk of DATA_DIR is almost full: {free}. When it is full, webhooks are"
                       " answered 503.", "Make room, or give it a larger disk.")  # fmt: skip
    return Finding("disk", "ok", free)


def _public_url(settings: Settings) -> Finding:
    """Ask as a platform would: without following redirects, which none of them does for a webhook."""
    url = settings.public_url
    if not _is_loopback(url) and not url.startswith("https://"):
        return Finding("public url", "problem", f"{url} is not https: platforms send no webhooks there, and passwords"
                       " travel in the clear.", "Put a proxy with TLS before the gateway and set PUBLIC_URL to its"
                       " https address.")  # fmt: skip
    look = "Start web; check PUBLIC_URL, the proxy, the DNS and its certificate."
    try:
        # No proxy reaches this machine's own loopback.
        direct = {"no_proxy": urlsplit(url).hostname or ""} if _is_loopback(url) else None
        answer = requests.get(f"{url}/healthz", timeout=PUBLIC_SECONDS, allow_redirects=False, proxies=direct)
        said = answer.json() if answer.status_code == 200 else None
    except requests.exceptions.JSONDecodeError:
        said = None
    except requests.RequestException as error:
        return Finding("public url", "problem", f"{url} can't be reached from here ({type(error).__name__}).", look)
    if not (isinstance(said, dict) and "ready" in said):
        return Finding("public url", "problem", f"{url}/healthz answers {answer.status_code}, but not as this gateway"
                       " does: platforms and people land somewhere else.", look)  # fmt: skip
    return Finding("public url", "ok", f"{url} is this gateway")


def _smtp(settings: Settings) -> Finding:
    if not settings.smtp_url:
        return Finding("mail", "skipped", "SMTP_URL is not set; mails are read under Settings, Users")
    try:
        mail.greet(settings.smtp_url)
    except (OSError, smtplib.SMTPException) as error:
        return Finding("mail", "problem", f"The server of SMTP_URL does not greet us ({type(error).__name__}).",
                       "Check SMTP_URL, and that this machine may connect to it.", MAIL_NOT_SENT.code)  # fmt: skip
    return Finding("mail", "ok", "the mail server answers")


# --- the database ----------------------------------------------------------------------------------------------------
_WHY_AWAY = (
    "password authentication failed", "does not exist", "no pg_hba.conf entry", "Connection refused", "No such file",
    "timeout expired", "Name or service not known", "too many clients", "starting up", "shutting down",
)  # fmt: skip
"""What may be told of libpq's own words, which can hold parts of the URL."""


def _database(database: Database) -> Finding:
    try:
        with database.transaction() as tx:
            version = int(tx.execute(text("SHOW server_version_num")).scalar_one())
            reads_only = tx.execute(text("SHOW transaction_read_only")).scalar_one() == "on"
    except SQLAlchemyError as error:
        why = next((phrase for phrase in _WHY_AWAY if phrase in str(error)), type(error).__name__)
        return Finding("database", "problem", f"PostgreSQL can't be reached with DATABASE_URL ({why}).",
                       "Start it, or correct DATABASE_URL.", DATABASE_AWAY.code)  # fmt: skip
    if version < migrate.MINIMUM_SERVER:
        return Finding("database", "problem", f"PostgreSQL 18 or newer is needed; this one is {version // 10000}.",
                       "Upgrade it, or set DATABASE_URL to a newer one.")  # fmt: skip
    if reads_only:
        return Finding("database", "problem", "The database takes no writes: it is a standby, or set read-only.",
                       "Set DATABASE_URL to the primary.")  # fmt: skip
    return Finding("database", "ok", f"PostgreSQL {version // 10000}.{version % 10000}")


def _durability(database: Database) -> Iterator[Finding]:
    with database.transaction() as tx:
        off = [name for name in DURABLE if tx.execute(text(f"SHOW {name}")).scalar_one() == "off"]
    if off:
        yield Finding("durability", "problem", f"{' and '.join(off)} off: webhooks that were answered 200 can be lost"
                      " when the power fails.", "Switch on in postgresql.conf, and reload.")  # fmt: skip
    else:
        yield Finding("durability", "ok", f"{', '.join(DURABLE)} are on")


def _clock(database: Database) -> Iterator[Finding]:
    with database.transaction() as tx:
        before = time.time()
        theirs = float(tx.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())
        after = time.time()
    apart = max(before - theirs, theirs - after, 0.0)  # within the question's own time nobody can tell
    if apart > CLOCKS_APART_SECONDS:
        yield Finding("clock", "problem", f"This machine's clock and the database's are {apart:.0f} s apart.",
                      "Set both by NTP.")  # fmt: skip
    else:
        yield Finding("clock", "ok", "as the database's")


def _migrations(database: Database) -> Iterator[Finding]:
    with database.transaction() as tx:
        is_newest = migrate.is_newest(tx)
    if is_newest:
        yield Finding("migrations", "ok", "the tables are this release's")
    else:
        yield Finding("migrations", "problem", "The database's tables are not this release's.",
                      "Run: flask --app app:create_app migrate")  # fmt: skip


def _partitions(database: Database) -> Iterator[Finding]:
    with database.transaction() as tx:
        missing = migrate.missing_partitions(tx, datetime.now(UTC))
    if missing:
        yield Finding("partitions", "problem", f"{' and '.join(missing)} not made: what comes then goes to the default"
                      " partition, beside which a month's own can't be made any more. Workers make them each night.",
                      "Run: flask --app app:create_app migrate")  # fmt: skip
    else:
        yield Finding("partitions", "ok", "made for this month and the next")


def _keys(database: Database, access: Access) -> Iterator[Finding]:
    try:
        keys.try_each(database, access.vault)
    except NeedsOperator as error:
        yield _of("keys", describe(error.problem, dict(error.facts)))
    else:
        yield Finding("keys", "ok", "stored secrets open")


# --- the work --------------------------------------------------------------------------------------------------------
def _worker(database: Database) -> Iterator[Finding]:
    age = _age(database, "SELECT max(last_heartbeat) FROM procrastinate_workers")
    fix = "Start one: flask --app app:create_app worker"
    if age is None:
        yield Finding("worker", "problem", "No worker is running: webhooks are stored, but not applied.", fix)
    elif age.total_seconds() > jobs.STALLED_AFTER_SECONDS:
        yield Finding("worker", "problem", f"The last sign of life of a worker is {_long(age)} old: webhooks are"
                      " stored, but not applied.", fix)  # fmt: skip
    else:
        yield Finding("worker", "ok", "running")


def _deliveries(database: Database) -> Iterator[Finding]:
    # One that failed waits for its next try, which is not late.
    age = _age(database, "SELECT min(greatest(received_at, next_attempt_at)) FROM deliveries WHERE state = 'waiting'")
    if age is not None and age > WAITING_TOO_LONG:
        yield Finding("deliveries", "problem", f"The oldest waiting webhook has been due for {_long(age)}.",
                      "See that workers run, and what they log.")  # fmt: skip
    else:
        yield Finding("deliveries", "ok", "none waits for long")


def _rereads(database: Database) -> Iterator[Finding]:
    age = _age(database, "SELECT min(r.due_at) FROM rereads r JOIN connections c ON c.id = r.connection_id"
               " WHERE c.state IN ('connected', 'degraded')")  # fmt: skip
    if age is not None and age > REREAD_TOO_LATE:
        yield Finding("rereads", "problem", f"The oldest order to be read again has been due for {_long(age)}.",
                      "See that workers run, and what the stores answer: Test connection under"
                      " Store → Integrations.")  # fmt: skip
    else:
        yield Finding("rereads", "ok", "none waits for long")


def _age(database: Database, statement: str) -> timedelta | None:
    with database.transaction() as tx:
        age: timedelta | None = tx.execute(text(f"SELECT now() - ({statement})")).scalar()
    return age


_STORES = """
SELECT id, platform, state, state_problem, state_detail,
  now() - skew_ms * interval '1 millisecond' - coalesce(watermark, installed_at) AS behind
FROM connections ORDER BY id
"""


def _stores(database: Database) -> Iterator[Finding]:
    with database.transaction() as tx:
        rows = tx.execute(text(_STORES)).mappings().all()
    yield from map(_store, rows) if rows else [Finding("stores", "skipped", "none is connected yet")]


def _store(row: RowMapping) -> Finding:
    name = f"store {row['id']} ({row['platform']})"
    behind = f"in step until {_long(row['behind'])} ago"
    if row["state"] == "disconnected":
        return Finding(name, "skipped", "disconnected")
    if row["state_problem"]:
        problem = stored(row["state_problem"], row["state_detail"])
        return Finding(name, "problem", f"{problem.title}. {problem.cause} ({behind})", problem.fix, problem.code)
    counts_days = REGISTRY[row["platform"]].capabilities.calls_per_day
    if row["behind"] > (BEHIND_WHERE_DAYS_ARE_COUNTED if counts_days else BEHIND):
        return Finding(name, "problem", f"Catch-up does not get through: {behind}.",
                       "See its runs under Sync Order, History, and what the worker logs.")  # fmt: skip
    return Finding(name, "ok", f"{row['state'].replace('_', ' ')}, {behind}")


def _long(span: timedelta) -> str:
    seconds = max(0, int(span.total_seconds()))
    for size, name in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {name}"
    return f"{seconds} s"
