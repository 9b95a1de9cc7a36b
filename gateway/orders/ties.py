"""Which orders only another read can settle: ties within a second, sources that went back, hints that one is back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from gateway.orders.reading import Key, Part, Reading
from gateway.orders.rereads import Wish

APART = timedelta(seconds=61)
"""After a first sight that a source went back: when a second one is late enough to be believed (guard.py)."""


def wishes(
    readings: Sequence[Reading], best: Mapping[Key, Reading], written: Mapping[Key, Any], stored: Mapping[Key, Any]
) -> list[Wish]:
    """The reads that are needed after a batch. `written` and `stored`: what stands there, where the guard let it be
    written and where it refused.

    Two readings of one updated_at with different content, neither settled: which came last within that second is
    unknown until a settled read. A webhook refused by a settled read of its very second, with other content, is a
    contradiction. A settled read of a time older than what is stored needs a second one. A webhook about an order that
    a read found gone hints that it is back.
    """
    wanted = []
    for reading in readings:
        row = written.get(reading.key)
        if _tied_within(reading, best[reading.key]) or (
            _tied_before(reading, row) if row is not None else _tied_with(reading, stored[reading.key])
        ):
            wanted.append(_wish(reading, "tie", reading.reread_at))
        if row is not None and _is_behind(reading, row):
            wanted.append(_wish(reading, "went_back", reading.reread_at + APART))
        state = row if row is not None else stored[reading.key]
        if state.removed_at is not None and (reading.exists_at is None or reading.exists_at >= state.removed_at):
            wanted.append(_wish(reading, "webhook_after_removal", None))
    return wanted


def contradicts(reading: Reading, there: Any) -> bool:
    """Whether a refused webhook says else than a settled read of its very second: the best sign of a wrong adapter."""
    return any(
        not part.version.settled and getattr(there, f"{name}_settled") and _differs(name, part, there)
        for name, part in reading.parts
    )


def _wish(reading: Reading, reason: str, due_at: datetime | None) -> Wish:
    return Wish(reading.account_id, reading.connection_id, reading.external_id, reason, due_at, reading.source_id)


def _tied_within(reading: Reading, best: Reading) -> bool:
    for name, part in reading.parts:
        other: Part | None = getattr(best, name)
        if (
            other is not None
            and not part.version.settled
            and part.version.updated_at == other.version.updated_at
            and part.version.digest != other.version.digest
        ):
            return True
    return False


def _tied_before(reading: Reading, row: Any) -> bool:
    """Against what stood there before this write, and what stands there now."""
    for name, part in reading.parts:
        if part.version.settled:
            continue
        old = getattr(row, f"old_{name}_digest")
        same_shape = getattr(row, f"old_{name}_shape") in (None, part.shape)
        if (
            old is not None
            and same_shape
            and old != part.version.digest
            and getattr(row, f"old_{name}_updated_at") == part.version.updated_at
        ):
            return True
    return False


def _tied_with(reading: Reading, there: Any) -> bool:
    return any(not part.version.settled and _differs(name, part, there) for name, part in reading.parts)


def _differs(name: str, part: Part, there: Any) -> bool:
    """Whether the same version holds another content there."""
    return bool(
        getattr(there, f"{name}_updated_at") == part.version.updated_at
        and getattr(there, f"{name}_digest") != part.version.digest
        and getattr(there, f"{name}_shape") == part.shape
    )


def _is_behind(reading: Reading, row: Any) -> bool:
    """Whether this read left a part with a first sight that waits for its second."""
    return any(
        part.version.settled
        and getattr(row, f"{name}_back_at") is not None
        and part.version.updated_at < getattr(row, f"{name}_updated_at")
        for name, part in reading.parts
    )
