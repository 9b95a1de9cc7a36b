"""A WooCommerce store that costs next to nothing: lists of orders rendered beforehand, for measuring us alone.

`python -m tests.bench.still_store PORT ORDERS LATER`. It knows what the adapter asks for in a run, and nothing else;
whether that is what a real store answers is the sandbox's business, which rendered the orders. `GET /asked` tells how
many requests there were; `GET /later` adds LATER orders of the last six hours.
"""

from __future__ import annotations

import json
import sys
from bisect import bisect_left
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from gateway.sandbox.world import World

TEMPLATES = 200
HEAD = ("id", "date_modified_gmt", "status", "currency", "total")

Rendered = list[tuple[str, int, bytes, bytes]]
"""Time, id, the whole order and its head, in the order of the times."""


def _rendered(count: int, first: int, begin: datetime, until: datetime) -> Rendered:
    """`count` orders as the sandbox renders them, spread evenly over that time."""
    store = World(11).add_store("woocommerce")
    templates = [store.render(store.place(quiet=True)) for _ in range(TEMPLATES)]
    step = (until - begin) / (count + 1)
    rows: Rendered = []
    for number in range(first, first + count):
        moment = (begin + (number - first + 1) * step).strftime("%Y-%m-%dT%H:%M:%S")
        order: dict[str, Any] = {**templates[number % TEMPLATES], "id": number, "number": str(number)}
        order |= {"date_modified_gmt": moment, "date_created_gmt": moment, "date_paid_gmt": moment}
        head = json.dumps({name: order[name] for name in HEAD})
        rows.append((moment, number, json.dumps(order).encode(), head.encode()))
    return rows


class _Store(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # An answer in two packets waits 40 ms for the acknowledgement of the first: that would be measured, not we.
    wbufsize = -1
    disable_nagle_algorithm = True
    rows: ClassVar[Rendered]
    later: ClassVar[Rendered]
    asked: ClassVar[int] = 0

    def do_GET(self) -> None:
        target = urlsplit(self.path)
        if target.path == "/asked":
            self._answer(str(_Store.asked).encode())
            return
        if target.path == "/later":
            _Store.rows = sorted(_Store.rows + _Store.later)
            self._answer(b"[]")
            return
        _Store.asked += 1
        asked = {name: values[0] for name, values in parse_qs(target.query).items()}
        if not target.path.endswith("/orders"):
            self._answer(b'{"namespaces": ["wc/v3"], "name": "Still", "timezone_string": "UTC"}')
            return
        low = bisect_left(self.rows, (asked.get("modified_after", "") + "~",))  # strictly after
        high = bisect_left(self.rows, (asked["modified_before"],)) if "modified_before" in asked else len(self.rows)
        fields = asked.get("_fields", "")
        if fields == "id":
            self._answer(b"[]", total=max(high - low, 0))
            return
        excluded = {int(one) for one in asked.get("exclude", "").split(",") if one}
        page: list[bytes] = []
        while low < high and len(page) < int(asked["per_page"]):
            _, number, whole, head = self.rows[low]
            if number not in excluded:
                page.append(head if fields else whole)
            low += 1
        self._answer(b"[" + b",".join(page) + b"]")

    def _answer(self, body: bytes, *, total: int = 0) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-WP-Total", str(total))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


if __name__ == "__main__":
    orders, later, now = int(sys.argv[2]), int(sys.argv[3]), datetime.now(UTC)
    _Store.rows = _rendered(orders, 1, now - timedelta(days=6), now - timedelta(minutes=2))
    _Store.later = _rendered(later, orders + 1, now - timedelta(hours=6), now - timedelta(minutes=2))
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), _Store).serve_forever()
