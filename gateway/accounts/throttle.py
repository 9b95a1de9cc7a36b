"""Token buckets in SQL: one limit for all processes. Names are keyed hashes, so the table tells nobody's address."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class Limit:
    """`burst` tries at once, and one more every `seconds_each`."""

    burst: int
    seconds_each: float


LOGIN_BY_EMAIL = Limit(burst=5, seconds_each=60)
LOGIN_BY_ADDRESS = Limit(burst=30, seconds_each=10)
"""Wider: a whole office, or everybody behind one proxy, comes from one address."""

_NOW = "least(:burst, {row}.tokens + greatest(0, extract(epoch FROM :now - {row}.refilled_at)) / :each)"
_HAD = _NOW.format(row="t")
_TAKE = text(f"""
INSERT INTO throttles AS t (bucket, tokens, refilled_at) VALUES (:bucket, :burst - 1, :now)
ON CONFLICT (bucket) DO UPDATE SET
  tokens = CASE WHEN {_HAD} >= 1 THEN {_HAD} - 1 ELSE {_HAD} END, refilled_at = :now
RETURNING {_NOW.format(row="old")} AS had
""")  # noqa: S608 - one expression of ours, used for two rows


def bucket(kind: str, name: str, *, key: str) -> str:
    """The row's name: `kind` and a keyed hash of whom it is about."""
    return f"{kind}:{hmac.new(key.encode(), f'{kind}:{name}'.encode(), hashlib.sha256).hexdigest()[:32]}"


def take(tx: Connection, name: str, limit: Limit, *, now: datetime) -> float:
    """Take one try: 0 when there was one, else the seconds until there is one again."""
    values = {"bucket": name, "burst": limit.burst, "each": limit.seconds_each, "now": now}
    had = tx.execute(_TAKE, values).scalar_one()
    if had is None or had >= 1:
        return 0.0
    return float(1 - had) * limit.seconds_each


def forget(tx: Connection, name: str) -> None:
    """Give back all tries: whoever logged in proved to be no guesser."""
    tx.execute(text("DELETE FROM throttles WHERE bucket = :bucket"), {"bucket": name})
