"""Settings → Privacy: what customers and platforms ask for, what was done, and erasing by hand. Owners only."""

from __future__ import annotations

from flask import Blueprint, Response, abort, current_app, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from gateway.accounts import audit
from gateway.connections import model, privacy
from gateway.connections.access import Access
from gateway.domain.problems import NOT_ALLOWED, NeedsMerchant
from gateway.orders import freshness
from gateway.platforms.base import PrivacyKind
from gateway.web.formats import common_zone
from gateway.web.request import now, number, scope, transaction

pages = Blueprint("privacy", __name__, url_prefix="/settings/privacy")

LONGEST_SEARCH = 500
MOST_SHOWN = 200


@pages.before_request
def _owners_only() -> None:
    if not scope().may("erase"):
        raise NeedsMerchant(NOT_ALLOWED, role=scope().role)


@pages.get("")
def index() -> str:
    """The requests, and the form that finds whom to erase; `q` and `store` show what it found."""
    words = request.args.get("q", "").replace("\x00", "")[:LONGEST_SEARCH].strip()
    store_id = number("store")
    with transaction() as tx:
        stores = model.list_stores(tx, scope())
        found = None
        if words and store_id is not None:
            found = privacy.find_orders(tx, scope(), store_id, words, limit=MOST_SHOWN)
        audit.note(tx, scope(), "search", len(found or ()))
        platform = next((store["platform"] for store in stores if store["id"] == store_id), "")
        return render_template(
            "privacy.html", requests=privacy.list_requests(tx, scope()), stores=stores, words=words, store_id=store_id,
            found=found, most=MOST_SHOWN, zone=common_zone(stores),
            too_old=lambda order: freshness.is_too_old(platform, order["core_observed_at"], now()),
        )  # fmt: skip


@pages.post("")
def ask() -> AnyResponse:
    """Erase the orders that were shown and ticked, or bring together what is held of them."""
    store_id, kind = number("store", form=True), request.form.get("kind")
    chosen = tuple(request.form.getlist("order")[:MOST_SHOWN])
    with transaction() as tx:
        if store_id is None or model.get_store(tx, scope(), store_id) is None:
            abort(404)
        connection = model.get(tx, store_id)
        assert connection is not None
        if chosen and kind in ("redact", "data_request"):
            subject = privacy.Subject(chosen)
            asked: PrivacyKind = "redact" if kind == "redact" else "data_request"
            privacy.open_by_hand(tx, connection, asked, subject, user_id=scope().user_id)
    return redirect(url_for("privacy.index"))


@pages.get("/<id:request_id>/export")
def export(request_id: int) -> Response:
    """What is held of a customer, as a JSON file."""
    access: Access = current_app.extensions["access"]
    with transaction() as tx:
        content = privacy.export_of(tx, access, scope(), request_id)
        if content is not None:
            audit.note(tx, scope(), "export", request_id)
    if content is None:
        abort(404)
    name = f"customer-data-{request_id}.json"
    return Response(
        content, content_type="application/json", headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )
