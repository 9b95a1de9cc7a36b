"""Whose data a query may see: every query of tenant tables takes one of these, never a bare id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["owner", "manager", "viewer"]


@dataclass(frozen=True, slots=True)
class AccountScope:
    """One account, and the user of it who asks (None: a job of ours on the account's behalf)."""

    account_id: int
    user_id: int | None = None
    role: Role = "owner"
