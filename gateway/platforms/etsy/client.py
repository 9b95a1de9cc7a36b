"""Etsy's Open API v3: receipts by window and singly, and what its answers mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import msgspec

from gateway.domain.problems import (
    PERMISSION_MISSING,
    SHOP_GONE,
    STORE_ERROR,
    STORE_REQUEST_REFUSED,
    STORE_THROTTLED,
    TOKEN_REVOKED,
    NeedsMerchant,
    NeedsOperator,
    Problem,
    Refused,
    Retry,
)
from gateway.domain.window import Window
from gateway.http import Answer
from gateway.platforms.base import Budget, Count, Cursor, Found, Hidden, LookUp, Page, Shop, StoreAccess

PAGE_SIZE = 100
"""Always: more is silently 100, and a page is the last when it is shorter."""

EARLIEST = 946_684_800
"""The smallest time that the description allows."""


class _Head(msgspec.Struct):
    receipt_id: int
    updated_timestamp: int | None = None
    update_timestamp: int | None = None
    created_timestamp: int | None = None
    create_timestamp: int | None = None


class _List(msgspec.Struct):
    results: list[msgspec.Raw]


def call(access: StoreAccess, path: str, *, params: dict[str, str] | None = None, missing_ok: bool = False) -> Answer:
    """One GET; raises what `classify` makes of a refusal. A 404 of a single receipt is left to the caller, and any
    with `missing_ok`."""
    app = access.app
    answer = access.http.call(
        "GET",
        f"{app.etsy_api_url}/application/{path}",
        params=params,
        headers={
            "x-api-key": f"{app.etsy_keystring}:{app.etsy_shared_secret}",
            "Authorization": f"Bearer {access.credentials['access_token']}",
        },
    )
    problem = classify(answer)
    if problem is not None and not (answer.status == 404 and (missing_ok or "/receipts/" in path)):
        raise refusal(problem, answer)
    return answer


def classify(answer: Answer) -> Problem | None:
    if answer.status < 300:
        return None
    if answer.status == 401:
        return TOKEN_REVOKED
    if answer.status == 403:
        return PERMISSION_MISSING
    if answer.status == 404:
        return SHOP_GONE
    if answer.status == 429:
        return STORE_THROTTLED
    return STORE_ERROR if answer.status >= 500 or answer.status < 400 else STORE_REQUEST_REFUSED


def refusal(problem: Problem, answer: Answer) -> Exception:
    why = _message(answer) or f"status {answer.status}"
    if problem in (STORE_THROTTLED, STORE_ERROR):
        return Retry(problem, why, after_seconds=answer.retry_after or 5.0, status=answer.status)
    if problem is STORE_REQUEST_REFUSED:
        return Refused(problem, why, status=answer.status, why=why)
    if "x-api-key" in why or "API key" in why:
        # The app's own key is wrong: no merchant can mend that.
        return NeedsOperator(PERMISSION_MISSING, why, why=why)
    return NeedsMerchant(problem, why, why=why)


def _message(answer: Answer) -> str:
    try:
        value = msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    text = value.get("error_description") or value.get("error") if isinstance(value, dict) else ""
    return str(text)[:200] if text else ""


def budget(answer: Answer) -> Budget | None:
    """What is left of this second and of the last 24 hours, for all shops of the app together."""
    headers = answer.headers
    remaining = headers.get("x-remaining-this-second") or headers.get("x-remaining-this-secon")
    limit = headers.get("x-limit-per-second")
    try:
        if not remaining or not limit:
            return None
        second = Budget(float(remaining), float(limit), float(limit))
        today, day = headers.get("x-remaining-today"), headers.get("x-limit-per-day")
        return second if not today or not day else replace(second, day_left=float(today), day_limit=float(day))
    except ValueError:
        return None


def list_page(access: StoreAccess, window: Window, cursor: Cursor | None, *, size: int = PAGE_SIZE) -> Page:
    """The next receipts of the window by (updated), first those that are not canceled, then those that are; always a
    hundred, whatever `size` says.

    was_canceled is never omitted: what that would mean is unknown (sheet section 3). Keyset, never a growing offset: a
    receipt that changes leaves the list, and all behind it slide. Whether the bounds include their second is not
    documented, so they are asked for one second wider and cut here.
    """
    return _page(access, window, cursor, bounds=("min_last_modified", "max_last_modified"), sort_on="updated")


def relist(access: StoreAccess, window: Window, cursor: Cursor | None) -> Page:
    """The same of those created in the window, whenever they were changed: refunds did not always move the updated
    time (sheet section 3)."""
    return _page(access, window, cursor, bounds=("min_created", "max_created"), sort_on="created")


def _page(access: StoreAccess, window: Window, cursor: Cursor | None, *, bounds: tuple[str, str], sort_on: str) -> Page:
    state = dict(cursor or {"canceled": False, "since": int(window.from_.timestamp()) - 1, "offset": 0})
    params = {
        bounds[0]: str(max(state["since"], EARLIEST)),
        bounds[1]: str(max(int(window.until.timestamp()), EARLIEST)),
        "sort_on": sort_on,
        "sort_order": "asc",
        "limit": str(PAGE_SIZE),
        "offset": str(state["offset"]),
        "was_canceled": "true" if state["canceled"] else "false",
    }
    answer = call(access, f"shops/{access.shop_id}/receipts", params=params)
    try:
        rows = msgspec.json.decode(answer.body, type=_List).results
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # An answer without the list is an error, never "empty".
        raise answer.not_json("it is not a list of receipts") from None
    found = [(_found(bytes(raw), answer), _moment(raw, sort_on)) for raw in rows]
    orders = [order for order, at in found if at is None or at in window]
    return Page(orders, _following(state, [at for _, at in found], window), answer.observed_at)


def _following(state: Cursor, moments: Sequence[datetime | None], window: Window) -> Cursor | None:
    if len(moments) < PAGE_SIZE:
        if state["canceled"]:
            return None
        return {"canceled": True, "since": int(window.from_.timestamp()) - 1, "offset": 0}
    times = [int(at.timestamp()) for at in moments if at is not None]
    # One second back, so that a bound that excludes its second loses none of it.
    since = max(times) - 1 if times else state["since"]
    if since <= state["since"]:
        return {**state, "offset": state["offset"] + PAGE_SIZE}
    return {**state, "since": since, "offset": 0}


def _moment(raw: msgspec.Raw, sort_on: str) -> datetime | None:
    """When a receipt was updated or created; both stand under two names."""
    head = msgspec.json.decode(raw, type=_Head)
    if sort_on == "created":
        seconds = head.created_timestamp or head.create_timestamp
    else:
        seconds = head.updated_timestamp or head.update_timestamp
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def _found(raw: bytes, answer: Answer) -> Found:
    try:
        head = msgspec.json.decode(raw, type=_Head)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise answer.not_json("a receipt without an id stands in the list") from None
    return Found(str(head.receipt_id), _moment(msgspec.Raw(raw), "updated"), raw, answer.observed_at)


def fetch_orders(access: StoreAccess, ids: Sequence[str]) -> Iterator[LookUp]:
    """For each id exactly one answer. A 404 is Hidden, never Gone: an event can beat the API's own view."""
    for identity in ids:
        answer = call(access, f"shops/{access.shop_id}/receipts/{identity}")
        if answer.status == 404:
            yield Hidden(identity)
            continue
        found = _found(answer.body, answer)
        if found.external_id != identity:
            raise answer.not_json("it is another receipt")
        yield found


def count(access: StoreAccess, window: Window) -> Count | None:
    """None: what Etsy's `count` counts is not clear (sheet section 3)."""
    return None


def shop(access: StoreAccess) -> Shop:
    """The shop behind the token; a buyer's account has none."""
    me = call(access, "users/me").json()
    shop_id = str((me.get("shop_id") if isinstance(me, dict) else None) or access.shop_id)
    if shop_id != access.shop_id:
        raise NeedsMerchant(SHOP_GONE, "the token is of another account", why="the token is of another account")
    answer = call(access, f"shops/{shop_id}")
    row = answer.json()
    if not isinstance(row, dict):
        raise answer.not_json("it is not a shop")
    return Shop(shop_id, str(row.get("shop_name") or shop_id), "etsy.com", str(row.get("currency_code") or ""), "")
