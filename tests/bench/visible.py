"""From received to visible at 50 deliveries a second: how long after its 200 an order is in the list."""

from __future__ import annotations

import time
from http.client import HTTPConnection

import psycopg

from tests.bench import load, place

SECONDS = 12
PER_SECOND = 50


def main() -> None:
    with place.database() as url:
        place.a_shop(url)
        port = place.free_port()
        web = place.process(url, ["gunicorn", "--config", "config/gunicorn.py", "app:app"], PORT=str(port))
        with web, place.process(url, ["flask", "--app", "app:create_app", "worker"]):
            place.wait_for(f"http://127.0.0.1:{port}/healthz")
            with psycopg.connect(url, autocommit=True) as connection:
                while not connection.execute("SELECT 1 FROM procrastinate_workers").fetchone():
                    time.sleep(0.05)
            start = time.monotonic()
            client = HTTPConnection("127.0.0.1", port)
            for number in range(SECONDS * PER_SECOND):
                head, _, body = load.signed(number, load.order_body(number, 8_000)).partition(b"\r\n\r\n")
                headers = dict(line.decode().split(": ", 1) for line in head.split(b"\r\n")[1:])
                client.request("POST", "/webhooks/shopify", body, headers)
                client.getresponse().read()
                time.sleep(max(0.0, start + (number + 1) / PER_SECOND - time.monotonic()))
            time.sleep(1)
        with psycopg.connect(url) as connection:
            rows = connection.execute(
                "SELECT extract(epoch FROM done_at - received_at) * 1000 FROM deliveries WHERE outcome = 'created'"
            ).fetchall()
    times = sorted(float(row[0]) for row in rows)
    p50, p99 = times[len(times) // 2], times[int(len(times) * 0.99)]
    print(f"{len(times)} orders at {PER_SECOND}/s: received to applied p50 {p50:.0f} ms, p99 {p99:.0f} ms")
