"""A webhook on its way: what waits to be sent, the request as it leaves, and what became of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """One HTTP request to the gateway, complete but for Host and Content-Length, which the sender adds."""

    url: str
    method: str
    headers: list[tuple[str, str]]
    body: bytes
    topic: str
    order_id: int | None
    platform: str
    store: str
    attempt: int
    delivery: int  # names it to World.record
    timeout_seconds: float = 60.0

    @property
    def path(self) -> str:
        return urlsplit(self.url).path

    def header(self, name: str) -> str | None:
        """The first header of that name, whatever its case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


@dataclass(slots=True)
class Delivery:
    """Something that waits to be sent at `due` (epoch seconds, the world's clock)."""

    id: int
    platform: str
    store: str
    topic: str
    order_id: int | None
    url: str
    due: float
    subscription: int | str = 0
    attempt: int = 1
    body: str | None = None  # None: built when it leaves
    headers: list[list[str]] = field(default_factory=list)
    message: str = ""  # the platform's own id of the message
    held_until: float = 0.0

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)
