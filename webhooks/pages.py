"""Deliveries: what came in, what became of it, and once more."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, abort, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from gateway.accounts import audit
from gateway.connections import model
from gateway.web import wording
from gateway.web.formats import common_zone
from gateway.web.request import number, payloads, requires, scope, transaction
from webhooks import inbox, listing

PAGE_SIZE = 50

deliveries = Blueprint("deliveries", __name__, url_prefix="/deliveries")


@deliveries.get("")
def index() -> str:
    """The list, newest first, narrowed by state, store and topic."""
    given = request.args.get("state")
    state = given if given in wording.DELIVERY else None
    topic = request.args.get("topic", "").replace("\x00", "")[:100] or None
    with transaction() as tx:
        stores = model.list_stores(tx, scope())
        topics = listing.recent_topics(tx, scope())
        rows = listing.list_deliveries(
            tx, scope(), state=state, store_id=number("store"), topic=topic, before=number("before"),
            limit=PAGE_SIZE + 1,
        )  # fmt: skip
    more = len(rows) > PAGE_SIZE
    rows = rows[:PAGE_SIZE]
    chosen = {"state": state, "store": number("store"), "topic": topic}
    return render_template(
        "deliveries.html", zone=common_zone([store for store in stores if chosen["store"] in (None, store["id"])]),
        rows=rows, stores=stores, topics=topics, chosen=chosen,
        newest=_address(chosen) if request.args.get("before") else None,
        older=_address({**chosen, "before": rows[-1]["id"]}) if more else None,
    )  # fmt: skip


@deliveries.get("/<id:delivery_id>")
def show(delivery_id: int) -> str:
    """One delivery with its headers and its body."""
    with transaction() as tx:
        found = listing.get_delivery(tx, scope(), delivery_id)
        content = listing.get_content(tx, payloads(), scope(), delivery_id) if found is not None else None
        if content is not None:
            audit.note(tx, scope(), "delivery", delivery_id)
    if found is None:
        abort(404)
    return render_template(
        "delivery.html", delivery=found, content=content, pretty=listing.pretty(content) if content else None,
        raw=content.body.decode("utf-8", "replace") if content else None,
    )  # fmt: skip


@deliveries.post("/<id:delivery_id>/replay")
@requires("sync")
def replay(delivery_id: int) -> AnyResponse:
    """Apply it once more; it changes nothing that is newer."""
    with transaction() as tx:
        done = inbox.replay(tx, scope(), delivery_id)
    if not done:
        abort(404)
    return redirect(url_for("deliveries.show", delivery_id=delivery_id))


def _address(values: dict[str, Any]) -> str:
    return url_for("deliveries.index", **{name: value for name, value in values.items() if value})
