"""Receiving: ours against a plain Flask view with one prepared insert a request, and against ours without sealing the
bodies, in turns."""

from __future__ import annotations

import statistics
import time
from datetime import UTC, datetime

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.orders.payloads import DataKey, place_of_delivery
from tests.bench import load, place

ROUNDS = 4
REQUESTS = 12_000
BODY_BYTES = 4_000


def main() -> None:
    bodies = [load.order_body(number, BODY_BYTES) for number in range(200)]
    reports: dict[str, list[load.Report]] = {"plain view, threads": [], "ours": [], "ours, unsealed": []}
    with place.database() as url:
        place.a_shop(url)
        plain_port, our_port, unsealed_port = place.free_port(), place.free_port(), place.free_port()
        plain = [
            "gunicorn", "--bind", f"127.0.0.1:{plain_port}", "--workers", "2", "--threads", "16",
            "--worker-class", "gthread", "--no-control-socket", "tests.bench.plain_view:app",
        ]  # fmt: skip
        ours = ["gunicorn", "--config", "config/gunicorn.py", "app:app"]
        unsealed = [*ours[:-1], "tests.bench.unsealed:app"]
        with (
            place.process(url, plain),
            place.process(url, ours, PORT=str(our_port), WEB_CONCURRENCY="2"),
            place.process(url, unsealed, PORT=str(unsealed_port), WEB_CONCURRENCY="2"),
        ):
            place.wait_for(f"http://127.0.0.1:{plain_port}/")
            place.wait_for(f"http://127.0.0.1:{our_port}/healthz")
            place.wait_for(f"http://127.0.0.1:{unsealed_port}/healthz")
            for round_ in range(ROUNDS + 1):
                for name, port in zip(reports, (plain_port, our_port, unsealed_port), strict=True):
                    count = REQUESTS if round_ else REQUESTS // 6  # the first round only warms up
                    requests = [load.signed(n, bodies[n % len(bodies)]) for n in range(count)]
                    report = load.run(port, requests)
                    if round_:
                        reports[name].append(report)
                        print(f"{name:22} {report}")
    rate = {name: statistics.median(r.per_second for r in rows) for name, rows in reports.items()}
    slow = {name: statistics.median(r.p99 for r in rows) for name, rows in reports.items()}
    print(f"ours / plain: {rate['ours'] / rate['plain view, threads']:.2f} × the requests a second,"
          f" {slow['ours'] / slow['plain view, threads']:.2f} × the p99"
          f"   ({BODY_BYTES} bytes, 32 connections, 2 workers each, fsync on)")  # fmt: skip
    print(f"ours / unsealed: {rate['ours'] / rate['ours, unsealed']:.2f} × the requests a second,"
          f" {slow['ours'] / slow['ours, unsealed']:.2f} × the p99")  # fmt: skip
    print(f"sealing: {_seal_microseconds(bodies):.1f} µs of processor time a body of {BODY_BYTES} bytes")


def _seal_microseconds(bodies: list[bytes], rounds: int = 100) -> float:
    """Of this process's own time, which other work on the machine does not lengthen."""
    key, place_ = DataKey(1, AESGCM(AESGCM.generate_key(256))), place_of_delivery(datetime.now(UTC))
    begun = time.process_time()
    for _ in range(rounds):
        for body in bodies:
            key.seal(body, place_)
    return (time.process_time() - begun) / (rounds * len(bodies)) * 1e6
