"""Reading fields of foreign JSON by hand: errors name the field.

By hand because the bench says so: a marshmallow schema takes 64 to 106 µs for an order, which alone is half of what
the drain budget allows for everything (docs/decisions/0002).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

import msgspec

from gateway.domain.problems import PAYLOAD_FIELD, PAYLOAD_NOT_AN_ORDER, Refused

# fmt: off
_NO_DECIMALS = frozenset((
    "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF",
    "XPF",
))
# fmt: on
_THREE_DECIMALS = frozenset(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"))
"""ISO 4217 minor units, as of 2026-11; every other currency has two."""

MOST_DECIMALS = 50
"""A float's rounding noise, written out, stays within this; PostgreSQL holds 16,383."""

MOST_OF_A_LINE = 1_000_000_000
"""What one line's quantity stays below. "1e999999999" is a number too, and would keep a processor busy for years."""

EARLIEST, LATEST = datetime(1900, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
"""Times of orders lie between; at the ends of the calendar no time zone and no margin can be reckoned with."""

LONGEST_ID = 100


def places(currency: str) -> int:
    """How many decimals an amount of this currency has at least."""
    if currency in _NO_DECIMALS:
        return 0
    return 3 if currency in _THREE_DECIMALS else 2


def refuse(name: str, why: str) -> Refused:
    return Refused(PAYLOAD_FIELD, f"{name}: {why}", field=name, why=why)


@lru_cache(maxsize=65_536)
def quantise(amount: str, decimals: int) -> Decimal:
    """The amount with the currency's decimals; digits beyond them are kept, trailing zeros are not.

    So "9.0", "9.00" and "9" are one amount in both shapes, and a store that works with four decimals loses none.
    """
    value = Decimal(amount)
    if not value.is_finite() or abs(value) >= Decimal("1e15"):
        raise InvalidOperation(amount)
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)
    if exponent < -MOST_DECIMALS:
        raise InvalidOperation(amount)
    if -exponent > decimals:
        value = value.normalize()
        exponent = value.as_tuple().exponent
        assert isinstance(exponent, int)
    if -exponent < decimals or exponent > 0:
        value = value.quantize(Decimal(1).scaleb(-decimals))
    # There is no negative nothing.
    return value if value else abs(value)


def money(payload: Mapping[str, Any], name: str, decimals: int) -> Decimal:
    """An amount given as a decimal string or an integer; a float is read by its shortest text."""
    value = optional_money(payload, name, decimals)
    if value is None:
        raise refuse(name, "an amount is missing")
    return value


def optional_money(payload: Mapping[str, Any], name: str, decimals: int) -> Decimal | None:
    value = payload.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise refuse(name, f"{_shown(value)} is not an amount")
    if isinstance(value, int) and abs(value) >= 10**LONGEST_ID:
        raise refuse(name, "a number of that size is not an amount")
    try:
        return quantise(str(value), decimals)
    except InvalidOperation:
        raise refuse(name, f"{_shown(value)} is not an amount") from None


def text(payload: Mapping[str, Any], name: str) -> str:
    """A text; null, absent and "" are one."""
    value = payload.get(name)
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) >= 10**LONGEST_ID:
        raise refuse(name, f"{_shown(value)} is not a text")
    return str(value)


def identity(payload: Mapping[str, Any], name: str = "id") -> str:
    """An id as text: Shopify's reach beyond 2^53, so they are never numbers of ours."""
    value = payload.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, str)) or value in ("", 0):
        raise refuse(name, f"{_shown(value)} is not an id")
    # An id is a key of ours: in an index, in addresses, in messages. Python makes no text of 5,000 digits.
    if isinstance(value, int) and abs(value) >= 10**LONGEST_ID:
        raise refuse(name, "a number of that size is not an id")
    identity = str(value)
    if len(identity) > LONGEST_ID or not (identity.isascii() and identity.isprintable()):
        raise refuse(name, f"{_shown(value)} is not an id")
    return identity


def count(payload: Mapping[str, Any], name: str) -> int | Decimal:
    """A quantity: whole, unless a plugin sells by weight."""
    value = payload.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) >= MOST_OF_A_LINE:
            raise refuse(name, "a number of that size is not a quantity")
        return value
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise refuse(name, f"{_shown(value)} is not a quantity") from None
    if isinstance(value, bool) or value is None or not number.is_finite() or abs(number) >= MOST_OF_A_LINE:
        raise refuse(name, f"{_shown(value)} is not a quantity")
    if -number.as_tuple().exponent > MOST_DECIMALS:  # type: ignore[operator] # it is finite
        raise refuse(name, f"{_shown(value)} is not a quantity")
    return int(number) if number == number.to_integral_value() else number.normalize()


def flag(payload: Mapping[str, Any], name: str) -> bool | None:
    value = payload.get(name)
    if value is None or isinstance(value, bool):
        return value
    raise refuse(name, f"{_shown(value)} is not true or false")


@lru_cache(maxsize=4096)
def _parse(value: str) -> datetime:
    return datetime.fromisoformat(value)


def instant(payload: Mapping[str, Any], name: str, *, naive_is_utc: bool = False) -> datetime:
    value = optional_instant(payload, name, naive_is_utc=naive_is_utc)
    if value is None:
        raise refuse(name, "a date is missing")
    return value


def optional_instant(payload: Mapping[str, Any], name: str, *, naive_is_utc: bool = False) -> datetime | None:
    """A date as an aware UTC instant. `naive_is_utc`: WooCommerce's date_*_gmt carry no offset."""
    value = payload.get(name)
    if value is None or value == "":
        return None
    try:
        moment = _parse(value)
    except (ValueError, TypeError):
        raise refuse(name, f"{_shown(value)} is not a date") from None
    if moment.tzinfo is None:
        if not naive_is_utc:
            raise refuse(name, f"{_shown(value)} has no time zone")
        moment = moment.replace(tzinfo=UTC)
    if not EARLIEST <= moment < LATEST:
        raise refuse(name, f"{_shown(value)} is not a date of our times")
    return moment.astimezone(UTC)


def epoch_seconds(payload: Mapping[str, Any], *names: str) -> datetime | None:
    """The first of these fields that holds a Unix time in seconds."""
    for name in names:
        value = payload.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 4_102_444_800:
            raise refuse(name, f"{_shown(value)} is not a time in seconds")
        if value:
            return datetime.fromtimestamp(value, UTC)
    return None


def objects(payload: Mapping[str, Any], name: str) -> Iterable[Mapping[str, Any]]:
    """A list of objects; absent is empty."""
    value = payload.get(name)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise refuse(name, "it is not a list")
    for entry in value:
        if not isinstance(entry, dict):
            raise refuse(name, f"{_shown(entry)} stands in a list of objects")
    return value


def child(payload: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    value = payload.get(name)
    if value is None:
        return None
    # PHP writes an empty object as an empty list.
    if isinstance(value, list) and not value:
        return None
    if not isinstance(value, dict):
        raise refuse(name, "it is not an object")
    return value


def as_object(body: bytes) -> dict[str, Any]:
    """A JSON object from bytes, or Refused. Python's own parser has the last word: it takes lone surrogates."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = _decode_strangely(body)
    if not isinstance(value, dict):
        raise Refused(PAYLOAD_NOT_AN_ORDER, "it is not a JSON object", why="it is not a JSON object")
    return value


def _decode_strangely(body: bytes) -> Any:
    import json

    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        why = str(error)[:200]
        raise Refused(PAYLOAD_NOT_AN_ORDER, why, why=why) from None


def cleaned(value: Any) -> Any:
    """The same JSON without what PostgreSQL can't hold: NUL and lone surrogates become U+FFFD."""
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {cleaned(key): cleaned(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [cleaned(entry) for entry in value]
    return value


def _shown(value: object) -> str:
    """A value short enough for a message. Only types and numbers: texts may be personal."""
    if isinstance(value, float) or value is None or (isinstance(value, int) and abs(value) < 10**LONGEST_ID):
        return repr(value)
    if isinstance(value, str):
        return f"a text of {len(value)} characters"
    return f"a {type(value).__name__}"
