"""A WooCommerce store that costs next to nothing: lists of orders rendered beforehand, for measuring us alone.

`python -m tests.bench.still_store PORT ORDERS`. It knows what the adapter asks for in a run, and nothing else; whether
that is what a real store answers is the sandbox's business, which rendered the orders.
"""

from __future__ import annotations

import json
import sys
from bisect import bisect_left
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

from gateway.sandbox.world import World

TEMPLATES = 200


def _rendered(count: int) -> tuple[list[str], list[int], list[bytes]]:
    """`count` orders as the sandbox renders them, spread over the last six days: times, ids, JSON."""
    store = World(11).add_store("woocommerce")
    templates = [store.render(store.place(quiet=True)) for _ in range(TEMPLATES)]
    begin, step = datetime.now(UTC) - timedelta(days=6), timedelta(days=6) / (count + 1)
    times, ids, bodies = [], [], []
    for number in range(1, count + 1):
        moment = (begin + number * step).strftime("%Y-%m-%dT%H:%M:%S")
        order = {**templates[number % TEMPLATES], "id": number, "number": str(number), "date_modified_gmt": moment}
        order |= {"date_created_gmt": moment, "date_paid_gmt": moment}
        times.append(moment)
        ids.append(number)
        bodies.append(json.dumps(order).encode())
    return times, ids, bodies


class _Store(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    times: ClassVar[list[str]]
    ids: ClassVar[list[int]]
    bodies: ClassVar[list[bytes]]

    def do_GET(self) -> None:
        target = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(target.query).items()}
        if not target.path.endswith("/orders"):
            self._answer(b'{"namespaces": ["wc/v3"], "name": "Still", "timezone_string": "UTC"}')
            return
        low = bisect_left(self.times, asked.get("modified_after", "") + "~")  # strictly after
        high = bisect_left(self.times, asked["modified_before"]) if "modified_before" in asked else len(self.times)
        if "_fields" in asked:
            self._answer(b"[]", total=max(high - low, 0))
            return
        excluded = {int(one) for one in asked.get("exclude", "").split(",") if one}
        page: list[bytes] = []
        while low < high and len(page) < int(asked["per_page"]):
            if self.ids[low] not in excluded:
                page.append(self.bodies[low])
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
    _Store.times, _Store.ids, _Store.bodies = _rendered(int(sys.argv[2]))
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), _Store).serve_forever()
