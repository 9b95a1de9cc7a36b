"""Where the platform's count and what it listed part: halves of the window are counted until seconds are left."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

from gateway.domain.window import Window, floor_second

MOST_COUNTED = 60
"""Counts that may be asked for: one gap in a window of 60 days takes 23."""


class Gap(NamedTuple):
    """A stretch, of one second where the counting reached so far, of which the platform counts more or fewer orders
    than it lists."""

    window: Window
    counted: int
    seen: int

    def to_store(self) -> list[Any]:
        return [self.window.from_.isoformat(), self.window.until.isoformat(), self.counted, self.seen]


def find(count: Callable[[Window], int | None], seen: Callable[[Window], int], whole: Gap) -> list[Gap]:
    """The narrowest stretches in which both differ, oldest first; at most MOST_COUNTED counts are asked for."""
    open_, found, asked = [whole], [], 0
    while open_:
        gap = open_.pop()
        seconds = gap.window.until - gap.window.from_
        if seconds <= timedelta(seconds=1) or asked >= MOST_COUNTED:
            found.append(gap)
            continue
        middle = max(floor_second(gap.window.from_ + seconds / 2), gap.window.from_ + timedelta(seconds=1))
        first, second = Window(gap.window.from_, middle), Window(middle, gap.window.until)
        counted = count(first)
        asked += 1
        if counted is None:
            found.append(gap)
            continue
        there = seen(first)
        # The other half is what is left: one count a halving.
        for half in (Gap(second, gap.counted - counted, gap.seen - there), Gap(first, counted, there)):
            if half.counted != half.seen:
                open_.append(half)
    return sorted(found, key=lambda gap: gap.window.from_)
