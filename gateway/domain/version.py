"""Which of two readings of one order is the newer: a total order, so that applying is commutative."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple


class Version(NamedTuple):
    """Compared as a tuple; the greater wins. All times are the platform's clock, UTC."""

    epoch: int
    updated_at: datetime
    settled: bool
    observed_at: datetime
    digest: bytes


def is_settled(updated_at: datetime, observed_at: datetime, *, after: timedelta) -> bool:
    """Whether a read at `observed_at` has seen everything that happened within the second of `updated_at`.

    `after` is the platform's margin: 2 s, and 60 s for WooCommerce, whose Date may be a proxy's clock.
    """
    return observed_at - updated_at >= after
