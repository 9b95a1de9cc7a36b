"""A reading: one sight of one order, cut into guarded parts with their versions, ready for the writer."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

import msgspec

from gateway.domain.order import SHAPE, Core, PartName, Person
from gateway.domain.problems import PAYLOAD_NOT_AN_ORDER, Refused
from gateway.domain.version import Version, is_settled
from gateway.platforms import fields
from gateway.platforms.base import Kind, Normalised, Payload, Platform


@dataclass(frozen=True, slots=True)
class Part:
    """One guarded part: canonical JSON, its version, and the words by which search finds it."""

    version: Version
    shape: int
    content: bytes
    words: str


class Listing(NamedTuple):
    """What lists filter and show, copied from the core."""

    number: str
    placed_at: datetime
    payment_status: str
    fulfilment_status: str
    currency: str
    total: Decimal
    item_count: int


class Key(NamedTuple):
    """An order's name: sorted, so that two writers never wait for each other in a circle."""

    connection_id: int
    external_id: str


@dataclass(frozen=True, slots=True)
class Reading:
    """`exists_at`: for reads alone, when the order was seen to be there; a webhook proves no existence."""

    account_id: int
    connection_id: int
    external_id: str
    core: Part
    person: Part | None
    listing: Listing
    customer_name: str
    raw: bytes
    raw_kind: Kind
    exists_at: datetime | None
    source_id: int | None
    reread_at: datetime
    """By our own clock: when a tie within this second can be settled by another read."""
    person_raw: bytes | None = None
    person_raw_kind: Kind | None = None
    """The payload of the person part, where it came with another one than the core."""

    @property
    def key(self) -> Key:
        return Key(self.connection_id, self.external_id)

    @property
    def parts(self) -> list[tuple[PartName, Part]]:
        """The parts that it carries, by name."""
        return [("core", self.core)] if self.person is None else [("core", self.core), ("person", self.person)]


_encode = msgspec.json.Encoder(decimal_format="string", order=None).encode


def read_order(
    platform: Platform,
    payload: Payload,
    raw: bytes,
    *,
    kind: Kind,
    observed_at: datetime | None,
    received_at: datetime,
    account_id: int,
    connection_id: int,
    granted: Collection[PartName],
    source_id: int | None = None,
) -> Reading:
    """Normalise one payload and give its parts their versions. Raises Refused naming the field that can't be read.

    `observed_at`: when the content was true by the platform's clock. Without one the read settles nothing and counts
    as old as it can be: true at its own updated_at.
    """
    try:
        order = _normalised(platform, payload, kind, granted)
        core, person = canonical(order.core), None if order.person is None else canonical(order.person)
        strange = b"\\u0000" in core or (person is not None and b"\\u0000" in person)
    except UnicodeEncodeError:
        strange = True
    if strange:
        # PostgreSQL holds neither NUL nor lone surrogates. Asked after the fact, so that the usual order pays nothing.
        order = _normalised(platform, fields.cleaned(payload), kind, granted)
        core, person = canonical(order.core), None if order.person is None else canonical(order.person)
    margin = platform.capabilities.settled_after
    settled = kind == "api" and observed_at is not None and is_settled(order.updated_at, observed_at, after=margin)
    seen_at = observed_at if observed_at is not None else order.updated_at
    return Reading(
        account_id=account_id,
        connection_id=connection_id,
        external_id=order.external_id,
        core=Part(Version(0, order.updated_at, settled, seen_at, digest(core)), SHAPE, core, core_words(order.core)),
        person=None
        if person is None or order.person is None
        else Part(
            Version(0, order.updated_at, settled, seen_at, digest(person)), SHAPE, person, person_words(order.person)
        ),
        listing=_listing(order.core),
        customer_name="" if order.person is None else order.person.name,
        raw=raw,
        raw_kind=kind,
        exists_at=observed_at if kind == "api" else None,
        source_id=source_id,
        reread_at=received_at + margin,
    )


def _normalised(platform: Platform, payload: Payload, kind: Kind, granted: Collection[PartName]) -> Normalised:
    """Sums and prices are reckoned from what was read, and may leave the range in which amounts are exact."""
    try:
        return platform.normalise(payload, kind=kind, granted=granted)
    except ArithmeticError:
        raise fields.refuse("total", "the amounts together are beyond what can be reckoned with") from None
    except (AttributeError, TypeError, LookupError) as error:
        # A list where an object belongs, deep inside: this order fails, and neither its page nor its batch.
        why = f"it is built otherwise than this platform's orders are ({type(error).__name__})"
        raise Refused(PAYLOAD_NOT_AN_ORDER, why, why=why) from None


def canonical(part: Core | Person) -> bytes:
    """The one JSON text of a part: fields in the order of their declaration, amounts as texts, times with a Z."""
    return _encode(part)


def digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


MOST_WORDS = 65_536
"""Characters of a part that search looks through: PostgreSQL takes no more than 1 MB for both."""


def core_words(core: Core) -> str:
    """Number (with and without its sign), SKUs and tracking numbers."""
    words = [core.number, core.number.lstrip("#")]
    words += [line.sku for line in core.lines[:100] if line.sku]
    words += [parcel.tracking_number for parcel in core.shipments if parcel.tracking_number]
    return " ".join(words)[:MOST_WORDS]


def person_words(person: Person) -> str:
    names = {person.name, *(address.name for address in (person.billing, person.shipping) if address)}
    return " ".join([person.email, *sorted(names)])[:MOST_WORDS]


def _listing(core: Core) -> Listing:
    items = int(sum(line.current_quantity for line in core.lines))
    if abs(items) > 2**31 - 1:
        raise fields.refuse("quantity", "all lines together are more than can be counted")
    return Listing(
        number=core.number,
        placed_at=core.placed_at,
        payment_status=core.payment_status,
        fulfilment_status=core.fulfilment_status,
        currency=core.currency,
        total=core.total,
        item_count=items,
    )
