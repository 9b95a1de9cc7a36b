"""Pages about orders and stores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

from flask import Blueprint, abort, redirect, render_template, request, url_for
from sqlalchemy import RowMapping, text
from werkzeug.wrappers import Response as AnyResponse

from gateway.accounts import audit
from gateway.connections import health, model
from gateway.orders import freshness, queries
from gateway.orders.queries import BadCursor, Cursor, OrderFilter
from gateway.platforms import REGISTRY
from gateway.web import wording
from gateway.web.formats import common_zone, zone_of
from gateway.web.request import now, number, requires, scope, transaction

PAGE_SIZE = 50

web = Blueprint("web", __name__)


@dataclass(frozen=True, slots=True)
class Chip:
    """An active filter: what it says, and the address without it."""

    name: str
    label: str
    without: str


@web.get("/")
def home() -> AnyResponse:
    return redirect(url_for("web.orders"))


@web.get("/orders")
def orders() -> str:
    """The list, narrowed by what the address says."""
    with transaction() as tx:
        stores = model.list_stores(tx, scope())
        zone = _zone_of_dates(stores)
        wanted = _filter(zone)
        page = queries.list_orders(tx, scope(), wanted, limit=PAGE_SIZE, cursor=_cursor())
        counted = queries.count_orders(tx, scope())
        by_id = {store["id"]: store for store in stores}
        shown = [one for one in page.orders if one["customer_name"] and not _too_old(one, by_id[one["connection_id"]])]
        audit.note(tx, scope(), "orders", len(shown))
    return render_template(
        "orders.html", page=page, stores=by_id, wanted=wanted, counted=counted, zone=zone, chips=_chips(by_id),
        last_webhook=max((s["last_delivery_at"] for s in stores if s["last_delivery_at"]), default=None),
        dates={name: _date(name) for name in ("from", "until")}, address=_address, too_old=_too_old,
    )  # fmt: skip


@web.get("/orders/<id:order_id>")
def order(order_id: int) -> str:
    """One order with its history."""
    with transaction() as tx:
        found = queries.get_order(tx, scope(), order_id)
        if found is None:
            abort(404)
        store = model.get_store(tx, scope(), found["connection_id"])
        changes = queries.order_changes(tx, scope(), order_id, before=number("before"), limit=PAGE_SIZE + 1)
        deliveries = queries.order_deliveries(tx, scope(), found)
        if found["person"] is not None and not _too_old(found, store):
            audit.note(tx, scope(), "order", order_id)
    if _too_old(found, store):
        return render_template("order_too_old.html", order=found, store=store, asked=request.args.get("asked"))
    return render_template(
        "order.html", order=found, core=found["core"], person=found["person"], store=store,
        changes=changes[:PAGE_SIZE], older=changes[PAGE_SIZE - 1]["id"] if len(changes) > PAGE_SIZE else None,
        deliveries=deliveries,
    )  # fmt: skip


@web.post("/orders/<id:order_id>/read-again")
@requires("sync")
def read_again(order_id: int) -> AnyResponse:
    """Ask the store for one order, now."""
    with transaction() as tx:
        if not freshness.want_again(tx, scope(), order_id):
            abort(404)
    return redirect(url_for("web.order", order_id=order_id, asked=1), 303)


def _too_old(order: Mapping[Any, Any], store: Mapping[Any, Any] | None) -> bool:
    return store is not None and freshness.is_too_old(store["platform"], order["core_observed_at"], now())


@web.get("/stores")
def stores() -> str:
    """Store → Integrations."""
    with transaction() as tx:
        rows = model.list_stores(tx, scope())
        topics = tx.execute(
            text(
                "SELECT connection_id, topic, state, checked_at FROM subscriptions WHERE account_id = :account"
                " ORDER BY connection_id, topic"
            ),
            {"account": scope().account_id},
        ).mappings()
        subscriptions = _grouped(topics)
        refused = tx.execute(
            text(
                "SELECT f.connection_id, f.reason, sum(f.count) AS count FROM signature_failures f"
                " JOIN connections c ON c.id = f.connection_id WHERE c.account_id = :account"
                # Counted by day: today and the day before hold the last 24 hours, and no store is told less.
                " AND f.day > now() - interval '48 hours' AND f.day + interval '1 day' > now() - interval '24 hours'"
                " GROUP BY 1, 2 ORDER BY 1, 3 DESC"
            ),
            {"account": scope().account_id},
        ).mappings()
        failures = _grouped(refused)
        misses, catch_ups = _grouped(health.misses(tx, scope())), health.last_catch_ups(tx, scope())
    return render_template("stores.html", stores=rows, subscriptions=subscriptions, failures=failures,
                           misses=misses, catch_ups=catch_ups, thin={key for key, one in REGISTRY.items()
                           if one.capabilities.thin_hooks}, connected=number("connected"))  # fmt: skip


# --- what the address says -------------------------------------------------------------------------------------
def _filter(zone: str) -> OrderFilter:
    """Days are whole days by the zone's clock; what can't be read narrows nothing."""
    begin, end = _date("from"), _date("until")
    return OrderFilter(
        store_id=number("store"),
        payment_status=_one_of("payment", wording.PAYMENT),
        fulfilment_status=_one_of("fulfilment", wording.FULFILMENT),
        placed_from=_midnight(begin, zone) if begin else None,
        placed_until=_midnight(end + timedelta(days=1), zone) if end else None,
        q=request.args.get("q", "")[:200].strip(),
    )


def _one_of(name: str, known: Mapping[str, Any]) -> str | None:
    given = request.args.get(name)
    return given if given in known else None


def _date(name: str) -> date | None:
    try:
        found = date.fromisoformat(request.args.get(name, ""))
    except ValueError:
        return None
    return found if 1970 <= found.year < 2200 else None


def _midnight(day: date, zone: str) -> datetime:
    return datetime.combine(day, time(), zone_of(zone))


def _cursor() -> Cursor | None:
    """A cursor that is not one of ours gives the first page."""
    given = request.args.get("cursor")
    try:
        return Cursor.read(given) if given else None
    except BadCursor:
        return None


def _zone_of_dates(stores: list[RowMapping]) -> str:
    """By whose clock the list is told and its days begin: the chosen store's, else the common one."""
    chosen = number("store")
    return common_zone([store for store in stores if chosen in (None, store["id"])])


def _address(**changed: Any) -> str:
    """This list's address with some filters changed; from its first page unless a cursor is given."""
    names = ("q", "store", "payment", "fulfilment", "from", "until")
    values: dict[str, Any] = {name: request.args[name] for name in names if request.args.get(name)}
    values.update({name: str(value) for name, value in changed.items() if value is not None})
    return url_for("web.orders", **{name: value for name, value in values.items() if value != ""})


def _chips(stores: Mapping[int, RowMapping]) -> list[Chip]:
    """One chip for each active filter but the search, which has its box."""
    chips = []
    store_id = number("store")
    if store_id is not None:
        name = stores[store_id]["name"] if store_id in stores else str(store_id)
        chips.append(Chip("store", name, _address(store="")))
    for field, words in (("payment", wording.PAYMENT), ("fulfilment", wording.FULFILMENT)):
        chosen = _one_of(field, words)
        if chosen:
            chips.append(Chip(field, str(words[chosen][1]), _address(**{field: ""})))
    if _date("from") or _date("until"):
        shown = " to ".join(day.isoformat() if day else "…" for day in (_date("from"), _date("until")))
        chips.append(Chip("date", shown, _address(**{"from": "", "until": ""})))
    return chips


def _grouped(rows: Any) -> dict[int, list[RowMapping]]:
    found: dict[int, list[RowMapping]] = {}
    for row in rows:
        found.setdefault(row["connection_id"], []).append(row)
    return found
