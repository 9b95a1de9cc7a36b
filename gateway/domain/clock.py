"""Time as the product means it: aware, UTC."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def now() -> datetime:
    """The time by our own clock. It decides no version: platforms' clocks do (DESIGN section 6)."""
    return datetime.now(UTC)
