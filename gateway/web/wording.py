"""Our words for what is stored: statuses, topics, fields and outcomes, with the tone in which they are shown.

Tones are four meanings: ok, wait, bad, mute; and info for what is under way. A word always stands beside the colour.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from flask import Flask
from flask_babel import gettext, lazy_gettext

from gateway.domain.problems import (
    ACCESS_RUNS_OUT,
    CONNECT_INTERRUPTED,
    KEYS_READ_ONLY,
    KEYS_WRONG,
    PERMISSION_MISSING,
    SHOP_GONE,
    TOKEN_REVOKED,
    Problem,
    stored,
)
from gateway.web.formats import as_instant, date_and_time

Word = tuple[str, Any]
"""Tone and label."""

PAYMENT: Mapping[str, Word] = {
    "pending": ("wait", lazy_gettext("Pending")),
    "authorized": ("info", lazy_gettext("Authorised")),
    "partly_paid": ("info", lazy_gettext("Partly paid")),
    "paid": ("ok", lazy_gettext("Paid")),
    "partly_refunded": ("mute", lazy_gettext("Partly refunded")),
    "refunded": ("mute", lazy_gettext("Refunded")),
    "voided": ("mute", lazy_gettext("Voided")),
    "failed": ("bad", lazy_gettext("Failed")),
    "expired": ("bad", lazy_gettext("Expired")),
    "unknown": ("mute", lazy_gettext("Unknown")),
}
FULFILMENT: Mapping[str, Word] = {
    "unfulfilled": ("wait", lazy_gettext("Unfulfilled")),
    "partly_fulfilled": ("info", lazy_gettext("Partly fulfilled")),
    "fulfilled": ("ok", lazy_gettext("Fulfilled")),
    "restocked": ("mute", lazy_gettext("Restocked")),
    "cancelled": ("bad", lazy_gettext("Cancelled")),
    "unknown": ("mute", lazy_gettext("Unknown")),
}
CONNECTION: Mapping[str, Word] = {
    "connected": ("ok", lazy_gettext("Connected")),
    "degraded": ("wait", lazy_gettext("Degraded")),
    "action_needed": ("bad", lazy_gettext("Action needed")),
    "disconnected": ("mute", lazy_gettext("Disconnected")),
}
RUN: Mapping[str, Word] = {
    "queued": ("wait", lazy_gettext("Waiting")),
    "running": ("info", lazy_gettext("Running")),
    "finished": ("ok", lazy_gettext("Finished")),
    "stopped": ("bad", lazy_gettext("Stopped")),
}
RUN_KIND: Mapping[str, Any] = {
    "manual": lazy_gettext("Sync Order"),
    "preview": lazy_gettext("Preview"),
    "retry": lazy_gettext("Failed orders again"),
    "catch_up": lazy_gettext("Catch-up"),
    "settle": lazy_gettext("Nightly check"),
}
DELIVERY: Mapping[str, Word] = {
    "waiting": ("wait", lazy_gettext("Waiting")),
    "parked": ("wait", lazy_gettext("Parked")),
    "done": ("ok", lazy_gettext("Done")),
    "ignored": ("mute", lazy_gettext("Ignored")),
    "dead": ("bad", lazy_gettext("Failed")),
}
CHANGE: Mapping[str, Word] = {
    "created": ("ok", lazy_gettext("Created")),
    "updated": ("info", lazy_gettext("Updated")),
    "went_back": ("wait", lazy_gettext("The store went back")),
    "removed": ("bad", lazy_gettext("Removed")),
    "restored": ("ok", lazy_gettext("Restored")),
    "erased": ("mute", lazy_gettext("Customer erased")),
}
PRIVACY_KIND: Mapping[str, Any] = {
    "data_request": lazy_gettext("Show what is held of a customer"),
    "redact": lazy_gettext("Erase a customer"),
    "shop_redact": lazy_gettext("Erase the whole shop"),
}
PRIVACY_STATE: Mapping[str, Word] = {
    "waiting": ("wait", lazy_gettext("Waiting")),
    "done": ("ok", lazy_gettext("Done")),
    "refused": ("mute", lazy_gettext("Not done")),
}
OUTCOME: Mapping[str, Any] = {
    "created": lazy_gettext("The order was created"),
    "updated": lazy_gettext("The order was updated"),
    "unchanged": lazy_gettext("Nothing new: the stored order is equal"),
    "newer_here": lazy_gettext("Ignored, older than what is stored"),
    "superseded": lazy_gettext("Ignored, a newer delivery came with it"),
    "reread": lazy_gettext("The order is read again from the store"),
    "checking": lazy_gettext("The connection is being checked"),
    "catch_up": lazy_gettext("The store is being caught up"),
    "ignored": lazy_gettext("Ignored"),
    "privacy": lazy_gettext("A privacy request: see Settings, Privacy"),
    "erased": lazy_gettext("Not applied: its content was erased"),
}
STATE_SENTENCE: Mapping[str, Any] = {
    "connected": lazy_gettext("Orders arrive as they should."),
    "degraded": lazy_gettext("Orders arrive, but something does not work as it should."),
    "action_needed": lazy_gettext("Orders do not arrive until you act."),
    "disconnected": lazy_gettext("This store is not connected; its orders are kept."),
}
MEND: Mapping[str, Any] = {
    "reconnect": lazy_gettext("Reconnect"),
    "repair": lazy_gettext("Repair"),
    "grant": lazy_gettext("Grant permission"),
}
"""The one button beside a state that is not as it should be."""

_GRANTED = frozenset({PERMISSION_MISSING.code, KEYS_READ_ONLY.code})
_RECONNECTED = frozenset(
    problem.code for problem in (TOKEN_REVOKED, SHOP_GONE, KEYS_WRONG, ACCESS_RUNS_OUT, CONNECT_INTERRUPTED)
)

LAYER: Mapping[str, Any] = {
    "name": lazy_gettext("The shop's name leads to a server on the internet"),
    "connection": lazy_gettext("The server takes our calls"),
    "encryption": lazy_gettext("The connection is encrypted, with a certificate that can be trusted"),
    "answer": lazy_gettext("The shop's own API answers"),
    "keys": lazy_gettext("Our keys read orders"),
    "cache": lazy_gettext("Answers are fresh"),
    "writing": lazy_gettext("Our keys may register webhooks"),
    "webhooks": lazy_gettext("Webhooks are registered and switched on"),
}
LAYER_NOTE: Mapping[str, Any] = {
    "plain": lazy_gettext(
        "It is not: this shop answers without encryption, which ALLOW_PRIVATE_STORE_URLS lets through. Never on the"
        " internet."
    ),
    "keys_in_query": lazy_gettext(
        "This host strips the Authorization header, so the keys are sent in the address, over the encrypted connection."
    ),
    "fresh_query": lazy_gettext(
        "This host caches its API's answers, so each call carries a word that never repeats."
        " Better: except addresses with /wp-json/ from caching."
    ),
    "repaired": lazy_gettext(
        "They were missing or switched off, and have just been repaired. What was missed is being caught up."
    ),
    "unknown": lazy_gettext("The store is disconnected, so none are wanted. Connect it again first."),
}
STEP: Mapping[str, Word] = {
    "ok": ("ok", lazy_gettext("Holds")),
    "bad": ("bad", lazy_gettext("Does not hold")),
    "untried": ("mute", lazy_gettext("Not tried")),
}
ROLE: Mapping[str, Word] = {
    "owner": ("ok", lazy_gettext("Owner")),
    "manager": ("info", lazy_gettext("Manager")),
    "viewer": ("mute", lazy_gettext("Viewer")),
}
PLATFORM = {"shopify": "Shopify", "woocommerce": "WooCommerce", "etsy": "Etsy"}
SOURCE: Mapping[str, Any] = {
    "delivery": lazy_gettext("Webhook"),
    "run": lazy_gettext("Sync"),
    "reread": lazy_gettext("Read again from the store"),
    "user": lazy_gettext("By a user"),
    "privacy": lazy_gettext("Privacy request"),
}
FIELD: Mapping[str, Any] = {
    "payment_status": lazy_gettext("Payment"),
    "fulfilment_status": lazy_gettext("Fulfilment"),
    "status": lazy_gettext("Status"),
    "number": lazy_gettext("Number"),
    "placed_at": lazy_gettext("Placed"),
    "currency": lazy_gettext("Currency"),
    "total": lazy_gettext("Total"),
    "subtotal": lazy_gettext("Subtotal"),
    "discount_total": lazy_gettext("Discount"),
    "shipping_total": lazy_gettext("Shipping"),
    "tax_total": lazy_gettext("Tax"),
    "refunded_total": lazy_gettext("Refunded"),
    "current_total": lazy_gettext("Total now"),
    "paid_at": lazy_gettext("Paid at"),
    "completed_at": lazy_gettext("Completed at"),
    "cancelled_at": lazy_gettext("Cancelled at"),
    "cancel_reason": lazy_gettext("Reason of the cancellation"),
    "closed_at": lazy_gettext("Closed at"),
    "quantity": lazy_gettext("Quantity"),
    "current_quantity": lazy_gettext("Quantity now"),
    "unit_price": lazy_gettext("Unit price"),
    "tags": lazy_gettext("Tags"),
    "note": lazy_gettext("Note"),
    "name": lazy_gettext("Name"),
    "email": lazy_gettext("E-mail"),
    "phone": lazy_gettext("Phone"),
    "lines": lazy_gettext("Item"),
    "refunds": lazy_gettext("Refund"),
    "shipments": lazy_gettext("Shipment"),
    "billing": lazy_gettext("Billing address"),
    "shipping": lazy_gettext("Shipping address"),
}

_STEP = re.compile(r"([a-z_0-9]+)(?:\[([^\]]*)\])?")


def word(words: Mapping[str, Word], key: str | None) -> Word:
    """Tone and label; a word that is not ours is shown as it is."""
    return words.get(key or "unknown", ("mute", key or "—"))


def phrase(words: Mapping[str, Any], key: str | None) -> str:
    return str(words.get(key or "", key or "—"))


def field_name(path: str) -> str:
    """A changed field as people call it: lines[7].quantity is "Item 7 > Quantity"."""
    steps = []
    for name, key in _STEP.findall(path):
        label = str(FIELD.get(name, name.replace("_", " ").capitalize()))
        steps.append(f"{label} {key}" if key else label)
    return " > ".join(steps) or path


def field_value(value: Any, path: str = "", zone: str | None = None) -> str:
    """One side of a change, short enough for a line."""
    last = path.rsplit(".", 1)[-1]
    if last in {"payment_status", "fulfilment_status"} and isinstance(value, str):
        return str(word(PAYMENT if last == "payment_status" else FULFILMENT, value)[1])
    if last.endswith("_at") and (moment := as_instant(value)) is not None:
        return f"{date_and_time(moment, zone)}{'' if zone else ' UTC'}"
    match value:
        case None | "" | []:
            return "—"
        case bool():
            return str(gettext("yes") if value else gettext("no"))
        case dict():
            shown = [str(entry) for entry in value.values() if isinstance(entry, str | int) and entry not in ("", None)]
            text = ", ".join(shown)
        case list():
            text = ", ".join(field_value(entry) for entry in value)
        case _:
            text = str(value)
    return text if len(text) <= 160 else f"{text[:159]}…"


def mend_of(state: str, problem: str | None) -> str | None:
    """Which button mends a connection's state; None: nothing is to be mended."""
    if problem in _GRANTED:
        return "grant"
    if state == "disconnected" or problem in _RECONNECTED:
        return "reconnect"
    return None if state == "connected" and problem is None else "repair"


def problem_of(code: str | None, detail: str | None = None) -> Problem | None:
    """The catalogue's entry behind a stored code, in the reader's language; None when there is no code."""
    if not code:
        return None
    told = stored(code, detail)
    return Problem(told.code, gettext(told.title), gettext(told.cause), gettext(told.fix), told.who, told.retry)


def device(user_agent: str) -> str:
    """Browser and system of a log-in, as far as its own words tell."""
    browsers = (("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"),
                ("Safari/", "Safari"))  # fmt: skip
    systems = (("iPhone", "iPhone"), ("iPad", "iPad"), ("Android", "Android"), ("Windows", "Windows"),
               ("Mac OS", "macOS"), ("Linux", "Linux"))  # fmt: skip
    browser = next((name for mark, name in browsers if mark in user_agent), "")
    system = next((name for mark, name in systems if mark in user_agent), "")
    if browser and system:
        return str(gettext("%(browser)s on %(system)s", browser=browser, system=system))
    return browser or system or user_agent[:60] or gettext("Unknown device")


def register(app: Flask) -> None:
    """Make them known to the templates."""
    app.jinja_env.globals.update(
        PAYMENT=PAYMENT, FULFILMENT=FULFILMENT, CONNECTION=CONNECTION, RUN=RUN, DELIVERY=DELIVERY, CHANGE=CHANGE,
        OUTCOME=OUTCOME, RUN_KIND=RUN_KIND, STATE_SENTENCE=STATE_SENTENCE, PLATFORM=PLATFORM, SOURCE=SOURCE, ROLE=ROLE,
        PRIVACY_KIND=PRIVACY_KIND, PRIVACY_STATE=PRIVACY_STATE,
        MEND=MEND, mend_of=mend_of, LAYER=LAYER, LAYER_NOTE=LAYER_NOTE, STEP=STEP,
        word=word, phrase=phrase, field_name=field_name, field_value=field_value, problem_of=problem_of, device=device,
    )  # fmt: skip
