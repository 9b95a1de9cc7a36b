"""Whose data a query may see: every query of tenant tables takes one of these, never a bare id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Role = Literal["owner", "manager", "viewer"]
Permission = Literal["connect_stores", "sync", "see_people", "manage_users", "erase"]
"""Connect, test and disconnect stores · start syncs, replay and read again · see who ordered · users and their roles ·
erase people and export what is held of them."""

PERMISSIONS: Mapping[Role, frozenset[Permission]] = {
    "owner": frozenset({"connect_stores", "sync", "see_people", "manage_users", "erase"}),
    "manager": frozenset({"connect_stores", "sync", "see_people"}),
    "viewer": frozenset(),
}


@dataclass(frozen=True, slots=True)
class AccountScope:
    """One account, and the user of it who asks (None: a job of ours on the account's behalf)."""

    account_id: int
    user_id: int | None = None
    role: Role = "owner"

    def may(self, permission: Permission) -> bool:
        """Whether this user's role allows it."""
        return permission in PERMISSIONS[self.role]
