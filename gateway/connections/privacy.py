"""Duties of privacy law: show what is held of a customer, erase a customer, erase a shop; and the ledger of erasures.

Shopify asks by webhook; for every platform an owner can ask on a page or by `flask erase`. The requests are rows, the
work is one job a store, and each ends recorded: what was done, and when. Facts: Shopify sheet, section 2.1.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import procrastinate
import structlog
from sqlalchemy import Connection as Transaction
from sqlalchemy import RowMapping, text

from gateway import jobs, mail
from gateway.connections import model
from gateway.connections.access import Access
from gateway.connections.disconnect import take_off
from gateway.connections.model import Connection
from gateway.domain.problems import STORE_STILL_CONNECTED, GatewayError, NeedsMerchant, Refused
from gateway.domain.scope import AccountScope
from gateway.orders.erase import Erased, erase_bodies, erase_orders
from gateway.orders.payloads import drop_key, place_of_order
from gateway.platforms import REGISTRY
from gateway.platforms.base import PrivacyKind, PrivacyRequest

log = structlog.get_logger("gateway.privacy")

DEADLINE = timedelta(days=30)
EXPORTS_KEPT = timedelta(days=60)
"""Time to hand an export over; then it goes, and can be asked for again."""

TASK = "privacy.work"
AT_ONCE = 1_000
"""Orders of a whole shop are erased in pieces of this size: one statement each, all in one transaction."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom it is about: orders by the platform's ids, and a customer by id or e-mail address, matched exactly."""

    order_ids: tuple[str, ...] = ()
    customer_id: str = ""
    email: str = ""


# --- asking ----------------------------------------------------------------------------------------------------
def open_from_platform(
    tx: Transaction, connection: Connection, request: PrivacyRequest, *, delivery_id: int, received_at: datetime
) -> None:
    """Keep a platform's request with its deadline, and queue the work; the same delivery again changes nothing."""
    subject = Subject(request.order_ids, request.customer_id, request.email)
    _open(tx, connection, request.kind, subject, received_at=received_at, delivery_id=delivery_id)


def open_by_hand(
    tx: Transaction, connection: Connection, kind: PrivacyKind, subject: Subject, *, user_id: int | None
) -> int:
    """Ask for it here, for a store of any platform; the request's id."""
    made = _open(tx, connection, kind, subject, received_at=datetime.now(UTC), user_id=user_id)
    assert made is not None
    return made


def _open(
    tx: Transaction, connection: Connection, kind: PrivacyKind, subject: Subject, *, received_at: datetime,
    delivery_id: int | None = None, user_id: int | None = None, ledger_key: str | None = None,
) -> int | None:  # fmt: skip
    made: int | None = tx.execute(
        text(
            "INSERT INTO privacy_requests (account_id, connection_id, kind, delivery_id, requested_by, ledger_key,"
            " order_ids, customer_id, email, received_at, due_at) VALUES (:account, :connection, :kind, :delivery,"
            " :user, :key, :orders, :customer, :email, :received, :due) ON CONFLICT DO NOTHING RETURNING id"
        ),
        {
            "account": connection.account_id, "connection": connection.id, "kind": kind, "delivery": delivery_id,
            "user": user_id, "key": ledger_key or uuid.uuid4().hex, "orders": list(subject.order_ids),
            "customer": subject.customer_id or None, "email": subject.email or None, "received": received_at,
            "due": received_at + DEADLINE,
        },
    ).scalar()  # fmt: skip
    if made is not None:
        jobs.defer(tx, TASK, once=f"privacy:{connection.id}", connection_id=connection.id)
    return made


def orders_of(tx: Transaction, connection_id: int, subject: Subject, *, placed_until: datetime) -> list[str]:
    """The platform's ids of the subject's stored orders: those named, and those of exactly this customer."""
    found = tx.execute(
        text(
            "SELECT external_id FROM orders WHERE connection_id = :connection AND (external_id = ANY(:ids)"
            " OR (placed_at <= :until AND ((:customer <> '' AND person->>'customer_id' = :customer)"
            "     OR (:email <> '' AND lower(person->>'email') = lower(:email)))))"
        ),
        {"connection": connection_id, "ids": list(subject.order_ids), "until": placed_until,
         "customer": subject.customer_id, "email": subject.email},
    ).scalars()  # fmt: skip
    return sorted(found)


# --- doing -----------------------------------------------------------------------------------------------------
@jobs.app.task(name=TASK, pass_context=True, retry=procrastinate.RetryStrategy(max_attempts=12, exponential_wait=3))
def work(context: procrastinate.JobContext, connection_id: int) -> None:
    """Do what is asked of one store, oldest first."""
    fulfil_all(context.additional_context["access"], context.additional_context["ledger"], connection_id)


@jobs.app.periodic(cron="47 * * * *")
@jobs.app.task(name="privacy.follow_up", queueing_lock="privacy.follow_up", pass_context=True)
def follow_up(context: procrastinate.JobContext, timestamp: int) -> None:  # noqa: ARG001 - it is always given
    """Every hour: no request is given up, however long a store could not be asked; the ledger is looked into, since a
    store that is connected again after a restore brings back whom it erased; and old exports go."""
    access: Access = context.additional_context["access"]
    again(access, context.additional_context["ledger"])
    with access.database.transaction() as tx:
        tx.execute(
            text("UPDATE privacy_requests SET export = NULL WHERE export IS NOT NULL AND done_at < now() - :kept"),
            {"kept": EXPORTS_KEPT},
        )
        waiting = tx.execute(
            text("SELECT DISTINCT connection_id FROM privacy_requests WHERE state = 'waiting' ORDER BY 1")
        ).scalars()
        for connection_id in waiting.all():
            jobs.defer(tx, TASK, once=f"privacy:{connection_id}", connection_id=connection_id)


def fulfil_all(access: Access, ledger: Path | None, connection_id: int) -> None:
    """The same for callers without a job. What can't be done now keeps its reason, and is raised for another try."""
    failure: GatewayError | None = None
    with access.database.transaction() as tx:
        ids = tx.execute(
            text("SELECT id FROM privacy_requests WHERE connection_id = :id AND state = 'waiting' ORDER BY id"),
            {"id": connection_id},
        ).scalars().all()  # fmt: skip
    for request_id in ids:
        try:
            _fulfil(access, ledger, request_id)
        except Refused as error:
            _close(access, request_id, "refused", error)
        except GatewayError as error:
            _close(access, request_id, "waiting", error)
            failure = error
    if failure is not None:
        raise failure


def _fulfil(access: Access, ledger: Path | None, request_id: int) -> None:
    with access.database.transaction() as tx:
        request = tx.execute(text("SELECT * FROM privacy_requests WHERE id = :id"), {"id": request_id}).mappings().one()
        connection = model.get(tx, request["connection_id"])
    assert connection is not None
    if request["kind"] == "shop_redact" and request["delivery_id"] is not None:
        _require_gone(access, connection)
    subject = Subject(tuple(request["order_ids"]), request["customer_id"] or "", request["email"] or "")
    with access.database.transaction() as tx:
        locked = tx.execute(
            text("SELECT 1 FROM privacy_requests WHERE id = :id AND state = 'waiting' FOR UPDATE"), {"id": request_id}
        ).first()
        if locked is None:
            return
        export: bytes | None = None
        done = Erased(0, 0)
        ids = orders_of(tx, connection.id, subject, placed_until=request["received_at"])
        if request["kind"] == "data_request":
            export = access.vault.close({"export": _export(tx, access, connection, ids)})
            done = Erased(len(ids), 0)
        else:
            ids = sorted({*ids, *subject.order_ids})
            # Before the commit: a crash between the two erases once more, which changes nothing.
            _note(ledger, request, connection, ids)
            if request["kind"] == "redact":
                done = erase_orders(tx, connection.account_id, connection.id, ids, request_id=request_id)
                _forget_exports(tx, connection.id, ids)
            else:
                ids = []
                done = _erase_shop(tx, access, connection, request_id)
        tx.execute(
            text(
                "UPDATE privacy_requests SET state = 'done', done_at = now(), problem = NULL, problem_detail = NULL,"
                " customer_id = NULL, email = NULL, order_ids = :ids, export = :export, orders_count = :orders,"
                " bodies_count = :bodies WHERE id = :id"
            ),
            {"id": request_id, "ids": ids, "export": export, "orders": done.orders, "bodies": done.bodies},
        )
        if request["delivery_id"] is not None:
            erase_bodies(tx, [request["delivery_id"]])  # it names the customer
            if export is not None:
                _tell_owners(tx, access, connection)
    log.info("privacy.done", request=request_id, kind=request["kind"], orders=done.orders, bodies=done.bodies)


def _tell_owners(tx: Transaction, access: Access, connection: Connection) -> None:
    """The platform asks in a customer's name, and it is the store's owner who hands over what is held."""
    name = " ".join(connection.name.split())[:100]
    mail.write_to_owners(
        tx, access.vault, connection.account_id, f"{name}: a customer asks for their data",
        f"A customer of {name} asked to see what is held of them. It is ready to be downloaded:"
        f" {access.public_url}/settings/privacy\n\nHand it over within 30 days.\n",
    )  # fmt: skip


def _require_gone(access: Access, connection: Connection) -> None:
    """shop/redact names no installation, and its header is unsigned: a shop that still lets us in is not erased."""
    try:
        REGISTRY[connection.platform].shop(access.store(connection))
    except NeedsMerchant:
        return
    raise Refused(STORE_STILL_CONNECTED, connection.domain)


def _erase_shop(tx: Transaction, access: Access, connection: Connection, request_id: int) -> Erased:
    """Every person, payload, export and secret of one store; the orders' cores stay as the account's own records."""
    # Who applies webhooks of this store just now is waited for, and whoever comes later finds it taken off.
    tx.execute(
        text("SELECT 1 FROM deliveries WHERE connection_id = :id AND state = 'waiting' ORDER BY id FOR UPDATE"),
        {"id": connection.id},
    )
    take_off(tx, access, connection)
    drop_key(tx, connection.id)
    orders = bodies = 0
    while ids := tx.execute(
        text("SELECT external_id FROM orders WHERE connection_id = :id AND erased_at IS NULL LIMIT :limit"),
        {"id": connection.id, "limit": AT_ONCE},
    ).scalars().all():  # fmt: skip
        done = erase_orders(tx, connection.account_id, connection.id, ids, request_id=request_id)
        orders, bodies = orders + done.orders, bodies + done.bodies
    rest = tx.execute(
        text(
            "SELECT id FROM deliveries WHERE erased_at IS NULL AND (connection_id = :id OR"
            " (connection_id IS NULL AND platform = :platform AND shop = ANY(:names)))"
        ),
        {"id": connection.id, "platform": connection.platform,
         "names": [connection.domain, connection.shop_id, *connection.aliases]},
    ).scalars().all()  # fmt: skip
    bodies += erase_bodies(tx, rest)
    tx.execute(text("UPDATE privacy_requests SET export = NULL WHERE connection_id = :id"), {"id": connection.id})
    return Erased(orders, bodies)


def _forget_exports(tx: Transaction, connection_id: int, ids: Sequence[str]) -> None:
    tx.execute(
        text("UPDATE privacy_requests SET export = NULL WHERE connection_id = :id AND order_ids && :ids"),
        {"id": connection_id, "ids": list(ids)},
    )


def _export(tx: Transaction, access: Access, connection: Connection, ids: Sequence[str]) -> str:
    """All that is held of these orders, as JSON for people and machines: what is stored, what the platform sent of it
    last (which says more), and how it changed."""
    rows = tx.execute(
        text(
            "SELECT o.external_id, o.number, o.placed_at, o.core, o.person, o.raw, o.person_raw,"
            " (SELECT coalesce(json_agg(json_build_object('at', c.at, 'changed', c.fields) ORDER BY c.id), '[]')"
            "  FROM changes c WHERE c.account_id = o.account_id AND c.order_id = o.id) AS history FROM orders o"
            " WHERE o.connection_id = :id AND o.external_id = ANY(:ids) AND o.core_digest IS NOT NULL"
            " ORDER BY o.placed_at, o.id"
        ),
        {"id": connection.id, "ids": list(ids)},
    ).mappings()
    orders = [
        {
            "order": row["number"], "placed_at": row["placed_at"].isoformat(), "content": row["core"],
            "person": row["person"], "history": row["history"],
            "received": [
                json.loads(access.payloads.open(tx, bytes(raw), place_of_order(connection.id, row["external_id"])))
                for raw in (row["raw"], row["person_raw"])
                if raw is not None
            ],
        }
        for row in rows.all()
    ]  # fmt: skip
    told = json.dumps({"store": connection.name, "orders": orders}, ensure_ascii=False, indent=2)
    return told.encode(errors="replace").decode()  # half a pair of surrogates is no text


def _close(access: Access, request_id: int, state: str, error: GatewayError) -> None:
    log.warning("privacy.not_done", request=request_id, problem=error.problem.code)
    with access.database.transaction() as tx:
        tx.execute(
            text(
                "UPDATE privacy_requests SET state = :state, problem = :problem, problem_detail = :detail,"
                " done_at = CASE WHEN CAST(:state AS text) = 'refused' THEN now() END WHERE id = :id"
            ),
            {"id": request_id, "state": state, "problem": error.problem.code, "detail": error.detail[:500]},
        )


# --- the ledger ------------------------------------------------------------------------------------------------
def _note(ledger: Path | None, request: RowMapping, connection: Connection, ids: Sequence[str]) -> None:
    """Write an erasure into a file beside the database: a restored backup does not know of it. It names no person."""
    if ledger is None:
        return
    entry = {
        "key": request["ledger_key"], "at": datetime.now(UTC).isoformat(), "kind": request["kind"],
        "platform": connection.platform, "shop_id": connection.shop_id, "order_ids": list(ids),
    }  # fmt: skip
    with open(os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a", encoding="utf-8") as file:
        # The newline before it parts it from a line that a crash cut off.
        file.write("\n" + json.dumps(entry) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _noted(ledger: Path) -> Iterator[dict[str, Any]]:
    with ledger.open(encoding="utf-8") as file:
        for line in file:
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # a line that a crash cut off: its erasure was not committed either
            yield entry


def again(access: Access, ledger: Path | None) -> int:
    """Ask again for the erasures that this database does not know, after a restore; how many. Done at each start."""
    if ledger is None or not ledger.exists():
        return 0
    asked = 0
    with access.database.transaction() as tx:
        known = set(tx.execute(text("SELECT ledger_key FROM privacy_requests")).scalars())
        for entry in _noted(ledger):
            if entry["key"] in known:
                continue
            connection = model.find_shop(tx, entry["platform"], entry["shop_id"])
            if connection is None:
                continue
            known.add(entry["key"])
            _open(
                tx, connection, entry["kind"], Subject(tuple(entry["order_ids"])),
                received_at=datetime.fromisoformat(entry["at"]), ledger_key=entry["key"],
            )  # fmt: skip
            asked += 1
    if asked:
        log.warning("privacy.asked_again", requests=asked)
    return asked


# --- looking ---------------------------------------------------------------------------------------------------
def list_requests(tx: Transaction, scope: AccountScope, *, limit: int = 100) -> list[RowMapping]:
    """The account's requests, newest first, without whom they are about."""
    rows = tx.execute(
        text(
            "SELECT r.id, r.kind, r.delivery_id, r.received_at, r.due_at, r.state, r.problem, r.problem_detail,"
            " r.done_at, r.orders_count, r.bodies_count, r.export IS NOT NULL AS has_export, c.name AS store_name,"
            " c.platform, c.time_zone, u.email AS requested_by_email FROM privacy_requests r"
            " JOIN connections c ON c.id = r.connection_id LEFT JOIN users u ON u.id = r.requested_by"
            " WHERE r.account_id = :account ORDER BY r.id DESC LIMIT :limit"
        ),
        {"account": scope.account_id, "limit": limit},
    )
    return list(rows.mappings())


def export_of(tx: Transaction, access: Access, scope: AccountScope, request_id: int) -> str | None:
    """What a data_request brought together, as JSON; None when there is none (any more) for this account."""
    closed = tx.execute(
        text("SELECT export FROM privacy_requests WHERE id = :id AND account_id = :account"),
        {"id": request_id, "account": scope.account_id},
    ).scalar()
    return None if closed is None else access.vault.open_mapping(bytes(closed))["export"]


def find_orders(
    tx: Transaction, scope: AccountScope, store_id: int, words: str, *, limit: int = 200
) -> list[RowMapping]:
    """The store's orders that a person names: an e-mail address, or order numbers or ids separated by commas.

    Matched whole, never by a part. Orders whose person is erased already are not among them.
    """
    wanted = [word.strip().lstrip("#") for word in words.split(",") if word.strip()]
    email = wanted[0] if len(wanted) == 1 and "@" in wanted[0] else ""
    rows = tx.execute(
        text(
            "SELECT external_id, number, placed_at, customer_name, core_observed_at FROM orders"
            " WHERE account_id = :account AND connection_id = :store AND erased_at IS NULL AND core_digest IS NOT NULL"
            " AND ((:email <> '' AND lower(person->>'email') = lower(:email))"
            "      OR (:email = '' AND (external_id = ANY(:wanted) OR ltrim(number, '#') = ANY(:wanted))))"
            " ORDER BY placed_at DESC LIMIT :limit"
        ),
        {"account": scope.account_id, "store": store_id, "email": email, "wanted": wanted, "limit": limit},
    )
    return list(rows.mappings())
