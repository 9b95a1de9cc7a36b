"""A load generator: one process, one epoll loop, a bounded number of keep-alive connections on loopback."""

from __future__ import annotations

import base64
import hmac
import json
import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.place import SHOPIFY_SECRET

SAMPLE = (
    Path(__file__).resolve().parents[1]
    / "platforms" / "fixtures" / "shopify" / "webhook_orders_sample_820982911946154508.json"
)  # fmt: skip


@dataclass
class Report:
    """Requests a second, and the time to answer in milliseconds."""

    per_second: float
    p50: float
    p99: float
    failed: int

    def __str__(self) -> str:
        return f"{self.per_second:8.0f}/s   p50 {self.p50:6.1f} ms   p99 {self.p99:6.1f} ms   failed {self.failed}"


def order_body(number: int, size: int) -> bytes:
    """Shopify's own sample order under another id, cut or filled up to about `size` bytes."""
    order = json.loads(SAMPLE.read_text())
    order.update(id=10_000_000 + number, name=f"#{number}", updated_at="2026-11-24T05:00:00-05:00")
    if size < 6_000:
        order["line_items"] = order["line_items"][:1]
        for name in ("customer", "shipping_lines", "tax_lines", "discount_applications"):
            order.pop(name, None)
    body = json.dumps(order).encode()
    if len(body) < size:
        order["note_attributes"] = [{"name": "filler", "value": "x" * (size - len(body) - 40)}]
        body = json.dumps(order).encode()
    return body


def signed(number: int, body: bytes, path: str = "/webhooks/shopify") -> bytes:
    """One whole HTTP request."""
    signature = base64.b64encode(hmac.digest(SHOPIFY_SECRET.encode(), body, "sha256")).decode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nX-Shopify-Topic: orders/create\r\nX-Shopify-API-Version: 2026-10\r\n"
        f"X-Shopify-Shop-Domain: bench.myshopify.com\r\nX-Shopify-Webhook-Id: {time.monotonic_ns()}-{number}\r\n"
        f"X-Shopify-Triggered-At: 2026-11-24T10:00:00.123456789Z\r\nX-Shopify-Hmac-Sha256: {signature}\r\n\r\n"
    )
    return head.encode() + body


def run(port: int, requests: Sequence[bytes], *, connections: int = 32) -> Report:
    """Send every request once over `connections` connections, each waiting for its answer before the next."""
    selector = selectors.DefaultSelector()
    line = iter(requests)
    began: dict[socket.socket, float] = {}
    times: list[float] = []
    failed = 0
    for _ in range(connections):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(sock, selectors.EVENT_READ)
    start = time.perf_counter()
    for key in list(selector.get_map().values()):
        _next(key.fileobj, line, began)  # type: ignore[arg-type]
    while began:
        for key, _ in selector.select(timeout=10):
            sock = key.fileobj  # type: ignore[assignment]
            answer = sock.recv(65_536)
            times.append(time.perf_counter() - began.pop(sock))
            failed += not answer.startswith(b"HTTP/1.1 200")
            _next(sock, line, began)
    seconds = time.perf_counter() - start
    for key in list(selector.get_map().values()):
        key.fileobj.close()  # type: ignore[union-attr]
    times.sort()
    return Report(len(times) / seconds, times[len(times) // 2] * 1e3, times[int(len(times) * 0.99)] * 1e3, failed)


def _next(sock: socket.socket, line: object, began: dict[socket.socket, float]) -> None:
    request = next(line, None)  # type: ignore[call-overload]
    if request is None:
        return
    sock.sendall(request)
    began[sock] = time.perf_counter()
