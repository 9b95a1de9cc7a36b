"""Mail to people: written as rows in the caller's transaction, sent by a job with SMTP_URL, readable here without.

A mail may hold a link that opens an account, so its text is stored encrypted, and forgotten once it was sent.
"""

from __future__ import annotations

import smtplib
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

import procrastinate
import structlog
from sqlalchemy import Connection, Engine, RowMapping, text

from gateway import jobs
from gateway.domain.problems import MAIL_NOT_SENT, Retry
from gateway.domain.scope import AccountScope
from gateway.vault import Vault

log = structlog.get_logger("gateway.mail")

TASK = "mail.send"
SECONDS = 20
KEPT_FOR = timedelta(days=8)
"""A day longer than the longest link."""


@dataclass(frozen=True, slots=True)
class Mailer:
    """Where mail goes out. `url`: smtp://user:password@host:port (STARTTLS where offered) or smtps://…; empty: none."""

    url: str
    sender: str


def is_address(value: str) -> bool:
    """Whether mail can be addressed to this: one plain address, nothing that could add a header."""
    if len(value) > 254 or any(ord(letter) < 33 or letter in ',;:<>()[]\\\\"' for letter in value):
        return False
    name, at, host = value.rpartition("@")
    return bool(at and name and "." in host and not host.startswith(".") and not host.endswith("."))


def write(tx: Connection, vault: Vault, account_id: int | None, to: str, subject: str, body: str) -> None:
    """Put a mail into the outbox; it goes out once the transaction commits."""
    mail_id = tx.execute(
        text(
            "INSERT INTO mails (account_id, to_address, subject, body) VALUES (:account, :to, :subject, :body)"
            " RETURNING id"
        ),
        {"account": account_id, "to": to, "subject": subject, "body": vault.close({"text": body})},
    ).scalar_one()
    jobs.defer(tx, TASK, once=f"mail:{mail_id}", mail_id=mail_id)


def write_to_owners(tx: Connection, vault: Vault, account_id: int, subject: str, body: str) -> None:
    """The same mail to each owner of an account."""
    owners = tx.execute(
        text("SELECT email FROM users WHERE account_id = :account AND role = 'owner' ORDER BY id"),
        {"account": account_id},
    ).scalars()  # fmt: skip
    for address in owners.all():
        write(tx, vault, account_id, address, subject, body)


@jobs.app.task(name=TASK, pass_context=True, retry=procrastinate.RetryStrategy(max_attempts=10, exponential_wait=4))
def send(context: procrastinate.JobContext, mail_id: int) -> None:
    """Send one mail. Without SMTP_URL it stays where its account's owners read it."""
    found = context.additional_context
    deliver(found["access"].database.engine, found["access"].vault, found["mailer"], mail_id)


def deliver(engine: Engine, vault: Vault, mailer: Mailer, mail_id: int) -> None:
    """The same for callers without a job. Raises Retry when the mail server did not take it."""
    if not mailer.url:
        return
    with engine.begin() as tx:
        row = tx.execute(
            text("SELECT to_address, subject, body FROM mails WHERE id = :id AND sent_at IS NULL AND body IS NOT NULL"),
            {"id": mail_id},
        ).mappings().first()  # fmt: skip
    if row is None:
        return
    try:
        _send(mailer, row, vault.open_mapping(bytes(row["body"]))["text"])
    except (OSError, smtplib.SMTPException) as error:
        why = type(error).__name__
        log.warning("mail.not_sent", mail=mail_id, why=why)
        with engine.begin() as tx:
            tx.execute(
                text("UPDATE mails SET attempts = attempts + 1, problem = :code WHERE id = :id"),
                {"code": MAIL_NOT_SENT.code, "id": mail_id},
            )
        raise Retry(MAIL_NOT_SENT, why, why=why) from None
    with engine.begin() as tx:
        tx.execute(
            text("UPDATE mails SET sent_at = now(), body = NULL, problem = NULL WHERE id = :id"), {"id": mail_id}
        )
    log.info("mail.sent", mail=mail_id)


def _send(mailer: Mailer, row: RowMapping, body: str) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = mailer.sender, row["to_address"], row["subject"]
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(body)
    server, trusting = urlsplit(mailer.url), ssl.create_default_context()
    connection = _connected(mailer.url, trusting)
    with connection:
        if server.scheme != "smtps":
            connection.ehlo()
            if connection.has_extn("starttls"):
                connection.starttls(context=trusting)
            elif server.username:
                raise smtplib.SMTPNotSupportedError(
                    "the server offers no STARTTLS, and a password would go in the clear"
                )
        if server.username:
            connection.login(unquote(server.username), unquote(server.password or ""))
        connection.send_message(message)


def _connected(url: str, trusting: ssl.SSLContext) -> smtplib.SMTP:
    server = urlsplit(url)
    host = server.hostname or ""
    if server.scheme == "smtps":
        return smtplib.SMTP_SSL(host, server.port or 465, timeout=SECONDS, context=trusting)
    return smtplib.SMTP(host, server.port or 587, timeout=SECONDS)


def greet(url: str) -> None:
    """Connect and say EHLO, nothing more. Raises OSError or SMTPException when no mail could go out there."""
    with _connected(url, ssl.create_default_context()) as connection:
        connection.ehlo_or_helo_if_needed()


def sender_of(public_url: str) -> str:
    """The address that our mails come from: gateway@ the host of PUBLIC_URL."""
    host = urlsplit(public_url).hostname or "localhost"
    return str(Address("Order Gateway", "gateway", host if "." in host and not host[-1].isdigit() else "localhost"))


def list_unsent(tx: Connection, scope: AccountScope, *, limit: int = 50) -> list[RowMapping]:
    """The account's mails that were not sent, newest first, closed."""
    rows = tx.execute(
        text(
            "SELECT id, to_address, subject, body, created_at, problem FROM mails WHERE account_id = :account"
            " AND sent_at IS NULL AND body IS NOT NULL ORDER BY id DESC LIMIT :limit"
        ),
        {"account": scope.account_id, "limit": limit},
    )
    return list(rows.mappings())


@jobs.app.periodic(cron="47 3 * * *")
@jobs.app.task(name="mail.forget", queueing_lock="mail.forget", pass_context=True)
def forget(context: procrastinate.JobContext, timestamp: int) -> None:  # noqa: ARG001 - it is always given
    """Forget mails that nobody sent or read: their links are over by then."""
    with context.additional_context["access"].database.engine.begin() as tx:
        tx.execute(text("DELETE FROM mails WHERE created_at < :before"), {"before": datetime.now(UTC) - KEPT_FOR})
