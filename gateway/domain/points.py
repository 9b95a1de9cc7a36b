"""Named points at which a test may kill or freeze this process; otherwise they do nothing.

DIE_AT=name or name:how many times it is passed; DIE_WITH=SIGSTOP freezes instead of killing.
"""

from __future__ import annotations

import os
import signal

_DIE_AT, _, _AFTER = os.environ.get("DIE_AT", "").partition(":")
_left = int(_AFTER or 1)


def reached(point: str) -> None:
    """Die at once, as by kill -9, when this is the point that the environment names."""
    if point == _DIE_AT:
        _die()


def _die() -> None:
    global _left
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.Signals[os.environ.get("DIE_WITH", "SIGKILL")])
