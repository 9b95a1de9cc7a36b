"""The stretch of time that a sync run covers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

CHOICES_DAYS = (7, 14, 30, 60)
"""What a merchant may choose on the Sync Order page."""


@dataclass(frozen=True, slots=True)
class Window:
    """Half-open [from_, until), UTC, by the platform's clock, on an order's updated time, in whole seconds."""

    from_: datetime
    until: datetime

    def __post_init__(self) -> None:
        if self.from_.tzinfo is None or self.until.tzinfo is None:
            raise ValueError("a window's bounds are aware datetimes")
        if self.from_.microsecond or self.until.microsecond:
            raise ValueError("a window's bounds are whole seconds")
        if self.from_ > self.until:
            raise ValueError("a window ends after it begins")

    def __contains__(self, instant: datetime) -> bool:
        return self.from_ <= instant < self.until

    @classmethod
    def of_days(cls, days: int, *, until: datetime) -> Window:
        """The last `days` times 24 hours before `until` (rounded up to the next whole second)."""
        end = ceil_second(until)
        return cls(end - timedelta(days=days), end)


def floor_second(instant: datetime) -> datetime:
    return instant.replace(microsecond=0)


def ceil_second(instant: datetime) -> datetime:
    return instant if not instant.microsecond else floor_second(instant) + timedelta(seconds=1)
