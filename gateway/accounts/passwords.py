"""Passwords: argon2id, computed where it stops no other request."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

MIN_LENGTH = 10
MAX_LENGTH = 1024
"""Longer input is refused before it is hashed."""

_hasher = PasswordHasher()
_NOBODY = _hasher.hash("what nobody types")
"""Checked against when there is no such user, so that the answer takes as long."""

T = TypeVar("T")


def hash_password(password: str) -> str:
    """The argon2id hash to store."""
    return _aside(lambda: _hasher.hash(password))


def is_right(password: str, stored: str | None) -> bool:
    """Whether the password is the one behind `stored`; None (no such user) takes as long and is False."""
    if len(password) > MAX_LENGTH:
        return False

    def check() -> bool:
        try:
            return _hasher.verify(stored or _NOBODY, password)
        except (VerificationError, InvalidHashError):
            return False

    return _aside(check) and stored is not None


def is_outdated(stored: str) -> bool:
    """Whether the hash was made with weaker settings than today's."""
    return _hasher.check_needs_rehash(stored)


def _aside(work: Callable[[], T]) -> T:
    """Do the work in gevent's threadpool when this process is gevent's: 82 ms of stall become 8 (DESIGN section 4)."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("socket"):
        return work()
    import gevent

    done: T = gevent.get_hub().threadpool.apply(work)
    return done
