"""What a real WooCommerce store sent, sent once more: the same bytes and headers, signed with another secret."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

FOLDER = Path(__file__).parent / "data" / "captures"
_OF_THE_CONNECTION = frozenset({"host", "content-length", "connection", "accept-encoding"})
"""Headers that the sending client sets for its own connection."""


@dataclass(frozen=True, slots=True)
class Capture:
    """One captured request. A ping (form-encoded, without X-WC headers) is not signed."""

    name: str
    headers: dict[str, str]
    body: bytes

    def signed(self, secret: str) -> dict[str, str]:
        """Its real headers, with the signature of another secret."""
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _OF_THE_CONNECTION}
        if "X-WC-Webhook-Topic" in headers:
            digest = hmac.digest(secret.encode(), self.body, "sha256")
            headers["X-WC-Webhook-Signature"] = base64.b64encode(digest).decode()
        return headers


def captures() -> list[Capture]:
    """Every captured request, in the order in which it came."""
    return [
        Capture(path.stem, dict(json.loads(path.with_suffix(".json").read_text())["headers"]), path.read_bytes())
        for path in sorted(FOLDER.glob("req*.body"))
    ]


def listed_orders() -> list[dict[str, Any]]:
    """What the store's own API listed after it had sent them (its first page)."""
    text = (FOLDER / "rest-orders.txt").read_text(encoding="utf-8").replace("\r\n", "\n")
    orders: list[dict[str, Any]] = json.loads(text.partition("\n\n")[2])
    return orders


def replay(address: str, secret: str) -> Iterator[tuple[Capture, int]]:
    """Post each capture to a gateway's webhook address; the status it was answered with."""
    with requests.Session() as session:
        for capture in captures():
            answer = session.post(address, data=capture.body, headers=capture.signed(secret), timeout=30)
            yield capture, answer.status_code
