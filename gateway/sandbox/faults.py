"""What goes wrong on purpose: on the way to the gateway (webhooks) and in the platform's answers (API)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

ALIASES = {"5xx": "server_error", "429": "throttle", "delay": "delay_seconds", "slow": "slow_seconds"}


@dataclass(slots=True)
class Faults:
    """Counts are used up one by one; the two durations stay until they are cleared."""

    lose: int = 0  # the next n webhooks never leave
    duplicate: int = 0  # the next n webhooks are sent twice
    reorder: int = 0  # the next n webhooks are held and then sent in reverse
    delay_seconds: float = 0.0  # every webhook leaves that much later
    throttle: int = 0  # the next n API calls are refused as too many (429; Shopify: THROTTLED)
    server_error: int = 0  # the next n API calls answer 503
    cut: int = 0  # the next n API calls lose their connection in the middle of the answer
    bulk_refuse: int = 0  # Shopify: the next n bulk operations are not taken
    bulk_fail: int = 0  # the next n fail half way, with what they had until then
    bulk_cancel: int = 0  # the next n are cancelled half way, with nothing
    bulk_expire: int = 0  # the links of the next n have expired when they end
    bulk_gone: int = 0  # the next n links lead to nothing
    slow_seconds: float = 0.0  # every API answer is read at once and sent that much later, with a late Date

    def set(self, wanted: dict[str, Any]) -> None:
        """Set the named faults; {"clear": true} ends all others first. Raises ValueError for unknown names."""
        wanted = {ALIASES.get(name, name): value for name, value in wanted.items()}
        if wanted.pop("clear", False):
            for field in dataclasses.fields(self):
                setattr(self, field.name, 0)
        known = {field.name for field in dataclasses.fields(self)}
        for name, value in wanted.items():
            if name not in known:
                typed = sorted((known | set(ALIASES)) - set(ALIASES.values()))
                raise ValueError(f"there is no fault called {name!r}; there are: {', '.join(typed)}")
            number = float(value) if name.endswith("_seconds") else int(value)
            if number < 0:
                raise ValueError(f"{name} can't be negative")
            setattr(self, name, number)

    def take(self, name: str) -> bool:
        """True once for each that is left of the named fault."""
        left = getattr(self, name)
        if left <= 0:
            return False
        setattr(self, name, left - 1)
        return True

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)
