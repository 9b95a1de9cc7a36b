"""Which orders a WooCommerce list means: its parameters, their bounds in two clocks, and how they are refused.

Facts: platform sheet woocommerce.md, 8 to 10; the probes in captures woocommerce-pairs 16.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from datetime import UTC, datetime
from typing import Any

from werkzeug.wrappers import Request

from gateway.sandbox.orders import Order
from gateway.sandbox.woocommerce import STATUSES, WooStore

_DATE = re.compile(r"^(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(\.\d+)?([Zz]|[+-]\d\d:?\d\d)?$")


class Refused(Exception):
    """An answer that is an error object."""

    def __init__(self, status: int, code: str, message: str, **data: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"code": code, "message": message, "data": {"status": status, **data}}


def invalid(name: str, message: str, code: str = "rest_invalid_param") -> Refused:
    """400 as WordPress words it (capture pairs 15)."""
    return Refused(
        400, "rest_invalid_param", f"Invalid parameter(s): {name}", params={name: message},
        details={name: {"code": code, "message": message, "data": None}},
    )  # fmt: skip


def found(store: WooStore, request: Request, sort: str) -> list[Order]:
    """The orders that all filters let through, ascending; equal times ascend by id (sheet fact 9)."""
    args = request.args
    gmt = args.get("dates_are_gmt", "").lower() in ("true", "1")
    keys, rows = store.sorted_by(sort)
    for name, column in (("modified", "updated"), ("", "created")):
        prefix = f"{name}_" if name else ""
        after, before = args.get(f"{prefix}after"), args.get(f"{prefix}before")
        lower = _limit(store, after, f"{prefix}after", gmt)
        upper = _limit(store, before, f"{prefix}before", gmt)
        if lower is None and upper is None:
            continue
        if gmt and column == sort and len(keys) == len(rows):  # keys only fit rows that nothing has thinned yet
            low = bisect_left(keys, (_epoch(lower) + 1, 0)) if lower else 0
            high = bisect_left(keys, (_epoch(upper), 0)) if upper else len(rows)
            rows = rows[low:high]
        else:
            rows = [row for row in rows if _between(store, getattr(row, column), lower, upper, gmt)]
    include, exclude = _ids(args, "include"), _ids(args, "exclude")
    allowed = _statuses(store, request) or _known(store)
    return [
        row for row in rows if row.status in allowed and (not include or row.id in include) and row.id not in exclude
    ]


def _known(store: WooStore) -> frozenset[str]:
    # Any status leaves out the trash (sheet fact 10).
    # capture pairs 11/3: with the plugin off, its orders leave every list but still answer by id.
    return frozenset(STATUSES) - {"checkout-draft"} | frozenset(store.plugin_statuses)


def _limit(store: WooStore, text: str | None, name: str, gmt: bool) -> datetime | None:
    """The bound as WooCommerce reads it: naive, to be compared with the GMT or the local column.

    Sheet fact 8: a value with Z or an offset is turned into the store's local time and then, with dates_are_gmt,
    compared with GMT all the same.
    """
    del gmt
    if text is None or text == "":
        return None
    match = _DATE.match(text)
    if not match:
        raise invalid(name, "Invalid date.", "rest_invalid_date")
    try:
        naive = datetime(*map(int, match.groups()[:6]))  # type: ignore[arg-type]  # noqa: DTZ001
        zone = match.group(8)
        if zone is None:
            return naive
        suffix = "+00:00" if zone in "Zz" else zone
        aware = datetime.fromisoformat(naive.isoformat() + suffix)
    except ValueError as error:
        raise invalid(name, "Invalid date.", "rest_invalid_date") from error
    return aware.astimezone(store.zone).replace(tzinfo=None)


def _epoch(naive: datetime) -> int:
    return int(naive.replace(tzinfo=UTC).timestamp())


def _between(store: WooStore, second: int, lower: datetime | None, upper: datetime | None, gmt: bool) -> bool:
    """Strictly between, to the second (sheet fact 8)."""
    value = (store.utc(second) if gmt else store.local(second)).replace(tzinfo=None)
    return (lower is None or value > lower) and (upper is None or value < upper)


def _statuses(store: WooStore, request: Request) -> frozenset[str] | None:
    """The wanted statuses; None for any, which leaves out the trash."""
    given = [value for name in ("status", "status[]") for value in request.args.getlist(name)]
    wanted = [each for value in given for each in value.split(",") if each]
    valid = ("any", "trash", "auto-draft", *STATUSES, *store.plugin_statuses)
    for index, each in enumerate(wanted):
        if each not in valid:
            listed = ", ".join(valid[:-1]) + f", and {valid[-1]}"
            raise invalid("status", f"status[{index}] is not one of {listed}.", "rest_not_in_enum")
    return None if not wanted or "any" in wanted else frozenset(wanted)


def _ids(args: Any, name: str) -> frozenset[int]:
    given = [value for key in (name, f"{name}[]") for value in args.getlist(key)]
    try:
        return frozenset(int(each) for value in given for each in value.split(",") if each.strip())
    except ValueError as error:
        raise invalid(name, f"{name}[0] is not of type integer.", "rest_invalid_type") from error


def whole(text: str | None, name: str, default: int, low: int, high: int | None) -> int:
    if text is None or text == "":
        return default
    try:
        number = int(text)
    except ValueError as error:
        raise invalid(name, f"{name} is not of type integer.", "rest_invalid_type") from error
    if number < low or (high is not None and number > high):
        limit = f"between {low} (inclusive) and {high} (inclusive)" if high else f"greater than or equal to {low}"
        raise invalid(name, f"{name} must be {limit}", "rest_out_of_bounds")
    return number


def choice(text: str, name: str, allowed: tuple[str, ...]) -> str:
    if text not in allowed:
        listed = ", ".join(allowed[:-1]) + f", and {allowed[-1]}"
        raise invalid(name, f"{name} is not one of {listed}.", "rest_not_in_enum")
    return text
